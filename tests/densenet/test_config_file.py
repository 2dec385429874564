"""config.json says what the network is, to our own loader and to timm's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL, save, state_dict_of
from PIL import Image

import densenet_convert
from densenet_convert.densenet import ARCHITECTURES, DenseNet, DenseNetConfig
from densenet_convert.densenet.config_file import OWN_FIELDS, config_json


@pytest.mark.parametrize("config", [SMALL, *ARCHITECTURES.values()])
def test_the_network_can_be_built_from_it(config: DenseNetConfig) -> None:
    written = json.loads(json.dumps(config_json(config)))
    fields = {name: written[name] for name in ("num_classes", *OWN_FIELDS)}
    assert DenseNetConfig(**fields) == config


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_named_architecture_is_named_with_any_head(architecture: str) -> None:
    config = replace(ARCHITECTURES[architecture], num_classes=14)
    assert config_json(config)["architecture"] == architecture
    assert config_json(config)["num_classes"] == 14


@pytest.mark.parametrize("change", [{"norm_eps": 1e-3}, {"transition_pool": "max"}, {"stem_padding": (2, 3)}])
def test_what_timm_cant_build_is_not_named(change: dict[str, object]) -> None:
    changed = replace(ARCHITECTURES["densenet121"], **change)  # type: ignore[arg-type]
    assert config_json(changed)["architecture"] == "densenet-convert"


def test_the_preprocessing_is_torchvisions() -> None:
    from torchvision.models import DenseNet169_Weights

    preset = DenseNet169_Weights.IMAGENET1K_V1.transforms()
    said = config_json(ARCHITECTURES["densenet169"])["pretrained_cfg"]
    assert said["mean"] == preset.mean
    assert said["std"] == preset.std
    assert said["interpolation"] == preset.interpolation.value
    assert said["input_size"][1] == preset.crop_size[0]
    assert said["input_size"][1] / said["crop_pct"] == preset.resize_size[0]


@pytest.mark.parametrize("change", [{}, {"num_classes": 14}, {"in_channels": 1}])
def test_timm_builds_and_loads_the_same_function(tmp_path: Path, change: dict[str, int]) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    config = replace(ARCHITECTURES["densenet121"], **change)
    state = state_dict_of(config)
    folder = tmp_path / "out"
    densenet_convert.convert(save(state, tmp_path / "source.pth"), folder, device="cpu")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    ours = DenseNet(config)
    ours.load_state_dict(state)
    images = timm.data.create_transform(**timm.data.resolve_data_config(theirs.pretrained_cfg))
    mode = "RGB" if config.in_channels == 3 else "L"
    assert images(Image.new(mode, (300, 260))).shape == (config.in_channels, 224, 224)
    x = torch.rand(1, config.in_channels, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(theirs(x), ours.eval()(x))
