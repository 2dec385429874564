"""Both networks agree on images, each prepared as its own side tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_pil_image

from densenet_convert.densenet.config_file import config_json
from densenet_convert.errors import ArchitectureError, ImageError, ParityError
from densenet_convert.proof.images import compare_images
from densenet_convert.proof.preprocessing import SIZES, _image
from densenet_convert.records import Progress
from densenet_convert.results import Agreement
from densenet_convert.source.random_weights import random_network

CPU = torch.device("cpu")
OURS: nn.Module = random_network(SMALL, 0).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture of each size, in colour, in grey and with a palette, in folders as ImageFolder has them."""
    for i, (size, mode) in enumerate(zip(SIZES, ["RGB", "L", "P", "RGBA"], strict=True)):
        path = tmp_path / f"class {i}" / f"{i}.{'PNG' if i % 2 else 'png'}"
        path.parent.mkdir()
        to_pil_image(_image(*size)).convert(mode).save(path)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def compare(
    folder: Path, ours: nn.Module = OURS, progress: Progress | None = None, **config: Any
) -> Agreement:
    content = {**config_json(SMALL), **config}
    return compare_images(ours, deepcopy(OURS), content, folder, CPU, progress)


def test_the_same_function_agrees_on_every_image(folder: Path) -> None:
    assert compare(folder) == Agreement(images=4, agreed=4, largest=0.0)


def test_progress_sees_every_image(folder: Path) -> None:
    said: list[tuple[int, str]] = []

    def progress(items: Sequence[Any], what: str) -> Iterable[Any]:
        said.append((len(items), what))
        return items

    compare(folder, progress=progress)
    assert said == [(4, "images")]


def test_another_function_is_reported_with_its_worst_image(folder: Path) -> None:
    faulty = deepcopy(OURS)
    with torch.no_grad():
        faulty.get_submodule("classifier").weight.neg_()
    with pytest.raises(
        ParityError, match=r"On 4 images both networks name the same class for \d, .* most on .*/\d"
    ):
        compare(folder, ours=faulty)


def test_another_preprocessing_is_found(folder: Path) -> None:
    said = {**config_json(SMALL)["pretrained_cfg"], "mean": [0.5, 0.5, 0.5]}
    with pytest.raises(ParityError, match="the logits differ"):
        compare(folder, pretrained_cfg=said)


def test_where_a_library_prepares_otherwise_both_sides_do(folder: Path) -> None:
    said = {**config_json(SMALL)["pretrained_cfg"], "mean": [0.5, 0.5, 0.5]}
    content = {**config_json(SMALL), "pretrained_cfg": said}
    found = compare_images(OURS, deepcopy(OURS), content, folder, CPU, None, as_torchvision=False)
    assert (found.agreed, found.largest) == (4, 0.0)


def test_an_image_that_cannot_be_read_is_named(folder: Path) -> None:
    damaged = folder / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8 and no more")
    with pytest.raises(ImageError, match="damaged.jpg can't be read as an image"):
        compare(folder)


def test_an_image_that_was_cut_short_is_named(folder: Path) -> None:
    whole = (folder / "class 0" / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cut.png can't be read"):
        compare(folder)


def test_an_image_of_a_size_that_no_photograph_has_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="can't be read"):
        compare(folder)


def test_a_line_of_pixels_that_would_become_too_large_is_named(folder: Path) -> None:
    Image.new("RGB", (60_000, 1)).save(folder / "line.png")
    with pytest.raises(ImageError, match="line.png can't be read as an image: .* too thin"):
        compare(folder)


def test_logits_that_are_no_numbers_on_one_side_are_found(folder: Path) -> None:
    silent = deepcopy(OURS)
    with torch.no_grad():
        silent.get_submodule("classifier").bias.fill_(torch.nan)
    for networks in ((silent, OURS), (OURS, silent)):
        with pytest.raises(ParityError) as error:
            compare_images(*networks, config_json(SMALL), folder, CPU, None)
        assert error.value.largest == inf


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no image: no name in it ends in .jpg"):
        compare(tmp_path)
    with pytest.raises(ImageError, match="is no folder"):
        compare(tmp_path / "missing")


@pytest.mark.parametrize("config", [replace(SMALL, num_classes=0), replace(SMALL, in_channels=1)])
def test_networks_without_classes_or_rgb_are_refused(folder: Path, config: Any) -> None:
    with pytest.raises(ArchitectureError, match="classes and take RGB only"):
        compare_images(OURS, OURS, config_json(config), folder, CPU, None)
