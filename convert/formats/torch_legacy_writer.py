"""Writes torch's format of before 1.6: five pickles in a row, then the elements of every storage.

torch.save names a legacy storage by its address in memory, so its files differ from run
to run.  Here storages are numbered in order, and the pickles are written opcode by
opcode: the bytes depend on the names and the tensors alone.

Source of the layout: ``_legacy_save`` and ``_legacy_load`` in ``torch/serialization.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
STORAGE_CLASS = {
    "float32": b"FloatStorage",
    "float64": b"DoubleStorage",
    "float16": b"HalfStorage",
    "bfloat16": b"BFloat16Storage",
    "int64": b"LongStorage",
}


@dataclass(frozen=True)
class Elements:
    """A tensor as bytes: little-endian elements in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def write_legacy(tensors: Mapping[str, Elements], file: BinaryIO) -> None:
    """Writes an ordered dict of tensors, each in a storage of its own, of a dtype of ``STORAGE_CLASS``."""
    file.write(_pickle(_integer(MAGIC_NUMBER)))
    file.write(_pickle(_integer(PROTOCOL_VERSION)))
    file.write(_pickle(_SYSTEM_INFO))
    entries = [_text(name) + _tensor(raw, key) for key, (name, raw) in enumerate(tensors.items())]
    file.write(_pickle(b"ccollections\nOrderedDict\n)R(" + b"".join(entries) + b"u"))
    file.write(_pickle(b"](" + b"".join(_text(str(key)) for key in range(len(tensors))) + b"e"))
    for raw in tensors.values():
        file.write(struct.pack("<q", prod(raw.shape)))
        file.write(raw.data)


def _tensor(raw: Elements, key: int) -> bytes:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
    strides = tuple(prod(raw.shape[axis + 1 :]) for axis in range(len(raw.shape)))
    # The last element, None, says that the storage is no view of another.
    storage = _tuple(
        _text("storage"),
        b"ctorch\n" + STORAGE_CLASS[raw.dtype] + b"\n",
        _text(str(key)),
        _text("cpu"),
        _integer(prod(raw.shape)),
        b"N",
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + _tuple(
            storage + b"Q",
            _integer(0),
            _tuple(*map(_integer, raw.shape)),
            _tuple(*map(_integer, strides)),
            b"\x89",
            b"ccollections\nOrderedDict\n)R",
        )
        + b"R"
    )


def _pickle(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


_SYSTEM_INFO = (
    b"}("
    + _text("protocol_version")
    + _integer(PROTOCOL_VERSION)
    + _text("little_endian")
    + b"\x88"
    + _text("type_sizes")
    + b"}("
    + b"".join(_text(name) + _integer(size) for name, size in (("short", 2), ("int", 4), ("long", 4)))
    + b"uu"
)
