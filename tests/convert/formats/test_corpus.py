"""Every kind of file is read bit for bit or refused in one message; none of them runs a thing."""

from __future__ import annotations

import pickle
import time
import warnings
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from corpus import EITHER, REFUSED, SOUND, Sound, StateDict, raw
from torch import Tensor, nn

from densenet_convert.errors import ReadError
from densenet_convert.source.read import read_checkpoint

SECONDS = 30


def assert_equal(actual: StateDict, expected: StateDict, *, ordered: bool = True) -> None:
    """Names in order, types, shapes and bits."""
    assert set(actual) == set(expected)
    assert not ordered or list(actual) == list(expected)
    for name, tensor in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (tensor.dtype, tensor.shape), name
        assert raw(actual[name]) == raw(tensor), name


def assert_honest(error: ReadError, path: Path) -> None:
    message = str(error)
    assert str(path) in message
    assert message.isprintable()  # so it is one line, too
    assert len(message) < 2000
    assert " at 0x" not in message  # an address says nothing, and differs every time
    assert "weights_only=False" not in message
    assert "unsafe" not in message.lower()


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_file_is_read_bit_for_bit(tmp_path: Path, name: str) -> None:
    case = SOUND[name](tmp_path)
    checkpoint = read_checkpoint(case.path)
    assert_equal(dict(checkpoint.tensors), case.tensors, ordered=case.format != "safetensors")
    assert (checkpoint.format, checkpoint.container) == (case.format, case.container)
    for tensor in checkpoint.tensors.values():
        assert type(tensor) is Tensor
        assert tensor.is_contiguous()
        assert tensor.device.type == "cpu"
        assert not tensor.requires_grad


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_gets_one_message_soon_and_runs_nothing(tmp_path: Path, name: str) -> None:
    case = REFUSED[name](tmp_path)
    start = time.monotonic()
    with pytest.raises(ReadError, match=case.says) as error:
        read_checkpoint(case.path)
    assert time.monotonic() - start < SECONDS
    assert_honest(error.value, case.path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", EITHER)
def test_what_is_beside_the_weights_is_never_run_and_changes_none(tmp_path: Path, name: str) -> None:
    case = EITHER[name](tmp_path)
    start = time.monotonic()
    try:
        checkpoint = read_checkpoint(case.path)
    except ReadError as error:
        assert_honest(error, case.path)
    else:
        assert_equal(dict(checkpoint.tensors), case.tensors)
    assert time.monotonic() - start < SECONDS
    assert not (tmp_path / "ran").exists()


# Plain pickles, arrays, tars, modules whole and protocol 4 are nothing that torch.load reads without
# running code; nor are these.
NOT_READ_ELSEWHERE = {
    *(name for name in SOUND if name.startswith(("plain", "numpy", "tar", "torch-", "pickle"))),
    *(name for name in SOUND if name.startswith("legacy, beside: ")),
    *(name for name in SOUND if name.endswith("in gzip")),
    "zip, by _rebuild_device_tensor_from_numpy",
    "legacy, by _rebuild_device_tensor_from_numpy",
    "legacy, by _rebuild_device_tensor_from_cpu_tensor",
    *(f"{kind}, protocol {protocol}" for kind in ("zip", "legacy") for protocol in (1, 4, 5)),
    *(f"{kind}, module of a lost class" for kind in ("zip", "legacy")),
    *(f"{kind}, Variable of torch {version}" for kind in ("zip", "legacy") for version in ("0.1", "0.3")),
    "long strings of Python 2",
    "quoted strings of Python 2",
    "zip, a state dict of numpy arrays",
    "zip, Lightning",
    "zip, beside: Namespace",
    "zip, beside: criterion",
    "zip, beside: datetime",
    "zip, beside: defaultdict",
    "zip, beside: deque",
    "zip, beside: enum",
    "zip, beside: frozenset",
    "zip, beside: numbers and slices",
    "zip, beside: numpy array",
    "zip, beside: numpy scalar",
    "zip, beside: partial",
    "zip, beside: path",
    "zip, beside: random states",
}


def read_elsewhere(case: Sound) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case.format == "safetensors":
            return safetensors.torch.load_file(case.path)
        return torch.load(case.path, map_location="cpu", weights_only=True)


def _item(held: Any, key: str) -> Any:
    return held[key if isinstance(held, dict) and key in held else int(key)]


@pytest.mark.parametrize("name", [name for name in SOUND if name not in NOT_READ_ELSEWHERE])
def test_the_usual_reader_agrees(tmp_path: Path, name: str) -> None:
    case = SOUND[name](tmp_path)
    keys = case.container.split(".") if case.container else []
    expected = reduce(_item, keys, read_elsewhere(case))
    assert not isinstance(expected, nn.Module)
    assert_equal(
        dict(read_checkpoint(case.path).tensors), dict(expected), ordered=case.format != "safetensors"
    )


@pytest.mark.parametrize("name", sorted(NOT_READ_ELSEWHERE))
def test_the_usual_reader_refuses_the_others(tmp_path: Path, name: str) -> None:
    case = SOUND[name](tmp_path)
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        read_elsewhere(case)
