"""config.json: one file for DenseNet.from_pretrained, timm, transformers and torchvision's users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from .config import UNSEEN_IN_SHAPES, DenseNetConfig, Shape, architecture_of, infer_config

FILE_NAME = "config.json"
# The weights that it describes, beside it.
WEIGHTS = "model.safetensors"

# The fields that from_pretrained needs to build the network again; how it is trained is not part of it.
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

# Settings that older files don't name.
ADDED = ("final_relu", "stem_bias", "spatial_dims")

# All that is said of the input where it is no image: timm has no such network, and no fields for it.
SAID_OF_VOLUMES = ("input_size",)

# timm and transformers refuse it; where there is none, transformers makes a ResNet-50 of random weights.
OTHER = "densenet-convert"


class Claimed(NamedTuple):
    """The statements of a config.json beside the network.

    Attributes:
        config: the network that it says it of.
        labels: names of the classes; None where it has none.
        problem_type: see ``config_json``.
        preprocessing: fields of its ``pretrained_cfg``, or of the file where it has none.
    """

    config: DenseNetConfig
    labels: list[str] | None = None
    problem_type: str | None = None
    preprocessing: Mapping[str, Any] = {}

    def said_of(self, config: DenseNetConfig) -> dict[str, Any]:
        """Returns the config.json of ``config``, with what holds for it still.

        A classifier of another width has other classes, and other channels are prepared otherwise.
        """
        same_classes = config.num_classes == self.config.num_classes
        kinds = [(one.in_channels, one.spatial_dims) for one in (config, self.config)]
        return config_json(
            config,
            self.labels if same_classes else None,
            self.problem_type if same_classes else None,
            {**self.preprocessing, "num_classes": config.num_classes} if kinds[0] == kinds[1] else None,
        )


def claimed_in(content: Mapping[str, Any], config: DenseNetConfig) -> Claimed:
    """Returns what a config.json says beside ``config``; what is not of its proper form is left out."""
    labels, problem, cfg = (content.get(name) for name in ("label_names", "problem_type", "pretrained_cfg"))
    if config.spatial_dims != 2:
        cfg = {name: content[name] for name in SAID_OF_VOLUMES if name in content}
    return Claimed(
        config,
        labels if isinstance(labels, list) and all(isinstance(name, str) for name in labels) else None,
        problem if isinstance(problem, str) else None,
        cfg if isinstance(cfg, dict) else {},
    )


def config_json(
    config: DenseNetConfig,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """timm's keys, then ours; of a network that takes no images ours alone.

    Args:
        labels: names of the classes; without them ImageNet's of timm are shown for a head of 1,000.
        problem_type: transformers' ``"multi_label_classification"``, or None for a softmax.
        preprocessing: fields of ``pretrained_cfg`` that are other than torchvision's.

    ``interpolation`` is torchvision's; timm's own default for DenseNet, bicubic, gives
    other images.
    """
    fields = as_json(config)
    claims = {"label_names": None if labels is None else list(labels), "problem_type": problem_type}
    return {
        "architecture": architecture_of(config) or OTHER,
        "num_classes": config.num_classes,
        "num_features": config.num_features,
        **_of_input(config, preprocessing or {}),
        **{name: value for name, value in claims.items() if value is not None},
        **{name: fields[name] for name in OWN_FIELDS},
        **{name: fields[name] for name in ADDED if name in fields},
    }


def _of_input(config: DenseNetConfig, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """The fields on the input: timm's, or without images what is known of its size."""
    if config.spatial_dims != 2:
        return dict(preprocessing)
    channels = {"model_args": {"in_chans": config.in_channels}} if config.in_channels != 3 else {}
    return {**channels, "pretrained_cfg": {**_pretrained_cfg(config), **preprocessing}}


def config_from_file(content: Mapping[str, Any], shapes: Mapping[str, Shape]) -> DenseNetConfig:
    """The config of a network that was published with ``content`` as its config.json.

    The structure is read off the tensors, and the file must not say otherwise; what shapes can't tell is
    taken from the file, or is as torchvision has it where a file of others does not say.

    Raises:
        ValueError: these are not the tensors of a whole DenseNet, or the file describes another network.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{FILE_NAME} holds {type(content).__name__}, expected an object.")
    found = infer_config(shapes)
    try:
        unseen = ("drop_rate", *UNSEEN_IN_SHAPES)
        config = replace(found, **{name: content[name] for name in unseen if name in content})
    except TypeError as error:
        raise ValueError(f"{FILE_NAME} holds a value of another type: {error}.") from error
    seen = ("stem_bias", "spatial_dims")
    fields = {**as_json(config), **{name: getattr(config, name) for name in seen}}
    stated = [name for name in ("num_classes", *seen, *OWN_FIELDS) if name in content]
    problems = [
        f"{name} {content[name]!r}, and its tensors {fields[name]!r}"
        for name in stated
        if content[name] != fields[name]
    ]
    if problems:
        raise ValueError(f"{FILE_NAME} says {'; '.join(problems)}.")
    return config


def as_json(config: DenseNetConfig) -> dict[str, Any]:
    """The hyperparameters, as JSON holds them; those of ``ADDED`` only where they are not the usual ones."""
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(config).items()}
    usual = [name for name in ADDED if fields[name] == getattr(DenseNetConfig(), name)]
    return {name: value for name, value in fields.items() if name not in usual}


def _pretrained_cfg(config: DenseNetConfig) -> dict[str, Any]:
    colours = config.in_channels == 3
    return {
        "tag": "densenet-convert",
        "custom_load": False,
        "input_size": [config.in_channels, 224, 224],
        "fixed_input_size": False,
        "interpolation": "bilinear",
        # torchvision's preset resizes the shorter side to 256 and crops 224 of it.
        "crop_pct": 224 / 256,
        "crop_mode": "center",
        # ImageNet's; of other channels nobody knows them.
        "mean": [0.485, 0.456, 0.406] if colours else [0.0] * config.in_channels,
        "std": [0.229, 0.224, 0.225] if colours else [1.0] * config.in_channels,
        "num_classes": config.num_classes,
        "pool_size": [7, 7],
        "first_conv": "features.conv0",
        "classifier": "classifier",
    }
