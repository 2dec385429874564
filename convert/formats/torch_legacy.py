"""Reads torch's format of before 1.6: five pickles in a row, then the elements of every storage.

The pickles are a magic number, a version, facts about the system, the object, and the
names of the storages in the order in which their elements follow: for each an int64
count, and the elements, little-endian whatever the system was.

Source of the layout: ``_legacy_load`` in ``torch/serialization.py``.
"""

from __future__ import annotations

from typing import Any

from .objects import storage_dtype
from .raw import Budget, FormatError, Storage, Whole, declare, shown
from .streams import Stream, Views
from .torch_legacy_writer import MAGIC_NUMBER, PROTOCOL_VERSION
from .unpickle import Names


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
    """What the object refers to, to be filled by what follows it."""

    def __init__(self) -> None:
        self.roots: dict[str, Storage] = {}
        self.views = Views()

    def load(self, identifier: Any) -> Any:
        """What a persistent id stands for: a class, beside its source code, or a storage."""
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
