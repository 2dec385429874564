"""config.json: one file for DenseNet.from_pretrained, timm, transformers and torchvision's users."""

from __future__ import annotations

from typing import Any

from densenet_convert.densenet import DenseNetConfig, architecture_of

from .receipt import config_fields

FILE_NAME = "config.json"

# What from_pretrained needs to build the network again; how it is trained is not part of it.
OWN_FIELDS = (
    "growth_rate",
    "block_config",
    "num_init_features",
    "bn_size",
    "drop_rate",
    "transition_pool",
    "norm_eps",
    "in_channels",
    "stem_padding",
)


def config_file(config: DenseNetConfig) -> dict[str, Any]:
    """timm's keys, then ours.

    ``interpolation`` is torchvision's; timm's own default for DenseNet, bicubic, gives
    other images.  ``architecture`` is left out where timm can't build the network.
    """
    architecture = architecture_of(config)
    named = {"architecture": architecture} if architecture else {}
    channels = {"model_args": {"in_chans": config.in_channels}} if config.in_channels != 3 else {}
    fields = config_fields(config)
    return {
        **named,
        "num_classes": config.num_classes,
        "num_features": config.num_features,
        **channels,
        "pretrained_cfg": _pretrained_cfg(config),
        **{name: fields[name] for name in OWN_FIELDS},
    }


def _pretrained_cfg(config: DenseNetConfig) -> dict[str, Any]:
    return {
        "tag": "densenet-convert",
        "custom_load": False,
        "input_size": [config.in_channels, 224, 224],
        "fixed_input_size": False,
        "interpolation": "bilinear",
        # torchvision's preset resizes the shorter side to 256 and crops 224 of it.
        "crop_pct": 224 / 256,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": config.num_classes,
        "pool_size": [7, 7],
        "first_conv": "features.conv0",
        "classifier": "classifier",
    }
