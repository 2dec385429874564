"""A sound safetensors file is read bit for bit; any other is refused with a reason."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from densenet_convert.formats.safetensors import read_data, read_header

SHAPES = st.lists(st.integers(0, 3), max_size=4).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
SOUND = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@given(st.dictionaries(st.text(min_size=1), st.tuples(SHAPES, DTYPES), max_size=5))
def test_what_the_library_wrote_is_read_bit_for_bit(
    described: dict[str, tuple[tuple[int, ...], torch.dtype]],
) -> None:
    described.pop("__metadata__", None)
    tensors = {name: torch.rand(shape).to(dtype) for name, (shape, dtype) in described.items()}
    content = save(tensors, metadata={"format": "pt"})
    file = BytesIO(content)
    header = read_header(file, len(content))
    assert header.metadata == {"format": "pt"}
    found = {entry.name: (entry, data) for entry, data in read_data(file, header)}
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        entry, data = found[name]
        assert f"torch.{entry.dtype}" == str(tensor.dtype)
        assert entry.shape == tensor.shape
        assert bytes(data) == tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else data


def refuse(header: Any, data: bytes, message: str) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + data
    with pytest.raises(ValueError, match=message):
        read_header(BytesIO(content), len(content))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "said to take 0 bytes"),
        (b"[]", "no JSON object"),
        (b"{]", "no JSON"),
        (b"\xff\xff", "no JSON object"),
        (b"{\xff", "no JSON"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"a": {"dtype": "F32"}, "a": {"dtype": "F32"}}', "holds a key twice"),
        ({"a": 3}, "the entry of a is 3"),
        ({"a": {**SOUND, "more": 1}}, "the entry of a"),
        (
            {"a": {**SOUND, "dtype": "F33"}},
            "a is of 'F33', which is none of F64, F32.*Save the weights as float32",
        ),
        ({"a": {**SOUND, "dtype": 32}}, "the entry of a"),
        ({"a": {**SOUND, "shape": [-2]}}, "the entry of a"),
        ({"a": {**SOUND, "shape": [2.0]}}, "the entry of a"),
        ({"a": {**SOUND, "shape": [True, 2]}}, "the entry of a"),
        ({"a": {**SOUND, "data_offsets": [0]}}, "the entry of a"),
        ({"a": {**SOUND, "shape": [3]}}, "a has 8 bytes, expected float32 of shape"),
        ({"a": {**SOUND, "data_offsets": [8, 0]}}, "a has -8 bytes"),
        ({"a": {**SOUND, "data_offsets": [4, 12]}}, "a begins at byte 4 of the data, expected 0"),
        ({"a": SOUND, "b": SOUND}, "b begins at byte 0 of the data, expected 8"),
        ({"a": SOUND, "b": {**SOUND, "data_offsets": [16, 24]}}, "b begins at byte 16"),
        ({}, "tensors take 0 bytes, and 8 are there"),
        ({"a": {**SOUND, "shape": [4], "data_offsets": [0, 16]}}, "tensors take 16 bytes, and 8 are there"),
    ],
)
def test_an_unsound_header_is_refused(header: Any, message: str) -> None:
    refuse(header, bytes(8), message)


def test_a_header_longer_than_the_file_is_refused() -> None:
    content = struct.pack("<Q", 1 << 40) + b"{}"
    with pytest.raises(ValueError, match="said to take 1099511627776 bytes of 10"):
        read_header(BytesIO(content), len(content))
    with pytest.raises(ValueError, match="bytes of 3"):
        read_header(BytesIO(b"abc"), 3)


def test_a_file_that_shrank_is_refused() -> None:
    content = save({"a": torch.ones(4)})
    file = BytesIO(content[:-1])
    header = read_header(file, len(content))
    with pytest.raises(ValueError, match="ends within a"):
        list(read_data(file, header))
