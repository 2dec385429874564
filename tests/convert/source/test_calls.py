"""A pickle that would call something is converted; what it refers to is said, and nothing of it runs."""

from __future__ import annotations

import argparse
import copyreg
import datetime
import functools
import logging
import os
import pickle
import subprocess
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from checkpoints import save, state_dict_of

import densenet_convert as dc
from densenet_convert.source.read import read_checkpoint


class Reduced:
    """Is pickled as a call."""

    def __init__(self, callee: Callable[..., Any], *args: Any) -> None:
        self.reduced = callee, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


CALLS: dict[str, tuple[Any, str]] = {
    "a command": (Reduced(os.system, "touch ran"), "system"),
    "an expression": (Reduced(eval, "open('ran', 'w')"), "eval"),
    "a process": (Reduced(subprocess.Popen, ["touch", "ran"]), "Popen"),
    "an attribute": (Reduced(getattr, "", "join"), "getattr"),
    "a function that was bound": (
        Reduced(functools.partial(os.system, "touch ran")),
        "system",
    ),
    "a class by copyreg": (
        Reduced(copyreg._reconstructor, subprocess.Popen, subprocess.Popen, "touch ran"),  # type: ignore[attr-defined]
        "Popen",
    ),
    "a tensor's rebuilder": (
        Reduced(torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, ("touch ran",), None),
        "system",
    ),
}


def saved(content: Any, path: Path, how: str) -> Path:
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, 2))
        return path
    return save(content, path, legacy=how == "legacy")


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("what", CALLS)
def test_what_a_pickle_would_call_is_named(what: str, how: str, tmp_path: Path) -> None:
    if how == "pickle":
        state: Any = {name: tensor.numpy() for name, tensor in state_dict_of().items()}
    else:
        state = state_dict_of()
    path = saved({"state_dict": state, "beside": CALLS[what][0]}, tmp_path / "source.pth", how)
    # Old protocols name the module as Python 2 did.
    assert [name.rpartition(".")[2] for name in read_checkpoint(path).calls] == [CALLS[what][1]]


def test_it_is_converted_with_a_remark_on_stderr_and_in_the_receipt_and_nothing_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": state_dict_of(), "beside": CALLS["a command"][0]}
    with caplog.at_level(logging.WARNING, "densenet_convert"):
        written = dc.convert(save(content, tmp_path / "source.pth"), "new", device="cpu")
    (remark,) = written.receipt["remarks"]
    assert remark["kind"] == "refers-to"
    assert remark["names"] == [f"{os.system.__module__}.system"]
    assert remark["text"].endswith("Nothing of it was imported or run here.")
    assert remark["text"] in caplog.messages
    assert remark["text"] in (written.folder / "README.md").read_text()
    assert not (tmp_path / "ran").exists()
    assert dc.verify("new", source=tmp_path / "source.pth", device="cpu")


@pytest.mark.parametrize("legacy", [True, False])
def test_what_sound_checkpoints_hold_is_nothing_to_remark_on(legacy: bool, tmp_path: Path) -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    beside = {
        "args": argparse.Namespace(lr=0.1),
        "when": datetime.datetime(2020, 1, 1),
        "path": Path("x"),
        "best": np.float64(0.5),
        "seen": Counter("ab"),
        "names": {"a"},
        "range": range(3),
        "device": torch.device("cpu"),
        "size": torch.Size([1]),
        "rng": np.random.default_rng(0),
        "optimizer": optimizer.state_dict(),
        "dtype": torch.float32,
        "order": OrderedDict(a=1),
        "bound": functools.partial(print, "x"),
    }
    path = save({"state_dict": state_dict_of(), **beside}, tmp_path / "source.pth", legacy=legacy)
    assert read_checkpoint(path).calls == ()


def test_nor_does_a_whole_module(tmp_path: Path) -> None:
    network = torchvision.models.DenseNet(4, (1, 2), 8, bn_size=2, num_classes=3)
    assert read_checkpoint(save(network, tmp_path / "whole.pth")).calls == ()
