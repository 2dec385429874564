"""Reads safetensors: a length, a JSON header of that length, and the tensors without a gap.

Stricter than the library about the header: no duplicate key, no hole, no overlap,
nothing left over.  And it reads one tensor at a time, where the library maps the file.

Source of the layout: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from math import prod
from typing import Any

# What the library itself refuses to exceed.
LONGEST_HEADER = 100_000_000
# Name here, and bytes an element.
DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
}


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: ``size`` bytes, directly behind the entry before it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Header:
    """Metadata, and the tensors in the order in which they lie in the file."""

    metadata: dict[str, str]
    entries: tuple[Entry, ...]


def read_header(file: BufferedIOBase, size: int) -> Header:
    """Reads the header; ``file`` stands behind it afterwards, at the first tensor.

    Args:
        file: stands at its start.
        size: length of the whole file in bytes.

    Raises:
        ValueError: the header is not sound, or does not describe a file of this size.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, LONGEST_HEADER):
        raise ValueError(f"its header is said to take {length} bytes of {size}")
    try:
        fields = json.loads(file.read(length), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError("its header is no JSON object")
    metadata = fields.pop("__metadata__", {})
    spans = sorted((_span(*field) for field in fields.items()), key=lambda span: span[:2])
    end = 0
    for start, stop, entry in spans:
        if start != end:
            raise ValueError(f"{entry.name} begins at byte {start} of the data, expected {end}")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"its tensors take {end} bytes, and {size - 8 - length} are there")
    return Header(metadata, tuple(entry for _, _, entry in spans))


def read_data(file: BufferedIOBase, header: Header) -> Iterator[tuple[Entry, bytearray]]:
    """Yields each tensor's bytes, from where ``read_header`` left the file."""
    for entry in header.entries:
        data = bytearray(entry.size)
        if file.readinto(data) != entry.size:
            raise ValueError(f"the file ends within {entry.name}")
        yield entry, data


def _span(name: str, field: Any) -> tuple[int, int, Entry]:
    try:
        dtype, item_size = DTYPES[field["dtype"]]
        shape, (start, stop) = field["shape"], field["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, stop))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the entry of {name} is {str(field)[:99]}") from error
    if not whole or set(field) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name} is {str(field)[:99]}")
    if prod(shape) * item_size != stop - start:
        raise ValueError(f"{name} has {stop - start} bytes, expected {dtype} of shape {shape}")
    return start, stop, Entry(name, dtype, tuple(shape), stop - start)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("its header holds a key twice")
    return fields
