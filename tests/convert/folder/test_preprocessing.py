"""How images are prepared is what the user states, and other libraries do it by config.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL
from torchvision import transforms
from torchvision.transforms.functional import InterpolationMode

import densenet_convert as dc
from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config_file import config_json
from densenet_convert.errors import ClaimError
from densenet_convert.folder.preprocessing import choose_preprocessing, stated_preprocessing
from densenet_convert.proof.preprocessing import config_transform
from densenet_convert.records import Options

STATED = (
    {"mean": 0.5, "std": 0.5, "input_size": 320},
    {"input_size": "256x192", "interpolation": "bicubic", "crop_pct": 0.9},
    {"mean": "0.1,0.2,0.3", "std": (0.4, 0.5, 0.6), "interpolation": "lanczos", "crop_pct": 1},
)


def photographs() -> list[Any]:
    """A portrait of matplotlib's, and its middle as a landscape."""
    image = pytest.importorskip("PIL.Image")
    cbook = pytest.importorskip("matplotlib.cbook")
    with image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as opened:
        portrait = opened.convert("RGB")
    assert portrait.height > portrait.width > 500
    return [portrait, portrait.crop((0, 100, portrait.width, 401))]


def config_of(stated: dict[str, Any]) -> dict[str, Any]:
    fields = stated_preprocessing(Options(**stated), SMALL)
    return config_json(DenseNetConfig(), preprocessing=fields)


@pytest.mark.parametrize("stated", STATED)
def test_timm_and_transformers_prepare_photographs_as_is_stated(
    stated: dict[str, Any], tmp_path: Path
) -> None:
    data, transformers = pytest.importorskip("timm.data"), pytest.importorskip("transformers")
    config = config_of(stated)
    (tmp_path / "config.json").write_text(json.dumps(config))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    resolved = data.resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"])
    of_timm: Callable[[Any], torch.Tensor] = data.create_transform(**resolved, is_training=False)
    ours = config_transform(config["pretrained_cfg"])
    for photograph in photographs():
        expected = ours(photograph)
        assert list(expected.shape) == config["pretrained_cfg"]["input_size"]
        assert torch.equal(of_timm(photograph), expected)
        assert torch.equal(processor(photograph, return_tensors="pt")["pixel_values"][0], expected)


def test_what_is_stated_is_what_was_trained_with() -> None:
    """By the steps of a training script, which know nothing of config.json."""
    trained = transforms.Compose(
        [
            transforms.Resize(365, interpolation=InterpolationMode.BILINEAR),
            transforms.CenterCrop(320),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    ours = config_transform(config_of(STATED[0])["pretrained_cfg"])
    assert all(torch.equal(ours(photograph), trained(photograph)) for photograph in photographs())


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"mean": "0.5,0.5"}, "mean is .*expected a number, or one for each channel"),
        ({"mean": "grey"}, "mean is grey, expected a number"),
        ({"mean": float("nan")}, "mean is"),
        ({"std": 0}, "std is .*expected a positive number"),
        ({"input_size": "320x"}, "input_size is 320x, expected HEIGHT or HEIGHTxWIDTH"),
        ({"input_size": 0}, "input_size is"),
        ({"input_size": "1x2x3"}, "input_size is"),
        ({"interpolation": "cubic"}, "interpolation is cubic, expected one of bilinear"),
        ({"crop_pct": 1.5}, "crop_pct is 1.5, expected the share"),
    ],
)
def test_what_no_image_can_be_prepared_with_is_refused(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        stated_preprocessing(Options(**stated), SMALL)


def test_one_number_is_for_every_channel() -> None:
    assert stated_preprocessing(Options(mean=0.5, input_size="64x32"), replace(SMALL, in_channels=1)) == {
        "mean": [0.5],
        "input_size": [1, 64, 32],
    }


def test_what_is_stated_goes_before_what_is_found_and_what_it_is_tested_with() -> None:
    beside = {"mean": [0.1] * 3, "test_input_size": [3, 288, 288], "crop_pct": 0.9}
    fields, origins = choose_preprocessing({"crop_pct": 1.0}, beside, {"input_size": [3, 320, 320]})
    assert fields == {"mean": [0.1] * 3, "crop_pct": 0.9, "input_size": [3, 320, 320]}
    assert origins == {"mean": "beside", "crop_pct": "beside", "input_size": "stated"}


def test_it_is_a_claim_in_receipt_and_config_and_the_folder_verifies(source: Path, tmp_path: Path) -> None:
    written = dc.convert(source, tmp_path / "new", mean=0.5, input_size=320, device="cpu")
    assert written.receipt["preprocessing"] == {"mean": [0.5] * 3, "input_size": [3, 320, 320]}
    assert set(written.receipt["preprocessing_origin"].values()) == {"stated"}
    fields = json.loads((written.folder / "config.json").read_text())["pretrained_cfg"]
    assert (fields["mean"], fields["input_size"]) == ([0.5] * 3, [3, 320, 320])
    assert dc.verify(written.folder, source=source, device="cpu").loaded.config == SMALL
