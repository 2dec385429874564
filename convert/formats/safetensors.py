"""Reads safetensors: a length, a JSON header of that length, and the tensors without a gap.

Stricter than the library about the header: no duplicate key, no hole, no overlap,
nothing left over.

Source of the layout: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from math import prod
from typing import Any

from .raw import DTYPES, LARGEST, MOST_DIMENSIONS, Buffer, Storage, in_order
from .stand_ins import Dict
from .untrusted import FormatError, shown

# A header of JSON takes up to twenty times its length in memory; one of 10,000 tensors has a megabyte.
LONGEST_HEADER = 4 << 20
OTHER_DTYPE = "Save the weights as float32, float16 or bfloat16."
# The names of dtypes here.
NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Entry:
    """The place of one tensor: ``size`` bytes, directly behind the entry before it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Header:
    """Metadata, and the tensors in the order in which they lie in the file."""

    metadata: dict[str, str]
    entries: tuple[Entry, ...]


def looks_like_safetensors(data: Buffer) -> bool:
    """Whether the first eight bytes may be a length, and a header of JSON follows."""
    length = int.from_bytes(data[:8], "little")
    return 2 <= length < 1 << 40 and bytes(data[8:9]) == b"{"


def read_safetensors(data: Buffer) -> tuple[Dict, dict[str, str]]:
    """The tensors, views of ``data``, and the metadata.

    Raises:
        FormatError: the header is not sound, or does not describe these bytes.
    """
    length = int.from_bytes(data[:8], "little")
    header = parse_header(bytes(data[8 : 8 + min(length, LONGEST_HEADER)]), length, len(data))
    tensors = Dict()
    position = 8 + length
    for entry in header.entries:
        content = memoryview(data)[position : position + entry.size]
        tensors.add(
            entry.name,
            in_order(entry.dtype, entry.shape, Storage(entry.name, entry.dtype, entry.size, content)),
        )
        position += entry.size
    return tensors, header.metadata


def read_header(file: BufferedIOBase, size: int) -> Header:
    """Reads the header; ``file`` stands behind it afterwards, at the first tensor.

    Args:
        file: stands at its start.
        size: length of the whole file in bytes.

    Raises:
        FormatError: the header is not sound, or does not describe a file of this size.
    """
    length = int.from_bytes(file.read(8), "little")
    return parse_header(file.read(min(length, LONGEST_HEADER)), length, size)


def read_data(file: BufferedIOBase, header: Header) -> Iterator[tuple[Entry, bytearray]]:
    """Yields each tensor's bytes, from where ``read_header`` left the file."""
    for entry in header.entries:
        data = bytearray(entry.size)
        if file.readinto(data) != entry.size:
            raise FormatError(f"the file ends within {entry.name}")
        yield entry, data


def parse_header(text: bytes, length: int, size: int) -> Header:
    """The header in ``text``, which was said to have ``length`` bytes, of a file of ``size`` bytes."""
    if not 2 <= length <= min(size - 8, LONGEST_HEADER):
        raise FormatError(f"its header is said to take {length} bytes of {size}")
    if text[:1] != b"{":
        raise FormatError("its header is no JSON object")
    try:
        fields = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise FormatError("its header is nested too deeply") from error
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError("its header is no JSON") from error
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError("its metadata is no text")
    spans = sorted((_span(*field) for field in fields.items()), key=lambda span: span[:2])
    end = 0
    for start, stop, entry in spans:
        if start != end:
            raise FormatError(f"{entry.name} begins at byte {start} of the data, expected {end}")
        end = stop
    if end != size - 8 - length:
        raise FormatError(f"its tensors take {end} bytes, and {size - 8 - length} are there")
    return Header(metadata, tuple(entry for _, _, entry in spans))


def _span(name: str, field: Any) -> tuple[int, int, Entry]:
    if isinstance(field, dict) and isinstance(known := field.get("dtype"), str) and known not in NAMES:
        raise FormatError(
            f"{name[:99]} is of {shown(known)}, which is none of {', '.join(NAMES)}", OTHER_DTYPE
        )
    try:
        dtype = NAMES[field["dtype"]]
        shape, (start, stop) = field["shape"], field["data_offsets"]
        whole = all(type(number) is int and 0 <= number < LARGEST for number in (*shape, start, stop))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"the entry of {name[:99]} is {shown(field)}") from error
    if not whole or len(shape) > MOST_DIMENSIONS or set(field) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"the entry of {name[:99]} is {shown(field)}")
    if prod(shape) * DTYPES[dtype].size != stop - start:
        raise FormatError(f"{name[:99]} has {stop - start} bytes, expected {dtype} of shape {shape}")
    return start, stop, Entry(name, dtype, tuple(shape), stop - start)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise FormatError(f"its header holds a key twice: {shown(twice)}")
    return fields
