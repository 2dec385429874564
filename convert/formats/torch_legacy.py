"""Reads and writes torch's format of before 1.6: five pickles in a row, then the elements of every storage.

The pickles are a magic number, a version, facts about the system, the object, and the
names of the storages in the order in which their elements follow: for each an int64
count, and the elements, little-endian whatever the system was.

torch.save names a legacy storage by its address in memory, so its files differ from run
to run.  ``write_legacy`` numbers storages in order and writes opcode by opcode: its bytes
depend on the names and the tensors alone.

Source of the layout: ``_legacy_save`` and ``_legacy_load`` in ``torch/serialization.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

from .objects import storage_dtype
from .raw import Storage, Whole, declare
from .streams import Stream, Views
from .unpickle import Names
from .untrusted import Budget, FormatError, shown

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
STORAGE_CLASS = {
    "float32": b"FloatStorage",
    "float64": b"DoubleStorage",
    "float16": b"HalfStorage",
    "bfloat16": b"BFloat16Storage",
    "int64": b"LongStorage",
}


def read_legacy(data: Whole, budget: Budget, names: Names) -> Any:
    """The object, whose storages are views of ``data``.

    Raises:
        FormatError: a part is missing or left over, or disagrees with another.
    """
    stream = Stream(data, 0, len(data), budget, names)
    magic, version, _ = stream.load(), stream.load(), stream.load()
    if (magic, version) != (MAGIC_NUMBER, PROTOCOL_VERSION):
        raise FormatError("it does not begin with the two numbers by which torch knows its files")
    storages = _Storages()
    root = stream.load(storages.load)
    storages.fill(stream.load(), stream)
    stream.finish()
    return root


class _Storages:
    """The storages that the object refers to; the bytes that follow it fill them."""

    def __init__(self) -> None:
        self.roots: dict[str, Storage] = {}
        self.views = Views()

    def load(self, identifier: Any) -> Any:
        """Returns what a persistent id stands for: a class, beside its source code, or a storage."""
        kind, *fields = identifier
        if kind == "module":
            return fields[0]
        if kind != "storage":
            raise FormatError(f"it refers to a {shown(kind)}, expected a storage or a module")
        storage_class, key, _, count, view = fields
        root = declare(self.roots, key, storage_dtype(storage_class), count)
        return root if view is None else self.views.add(root, *view)

    def fill(self, keys: Any, stream: Stream) -> None:
        """Gives every storage its elements, in the order of ``keys``."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise FormatError("its list of storages is none")
        if len(set(keys)) != len(keys) or set(keys) != set(self.roots):
            raise FormatError(
                f"its {len(keys)} listed storages are not, once each, the {len(self.roots)} that it refers to"
            )
        for key in keys:
            stream.fill(self.roots[key])
        self.views.fill()


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
