"""What config.json tells others to do with an image is torchvision's preset, and a wrong field is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL
from torchvision.models import DenseNet121_Weights
from torchvision.transforms.functional import to_pil_image

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config_file import config_json
from densenet_convert.errors import ParityError
from densenet_convert.proof.preprocessing import SIZES, _image, compare_preprocessing
from densenet_convert.proof.selftest.written_faults import WRONG_PREPROCESSING


def said(field: str, value: object) -> dict[str, Any]:
    config = config_json(SMALL)
    config["pretrained_cfg"][field] = value
    return config


def test_what_we_write_is_the_preset() -> None:
    assert compare_preprocessing(config_json(DenseNetConfig())) == len(SIZES)


def test_there_is_no_preset_for_other_channels() -> None:
    assert compare_preprocessing(config_json(replace(SMALL, in_channels=1))) == 0


@pytest.mark.parametrize(("field", "value"), [*WRONG_PREPROCESSING, ("interpolation", "other")])
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ParityError, match=f"{field} is ") as error:
        compare_preprocessing(said(field, value))
    assert error.value.where == f"pretrained_cfg.{field}"
    assert error.value.largest > 0


def timm_transform(config: dict[str, Any]) -> Callable[[Any], torch.Tensor]:
    data = pytest.importorskip("timm.data")
    resolved = data.resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"])
    return data.create_transform(**resolved, is_training=False)


def test_timm_does_the_same_by_our_config() -> None:
    transform, preset = timm_transform(config_json(SMALL)), DenseNet121_Weights.IMAGENET1K_V1.transforms()
    for size in SIZES:
        image = to_pil_image(_image(*size))
        assert torch.equal(transform(image), preset(image))


def test_transformers_does_the_same_by_our_config(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(config_json(DenseNetConfig())))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    preset = DenseNet121_Weights.IMAGENET1K_V1.transforms()
    for size in SIZES:
        image = to_pil_image(_image(*size))
        said = processor(image, return_tensors="pt")["pixel_values"]
        assert torch.equal(said, preset(image)[None])
