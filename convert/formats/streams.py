"""The parts that torch's formats share: pickles and elements in a row, and views of storages."""

from __future__ import annotations

import struct
from typing import Any

from .objects import call
from .raw import Storage, Whole
from .unpickle import Load, Names, Unpickler
from .untrusted import Budget, FormatError, key_of


class Stream:
    """Reads pickles, numbers and elements one after the other, from ``position`` to ``end``.

    Raises:
        FormatError: what is to be read is not there.
    """

    def __init__(self, data: Whole, position: int, end: int, budget: Budget, names: Names) -> None:
        self.data = data
        self.position = position
        self.end = end
        self.budget = budget
        self.names = names

    def load(self, persistent: Load | None = None) -> Any:
        """The next pickle's object."""
        unpickler = Unpickler(self.data, self.position, self.end, self.budget, call, persistent, self.names)
        value = unpickler.load()
        self.position = unpickler.position
        return value

    def numbers(self, form: str) -> tuple[int, ...]:
        """The next numbers, little-endian; ``form`` as in ``struct``."""
        octets = self.take(struct.calcsize(f"<{form}"))
        return struct.unpack(f"<{form}", octets)

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        start, self.position = self.position, self.position + count
        if self.position > self.end:
            raise FormatError(
                f"it ends at byte {self.end}, and should go on to {self.position}: it is cut off"
            )
        return memoryview(self.data)[start : self.position]

    def fill(self, storage: Storage) -> None:
        """Gives a storage what comes next: a count, and as many elements."""
        (count,) = self.numbers("q")
        declared = storage.size // storage.item_size
        if count != declared:
            raise FormatError(f"storage {storage.label} holds {count} elements, and {declared} are declared")
        storage.data = self.take(storage.size)

    def finish(self) -> None:
        """Raises FormatError where something is left over."""
        if self.position != self.end:
            raise FormatError(
                f"it goes on for {self.end - self.position:,} bytes after the end of the checkpoint",
                "Something was appended to it: get it again from its source.",
            )


class Views:
    """Storages that are parts of others."""

    def __init__(self) -> None:
        self.views: dict[str, tuple[Storage, Storage, int]] = {}

    def add(self, root: Storage, key: Any, offset: Any, count: Any) -> Storage:
        """The view ``key``: ``count`` elements of ``root`` from ``offset`` on.

        Raises:
            FormatError: it reaches beyond its root, or the key names another one.
        """
        if not (type(offset) is type(count) is int and 0 <= offset <= offset + count):
            raise FormatError(f"a view of storage {root.label} has no sizes")
        start, size = offset * root.item_size, count * root.item_size
        if start + size > root.size:
            raise FormatError(f"a view of storage {root.label} reaches beyond it")
        fresh = Storage(f"{root.label}[{offset}:]", root.dtype, size)
        view, known_root, known_start = self.views.setdefault(key_of(key), (fresh, root, start))
        if known_root is not root or (known_start, view.size) != (start, size):
            raise FormatError(f"two views of storage {root.label} have one name")
        return view

    def fill(self) -> None:
        """Gives every view its elements, once those of all others are known."""
        for view, root, start in self.views.values():
            assert root.data is not None  # every root has been filled
            view.data = memoryview(root.data)[start : start + view.size]
