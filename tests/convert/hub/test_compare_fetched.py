"""What is on the Hub is compared as a folder here is."""

from __future__ import annotations

from pathlib import Path

import torch
from checkpoints import save, state_dict_of
from hub_server import Hub, Repository

from densenet_convert.api.compare import compare

NAME = "hf://user/small"


def test_a_repository_is_compared_with_files(hub: Hub, converted: Path, tmp_path: Path) -> None:
    hub.repositories["user/small"] = Repository()
    hub.repositories["user/small"].commit("main", {one.name: one.read_bytes() for one in converted.iterdir()})
    assert compare(converted.parent / "source.pth", NAME).same
    bgr = state_dict_of()
    bgr["features.conv0.weight"] = torch.flip(bgr["features.conv0.weight"], [1])
    found = compare(NAME, save(bgr, tmp_path / "bgr.pth"))
    assert (found.a, [one.cause for one in found.differences]) == (NAME, ["channels"])
