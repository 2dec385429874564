"""Reads torch's format of 2016: a tar of ``storages``, ``tensors`` and ``pickle``.

``storages`` holds a count, for each a pickled (key, location, class), an int64 count of
elements and the elements, and then a pickled list of views.  ``tensors`` holds a count,
and for each a pickled (key, storage, class), the number of dimensions in eight bytes,
the sizes, the strides and the offset, each an int64.  ``pickle`` is the object, which
refers to both by their keys.

Sources of the layout: ``legacy_load`` in ``torch/serialization.py``; of tar's:
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .objects import STORAGES, storage_dtype
from .raw import MOST_DIMENSIONS, RawTensor, Storage, Whole
from .streams import Stream, Views
from .unpickle import Names
from .untrusted import Budget, FormatError, key_of, shown

MAGIC, MAGIC_AT = b"ustar", 257
BLOCK = 512
MEMBERS = ("storages", "tensors", "pickle")
# Facts about the system, as in the other formats.
SYSTEM = "sys_info"
# The kinds of a member: a file, as tar wrote it before POSIX and since, and a header about the next member.
FILES, EXTENDED = (b"0", b"\0"), b"x"


def read_tar(data: Whole, budget: Budget, names: Names) -> Any:
    """The object, whose tensors are views of ``data``.

    Raises:
        FormatError: a member is missing, left over or damaged, or disagrees with another.
    """
    members: dict[str, Stream] = {}
    for name, start, end in _members(data):
        if name not in (*MEMBERS, SYSTEM):
            raise FormatError(
                f"it is a tar that holds {name[:99]!r}, expected {', '.join(MEMBERS)}",
                "If that is a checkpoint, unpack the tar, and name it.",
            )
        if name in members:
            raise FormatError(f"it is a tar that holds {name} twice")
        members[name] = Stream(data, start, end, budget, names)
    members.pop(SYSTEM, None)
    if len(members) != len(MEMBERS):
        raise FormatError(f"it is a tar of {', '.join(members) or 'nothing'}, expected {', '.join(MEMBERS)}")
    objects = _Objects()
    objects.read_storages(members["storages"])
    objects.read_tensors(members["tensors"])
    root = members["pickle"].load(objects.load)
    for member in members.values():
        member.finish()
    objects.require_use()
    return root


def _members(data: Whole) -> Iterator[tuple[str, int, int]]:
    """Name, start and end of every file, up to the blocks of zeros that end a tar."""
    position = 0
    while any(header := bytes(data[position : position + BLOCK])):
        start = position + BLOCK
        end = start + _size(header)
        if end > len(data):
            raise FormatError(f"it is a tar that ends at byte {len(data)}, within a member: it is cut off")
        kind = header[156:157]
        if kind in FILES:
            yield header[:100].rstrip(b"\0").decode("ascii", "replace"), start, end
        elif kind != EXTENDED or any(
            word in bytes(data[start:end]) for word in (b" path=", b" size=", b" GNU.")
        ):
            raise FormatError(f"it is a tar with a member of kind {kind!r}, expected files")
        position = -(-end // BLOCK) * BLOCK
    if len(data) - position > 1 << 16 or any(data[position:]):
        raise FormatError("it is a tar, and goes on after its end")


def _size(header: bytes) -> int:
    """A member's length, once its header's own sum agrees."""
    try:
        size, claimed = int(header[124:136].rstrip(b"\0 "), 8), int(header[148:156].rstrip(b"\0 "), 8)
    except ValueError as error:
        raise FormatError("it is a tar with a header that holds no numbers") from error
    if len(header) != BLOCK or size < 0 or sum(header[:148]) + 8 * ord(" ") + sum(header[156:]) != claimed:
        raise FormatError("it is a tar with a damaged header")
    return size


class _Objects:
    """Storages and tensors by their keys, and which of them were referred to."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.used: set[str] = set()

    def read_storages(self, stream: Stream) -> None:
        """All storages, and then the views of them."""
        for _ in range(_size_of(stream.load())):
            key, _, storage_class = stream.load()
            storage = Storage(key_of(key)[:99], storage_dtype(storage_class), 0)
            storage.size = _size_of(*stream.numbers("q")) * storage.item_size
            storage.data = stream.take(storage.size)
            self._add(key, storage)
        views = Views()
        for key, root, offset, count in stream.load():
            self._add(key, views.add(self._storage(root), key, offset, count))
        views.fill()

    def read_tensors(self, stream: Stream) -> None:
        """All tensors, which are views of the storages."""
        for _ in range(_size_of(stream.load())):
            key, storage_key, tensor_class = stream.load()
            # The upper half of these eight bytes is not always zero.
            dimensions, _ = stream.numbers("ii")
            if not 0 <= dimensions <= MOST_DIMENSIONS:
                raise FormatError(f"a tensor is said to have {dimensions} dimensions")
            shape, strides = stream.numbers(f"{dimensions}q"), stream.numbers(f"{dimensions}q")
            (offset,) = stream.numbers("q")
            storage = self._storage(storage_key)
            dtype = STORAGES.get(tensor_class.name.removesuffix("Tensor") + "Storage")
            if dtype is None or dtype != storage.dtype:
                raise FormatError(f"a {shown(tensor_class)} is a view of a storage of {storage.dtype}")
            self._add(key, RawTensor(dtype, shape, strides, storage, offset))

    def load(self, identifier: Any) -> Any:
        """Returns what a persistent id names: a class, beside its source code, or a storage or tensor."""
        return identifier[0] if isinstance(identifier, tuple) else self._get(identifier)

    def require_use(self) -> None:
        """Raises FormatError where something was not referred to."""
        if unused := self.found.keys() - self.used:
            raise FormatError(f"it holds {len(unused)} storages or tensors that nothing refers to")

    def _add(self, key: Any, value: Any) -> None:
        if key_of(key) in self.found:
            raise FormatError(f"it holds the object {shown(key)} twice")
        self.found[key_of(key)] = value

    def _get(self, key: Any) -> Any:
        if key_of(key) not in self.found:
            raise FormatError(f"it refers to an object {shown(key)} that it does not hold")
        self.used.add(key_of(key))
        return self.found[key_of(key)]

    def _storage(self, key: Any) -> Storage:
        storage = self._get(key)
        if not isinstance(storage, Storage):
            raise FormatError(f"it takes the object {shown(key)} for a storage, and it is none")
        return storage


def _size_of(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise FormatError("it is a tar of which a part is said to have a size below 0")
    return number
