"""A state dict is found wherever a file holds it: in dicts, lists, tuples and attributes of objects."""

from __future__ import annotations

import argparse
import functools
import io
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import save, state_dict_of
from torch import nn

import densenet_convert as dc
from densenet_convert.errors import ReadError, SeveralError
from densenet_convert.formats.recognise import read_content
from densenet_convert.formats.untrusted import FormatError

STATE = state_dict_of()
Saved = namedtuple("Saved", "model epoch")


class Averaging:
    """What training code writes itself, and saves whole."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("model", "step")


def slotted() -> Slotted:
    made = Slotted()
    made.model, made.step = STATE, 3
    return made


def adam() -> torch.optim.Optimizer:
    weight = nn.Parameter(torch.ones(3, 3))
    made = torch.optim.Adam([weight])
    weight.sum().backward()
    made.step()
    return made


HELD: dict[str, Callable[[], tuple[str | None, Any]]] = {
    "a tuple with the optimizer's state": lambda: ("0", (STATE, adam().state_dict())),
    "a list with the epoch": lambda: ("1", [7, STATE]),
    "a dict of numbers": lambda: ("0", {0: STATE, "best": 0.9}),
    "a dict of pairs": lambda: ("fold,0", {("fold", 0): STATE}),
    "five dicts deep": lambda: (
        "a.b.c.d.e",
        functools.reduce(lambda inner, key: {key: inner}, "edcba", STATE),  # type: ignore[arg-type]
    ),
    "lists and dicts in turn": lambda: ("runs.0.0.net", {"runs": [({"net": STATE},)]}),
    "an object's attribute": lambda: ("ema.ema", {"ema": Averaging(ema=STATE, decay=0.999)}),
    "an object with an optimizer": lambda: ("net", Averaging(net=STATE, opt=adam(), optimizer=adam())),
    "an object with slots": lambda: ("model", slotted()),
    "a named tuple": lambda: ("0", Saved(STATE, 3)),
    "a Namespace": lambda: ("model", argparse.Namespace(model=STATE, lr=0.1)),
    "moments under a name of their own": lambda: (
        "model",
        {"model": STATE, "lamb": [{"exp_avg": torch.ones(3, 3), "exp_avg_sq": torch.ones(3, 3), "step": 4}]},
    ),
    "equal folds": lambda: ("0", [STATE, {name: tensor.clone() for name, tensor in STATE.items()}]),
}


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("how", HELD)
def test_a_state_dict_is_found_in(how: str, legacy: bool) -> None:
    key, content = HELD[how]()
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    found = read_content(bytearray(file.getvalue()))
    assert (found.container, found.tensors.keys()) == (key, STATE.keys())


def test_folds_that_differ_are_asked_about_by_commands_that_convert_them(tmp_path: Path) -> None:
    other = state_dict_of(seed=1)
    path = save({"models": [STATE, other], "auc": [0.9, 0.91]}, tmp_path / "folds.pth")
    with pytest.raises(SeveralError, match="2 state dicts, which differ: 'models.0', 'models.1'") as error:
        dc.convert(path, tmp_path / "new", device="cpu")
    commands = str(error.value).splitlines()[1:]
    assert commands == [f"dc.convert({str(path)!r}, key='models.{fold}')" for fold in range(2)]
    written = dc.convert(path, tmp_path / "new", key="models.1", device="cpu")
    assert written.receipt["source"]["container"] == "models.1"
    assert dc.verify(written.folder, source=path, device="cpu")


def test_what_is_no_network_among_several_gets_no_command(tmp_path: Path) -> None:
    path = save({"net": STATE, "head": {"weight": torch.ones(2, 2)}}, tmp_path / "two.pth")
    with pytest.raises(SeveralError) as error:
        dc.convert(path, tmp_path / "new", device="cpu")
    assert str(error.value).splitlines()[1:] == [f"dc.convert({str(path)!r}, key='net')"]
    with pytest.raises(ReadError, match="no dict of tensors under 'x', only under 'net', 'head'"):
        dc.convert(path, tmp_path / "new", key="x", device="cpu")


def pickled(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


BOMBS = {
    # Two references to what was made last, sixty times: 2 ** 60 paths.
    "a tree of one list": pickled(b"]q\0", *(b"](h\0h\0eq\0",) * 60),
    "a dict in itself": pickled(b"}q\0X\1\0\0\0ah\0s"),
    "a million of empty dicts": pickled(b"](", b"}" * (1 << 20), b"e"),
    "lists of one long list": pickled(b"](", b"K\1" * (1 << 17), b"eq\0(", b"](h\0e" * (1 << 17), b"l"),
    "two hundred thousand levels": pickled(b"]" * 200_000, b"a" * 199_999),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_the_search_stays_within_its_budget(bomb: str) -> None:
    start = time.monotonic()
    with pytest.raises(FormatError):
        read_content(BOMBS[bomb])
    assert time.monotonic() - start < 30
