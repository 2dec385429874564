"""The report shows what both networks see on the first of the user's images."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from densenet_convert.proof.report.pictures import MOST_PICTURES, SIDE, Picture, look_at

CPU = torch.device("cpu")
CONFIG = {
    "num_classes": 4,
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


class Fixed(nn.Module):
    """Gives the same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([logits]))

    def forward(self, x: Tensor) -> Tensor:
        """``[1, classes]``."""
        assert x.shape == (1, 3, 32, 32)
        return self.logits.clone()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(MOST_PICTURES + 2):
        Image.new("RGB", (400, 200), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


def look(folder: Path, ours: nn.Module, theirs: nn.Module, **options: bool) -> tuple[Picture, ...]:
    known = {"names": ["ant", "bee", "cat", "dog"], "softmax": True, **options}
    return look_at((ours, theirs), CONFIG, folder, CPU, as_torchvision=False, **known)  # type: ignore[arg-type]


def test_the_first_images_are_shown_by_their_names_below_the_folder_and_small(folder: Path) -> None:
    shown = look(folder, Fixed(1.0, 2.0, 3.0, 4.0), Fixed(1.0, 2.0, 3.0, 4.0))
    assert [one.name for one in shown] == [f"{i}.png" for i in range(MOST_PICTURES)]
    image = Image.open(BytesIO(b64decode(shown[0].thumbnail.partition(",")[2])))
    assert image.size == (SIDE, SIDE // 2)
    assert {one.apart for one in shown} == {0.0}


def test_each_network_s_first_classes_are_shown_with_both_probabilities(folder: Path) -> None:
    shown = look(folder, Fixed(9.0, 0.0, 0.0, -9.0), Fixed(-9.0, 1.0, 2.0, 3.0))[0]
    assert [name for name, _, _ in shown.classes] == ["dog", "cat", "bee", "ant"]
    assert shown.classes[0][1:] == pytest.approx((0.0, 0.665), abs=1e-3)
    assert shown.apart == 18


def test_classes_that_hold_together_have_a_sigmoid_each(folder: Path) -> None:
    both = Fixed(0.0, 0.0, 0.0, 0.0)
    assert {row[1:] for row in look(folder, both, both, softmax=False)[0].classes} == {(0.5, 0.5)}


def test_classes_without_names_are_shown_by_their_numbers(folder: Path) -> None:
    both = Fixed(0.0, 0.0, 5.0, 0.0)
    shown = look_at((both, both), CONFIG, folder, CPU, names=None, softmax=True, as_torchvision=False)
    assert shown[0].classes[0][0] == "class 2"
