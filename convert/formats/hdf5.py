"""Reads the part of HDF5 that Keras writes: groups that hold each other by name, and arrays in one piece.

The HDF5 library is built for files that are trusted: a damaged one can crash it or keep it busy for
ever.  Links, data in other files, filters, chunks and virtual arrays are refused, for Keras writes none.
No tensor is copied.

Source of the layout: HDF5 File Format Specification Version 3.0,
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from .raw import DTYPES, Buffer, RawTensor, Storage, in_order
from .untrusted import Budget, FormatError, shown

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SAVE_AGAIN = "Load it with Keras, and save it again from there."
# An address that leads nowhere.
UNDEFINED = (1 << 64) - 1
# Bytes that a message, a link or a name takes in memory.
COST = 400
# Kinds of messages in the header of an object.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, FILTERS = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8, 0xB
ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0xC, 0x10, 0x11, 0x15
SHARED = 2  # among the flags of a message
# A symbol table's mark of an entry that is no object but a path.
SOFT_LINK = 2
CONTIGUOUS = 1
INTEGER, FLOAT, TEXT, OPAQUE, VARIABLE = 0, 1, 3, 5, 9
# Bits: offset, precision, where the exponent lies, its size, where the mantissa lies, its size; bias.
FLOATS = {
    (0, 16, 10, 5, 0, 10, 15): "float16",
    (0, 16, 7, 8, 0, 7, 127): "bfloat16",
    (0, 32, 23, 8, 0, 23, 127): "float32",
    (0, 64, 52, 11, 0, 52, 1023): "float64",
}
IMPLIED_BIT = 0x20


class _Type(NamedTuple):
    """Class of a datatype, bytes of an element, bits that depend on the class, and the rest."""

    kind: int
    size: int
    bits: int
    rest: memoryview


@dataclass(frozen=True)
class Object:
    """A group or a dataset: its messages by kind, and its attributes, undecoded."""

    messages: dict[int, memoryview] = field(default_factory=dict)
    attributes: dict[str, memoryview] = field(default_factory=dict)


class File:
    """The parts of an HDF5 file, each read from a given address, within bounds and paid for."""

    def __init__(self, data: Buffer, budget: Budget) -> None:
        self.data = memoryview(data)
        self.budget = budget
        version, offset_size, length_size = (self.part(at, 1)[0] for at in (8, 13, 14))
        if version > 1:
            raise FormatError("it is an HDF5 file of a newer form than Keras writes", SAVE_AGAIN)
        if (offset_size, length_size) != (8, 8):
            raise FormatError("it is an HDF5 file with addresses that have not 8 bytes")
        shift = 4 * version
        base, _, end, _ = self.numbers("4Q", 24 + shift)
        if base != 0 or end != len(self.data):
            raise FormatError(
                f"it should have {end:,} bytes, not {len(self.data):,}: it is cut off, or something follows"
            )
        (self.root,) = self.numbers("Q", 64 + shift)

    def part(self, start: int, count: int) -> memoryview:
        """Raises FormatError where these bytes are not there."""
        if not 0 <= start <= start + count <= len(self.data):
            raise FormatError(f"it refers to byte {start + count} of {len(self.data)}")
        return self.data[start : start + count]

    def numbers(self, form: str, start: int) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.part(start, struct.calcsize(f"<{form}")))

    def expect(self, magic: bytes, start: int) -> None:
        if bytes(self.part(start, len(magic))) != magic:
            raise FormatError(f"{magic[:4]!r} is not at byte {start}, where it should be")

    def object(self, address: int) -> Object:
        """The object whose header is there."""
        if bytes(self.part(address, 4)) == b"OHDR":
            raise FormatError("it holds an object of a newer form than Keras writes", SAVE_AGAIN)
        version, _, count, _, size = self.numbers("BBHII", address)
        if version != 1:
            raise FormatError(f"no object is at byte {address}, where one should be")
        found = Object()
        blocks = [self.part(address + 16, size)]
        for block in blocks:
            at = 0
            while at + 8 <= len(block) and count > 0:
                self.budget.take(COST)
                count -= 1
                kind, length, flags = struct.unpack_from("<HHB", block, at)
                content = block[at + 8 : at + 8 + length]
                at += 8 + length
                if len(content) != length:
                    raise FormatError(f"the header of the object at byte {address} is cut off")
                self._note(found, kind, flags, content)
                if kind == CONTINUATION:
                    blocks.append(self.part(*struct.unpack("<QQ", content[:16])))
        if count:
            raise FormatError(f"the header of the object at byte {address} lacks {count} messages")
        return found

    def _note(self, found: Object, kind: int, flags: int, content: memoryview) -> None:
        if kind in (LINK, LINK_INFO, ATTRIBUTE_INFO):
            raise FormatError("it holds links or attributes of a newer form than Keras writes", SAVE_AGAIN)
        if kind == EXTERNAL:
            raise FormatError("it keeps data in other files, as Keras does not")
        if kind == FILTERS:
            raise FormatError("it holds arrays that went through a filter, as Keras writes none", SAVE_AGAIN)
        if kind not in (DATASPACE, DATATYPE, LAYOUT, ATTRIBUTE, SYMBOL_TABLE):
            return
        if flags & SHARED:
            raise FormatError("it holds a message that objects share, as Keras writes none")
        if kind == ATTRIBUTE:
            name, value = _attribute(content)
            if name in found.attributes:
                raise FormatError(f"an object has the attribute {shown(name)} twice")
            found.attributes[name] = value
        elif kind in found.messages:
            raise FormatError("an object has a message twice")
        else:
            found.messages[kind] = content

    def links(self, group: Object) -> Iterator[tuple[str, int]]:
        """Names in a group, and the addresses of their objects."""
        tree, heap = struct.unpack("<QQ", group.messages[SYMBOL_TABLE][:16])
        self.expect(b"HEAP\0", heap)
        size, _, start = self.numbers("3Q", heap + 8)
        names = self.part(start, size)
        waiting, seen = [tree], {tree}
        while waiting:
            address = waiting.pop()
            if bytes(self.part(address, 4)) == b"SNOD":
                yield from self._symbols(address, names)
                continue
            self.expect(b"TREE\0", address)
            (count,) = self.numbers("H", address + 6)
            # Behind a header of 24 bytes: a key, and then a child and a key, and so on.
            below = self.numbers(f"{2 * count + 1}Q", address + 24)[1::2]
            self.budget.take(COST * (1 + count))
            if not seen.isdisjoint(below) or len(set(below)) != count:
                raise FormatError("a part of a group is in it twice")
            seen.update(below)
            waiting += reversed(below)

    def _symbols(self, node: int, names: memoryview) -> Iterator[tuple[str, int]]:
        (count,) = self.numbers("H", node + 6)
        for at in range(node + 8, node + 8 + 40 * count, 40):
            name_at, address, cached = self.numbers("QQI", at)
            if cached == SOFT_LINK or address == UNDEFINED:
                raise FormatError("it holds a link to another place, as Keras writes none")
            if name_at >= len(names):
                raise FormatError("a name lies outside of the names of its group")
            # No name is longer, and a search without an end could be asked for again and again.
            name, end, _ = bytes(names[name_at : name_at + 4 * COST]).partition(b"\0")
            self.budget.take(COST + len(name))
            if not name or not end or b"/" in name or name == b".":
                raise FormatError(f"a group holds something that is called {shown(name)}")
            yield name.decode(), address

    def tensor(self, dataset: Object, label: str) -> tuple[RawTensor, int]:
        """An array, and where it begins."""
        layout = dataset.messages[LAYOUT]
        if layout[0] != 3 or layout[1] != CONTIGUOUS:
            raise FormatError(f"{shown(label)} is not stored in one piece, as Keras does", SAVE_AGAIN)
        start, size = struct.unpack("<QQ", layout[2:18])
        shape = shape_of(dataset.messages[DATASPACE])
        dtype, big_endian = self._dtype(dataset, label)
        if prod(shape) * DTYPES[dtype].size != size:
            raise FormatError(f"{shown(label)} has {size} bytes, expected {dtype} of shape {list(shape)[:8]}")
        if not size:  # it may have no place then
            start = 0
        elif start == UNDEFINED:
            raise FormatError(f"{shown(label)} was never written")
        storage = Storage(label[:200], dtype, size, self.part(start, size), big_endian)
        return in_order(dtype, shape, storage), start

    def _dtype(self, dataset: Object, label: str) -> tuple[str, bool]:
        """The dtype of an array, and whether it is big-endian."""
        kind = _type(dataset.messages[DATATYPE])
        big_endian, dtype = bool(kind.bits & 1), None
        if kind.kind == FLOAT and kind.bits & 0xFF in (IMPLIED_BIT, IMPLIED_BIT | 1):
            dtype = FLOATS.get(struct.unpack("<HH4BI", kind.rest[:12]))
            sign = kind.bits >> 8 & 0xFF
            dtype = dtype if sign == 8 * kind.size - 1 else None
        elif kind.kind == INTEGER and tuple(kind.rest[:4]) == (0, 0, 8 * kind.size, 0):
            dtype = f"{'' if kind.bits & 8 else 'u'}int{8 * kind.size}"
        elif kind.kind == OPAQUE and self.texts(dataset, "dtype") == ["bfloat16"]:
            dtype, big_endian = "bfloat16", False
        if dtype not in DTYPES or DTYPES[dtype].size != kind.size:
            raise FormatError(f"{shown(label)} has elements that are no plain numbers")
        return dtype, big_endian

    def texts(self, owner: Object, name: str) -> list[str] | None:
        """The texts in an attribute; None where it is not there."""
        if name not in owner.attributes:
            return None
        kind, shape, values = _parts_of_attribute(owner.attributes[name])
        if 0 in shape:
            return []
        count = prod(shape)
        self.budget.take(COST * count)
        # The bits of what varies in length say whether it is text, or a list of something.
        varies = (kind.kind, kind.bits & 0xF, kind.size) == (VARIABLE, 1, 16)
        if not (varies or kind.kind == TEXT) or not 0 < kind.size * count <= len(values):
            raise FormatError(f"the attribute {shown(name)} is no text")
        octets = [bytes(values[at : at + kind.size]) for at in range(0, kind.size * count, kind.size)]
        if varies:
            octets = [self._from_heap(*struct.unpack("<IQI", where)) for where in octets]
        return [text.partition(b"\0")[0].decode() for text in octets]

    def _from_heap(self, length: int, heap: int, index: int) -> bytes:
        """Text whose length varies lies in a heap, as one of its numbered objects."""
        if not length:
            return b""
        self.expect(b"GCOL\1", heap)
        (size,) = self.numbers("Q", heap + 8)
        at, end = heap + 16, heap + len(self.part(heap, size))
        while at + 16 <= end:
            self.budget.take(COST // 10)
            found, _, _, held = self.numbers("HHIQ", at)
            if found == index and index:
                if not length <= held <= end - at - 16:
                    break
                self.budget.take(length)
                return bytes(self.part(at + 16, length))
            if not found:  # what is free comes last
                break
            at += 16 + (held + 7) // 8 * 8
        raise FormatError("a text is not in the heap that it should be in")


def _type(message: memoryview) -> _Type:
    kind, bits, size = message[0] & 0xF, int.from_bytes(message[1:4], "little"), message[4:8]
    return _Type(kind, int.from_bytes(size, "little"), bits, message[8:])


def shape_of(message: memoryview) -> tuple[int, ...]:
    version, rank = message[0], message[1]
    if version not in (1, 2) or (version == 2 and message[3] == 2):
        raise FormatError("an array has no shape")
    return struct.unpack_from(f"<{rank}Q", message, 8 if version == 1 else 4)


def _attribute(message: memoryview) -> tuple[str, memoryview]:
    """An attribute's name; the rest is looked at where it is wanted."""
    version, flags, name_size = struct.unpack_from("<BBH", message)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise FormatError("it holds an attribute of a form that Keras does not write")
    at = 9 if version == 3 else 8
    return bytes(message[at : at + name_size]).rstrip(b"\0").decode(), message


def _parts_of_attribute(message: memoryview) -> tuple[_Type, tuple[int, ...], memoryview]:
    """An attribute's datatype, its shape and its elements."""
    version, _, *sizes = struct.unpack_from("<BBHHH", message)
    # Version 1 fills each part up to 8 bytes.
    name, kind, space = ((size + 7) // 8 * 8 if version == 1 else size for size in sizes)
    at = (9 if version == 3 else 8) + name
    return _type(message[at:]), shape_of(message[at + kind :]), message[at + kind + space :]
