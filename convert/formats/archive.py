"""Reads a zip as strictly as a checkpoint deserves: no byte of it lies outside of its records and directory.

Records lie one after the other from the first byte on, their local headers agree with
the directory, the directory ends the file, no name comes twice, and the contents have
the sums that the directory states.

Source of the layout: APPNOTE.TXT of PKWARE,
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from .raw import Whole
from .untrusted import Budget, FormatError

LOCAL = struct.Struct("<4s5H3I2H")
ENTRY = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
END64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR64 = struct.Struct("<4sIQI")
MAGIC = b"PK\x03\x04"
STORED, DEFLATED = 0, 8
ENCRYPTED, STREAMED = 1, 8
# The attribute by which DOS calls a record a folder; torch reads nothing of one, and takes what memory holds.
FOLDER = 0x10
# A field holds this if the real number is in the record's extra field of this kind.
FULL, ZIP64 = 0xFFFFFFFF, 1
# A data descriptor, behind a record that was streamed: with a signature or without, of 32 or 64 bits.
DESCRIPTORS = (12, 16, 20, 24)
# Bytes that the record of an entry takes in memory.
ENTRY_COST = 1000


@dataclass(frozen=True)
class Record:
    """One file of the archive; sizes in bytes."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    header: int


class Archive:
    """The records of a zip, by name.

    Raises:
        FormatError: something is missing, left over or disagrees with another part.
    """

    def __init__(self, data: Whole, budget: Budget) -> None:
        self.data = data
        self.view = memoryview(data)
        self.budget = budget
        self.records: dict[str, Record] = {}
        self.starts: dict[str, int] = {}
        directory = self._read_directory()
        records = sorted(self.records.values(), key=lambda record: record.header)
        headers = [record.header for record in records]
        if next(iter(headers), 0) != 0:
            raise FormatError("it is a zip with something before its first record")
        for record, following in zip(records, [*headers[1:], directory], strict=True):
            self.starts[record.name] = self._start(record, following)

    def locate(self, name: str) -> tuple[Whole, int, int]:
        """A record's content: a buffer, where in it it begins, and where it ends.

        Raises:
            FormatError: it hasn't the size or the sum that the directory states.
        """
        record = self.records[name]
        data, start, end = self.data, self.starts[name], self.starts[name] + record.packed
        if record.method == DEFLATED:
            data, start, end = self._inflate(self.view[start:end], record), 0, record.size
        if zlib.crc32(memoryview(data)[start:end]) != record.crc:
            raise FormatError(f"its record {name} hasn't the sum (CRC) that was noted when it was written")
        return data, start, end

    def read(self, name: str) -> memoryview:
        """A record's content, uncopied where it is stored as it is; raises as ``locate`` does."""
        data, start, end = self.locate(name)
        return memoryview(data)[start:end]

    def _start(self, record: Record, following: int) -> int:
        """Returns where a record's content begins, if its local header agrees with the directory."""
        try:
            fields = LOCAL.unpack_from(self.view, record.header)
        except struct.error as error:
            raise FormatError(f"its record {record.name} lies beyond its end") from error
        magic, _, flags, method, _, _, crc, packed, size, name_size, extra_size = fields
        name_at = record.header + LOCAL.size
        extra_at = name_at + int(name_size)
        start = extra_at + int(extra_size)
        gap = following - start - record.packed
        size, packed = _large(self.view[extra_at:start], size, packed)
        known = {(record.crc, record.packed, record.size)} | ({(0, 0, 0)} if flags & STREAMED else set())
        if (
            (magic, method) != (MAGIC, record.method)
            or bytes(self.view[name_at:extra_at]) != record.name.encode()
            or (crc, packed, size) not in known
            or (gap != 0 and not (flags & STREAMED and gap in DESCRIPTORS))
        ):
            raise FormatError(f"its record {record.name} and the directory of the zip disagree")
        return start

    def _inflate(self, packed: memoryview, record: Record) -> bytes:
        self.budget.take(record.size)
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = stream.decompress(packed, record.size + 1)
        except zlib.error as error:
            raise FormatError(f"its record {record.name} can't be inflated") from error
        if len(content) != record.size or not stream.eof or stream.unused_data:
            raise FormatError(
                f"its record {record.name} does not inflate to the {record.size} bytes that it states"
            )
        return content

    def _read_directory(self) -> int:
        """Notes every record; returns where the directory begins."""
        end = len(self.view) - END.size
        if end < 0 or bytes(self.view[end : end + 4]) != b"PK\5\6":
            raise FormatError(
                "it is a zip that does not end with its directory: it is cut off, or something follows"
            )
        _, _, _, _, count, size, start, comment = END.unpack_from(self.view, end)
        locator = end - LOCATOR64.size
        if locator >= 0 and bytes(self.view[locator : locator + 4]) == b"PK\6\7":
            end = LOCATOR64.unpack_from(self.view, locator)[2]
            if end + END64.size != locator or bytes(self.view[end : end + 4]) != b"PK\6\6":
                raise FormatError("it is a zip whose directory is not where it says")
            count, size, start = END64.unpack_from(self.view, end)[-3:]
        if comment or start + size != end:
            raise FormatError("it is a zip whose directory is not where it says")
        position = int(start)
        for _ in range(count):
            position = self._read_entry(position, end)
        if position != end:
            raise FormatError("it is a zip whose directory does not have the length that it states")
        return int(start)

    def _read_entry(self, position: int, end: int) -> int:
        """Notes one record; returns where the next entry begins."""
        self.budget.take(ENTRY_COST)
        if position + ENTRY.size > end:
            raise FormatError("it is a zip whose directory holds fewer records than it states")
        entry = ENTRY.unpack_from(self.view, position)
        (magic, _, _, flags, method, _, _, crc, packed, size, *lengths) = entry[:13]
        name_at = position + ENTRY.size
        extra_at, comment_at, after = (name_at + int(sum(lengths[:n])) for n in (1, 2, 3))
        name = bytes(self.view[name_at:extra_at]).decode()
        size, packed, header = _large(self.view[extra_at:comment_at], size, packed, entry[-1])
        if magic != b"PK\1\2" or after > end or name in self.records:
            raise FormatError(
                f"it is a zip with a damaged directory, or holds the record {name[:99]!r} twice"
            )
        if flags & ENCRYPTED or method not in (STORED, DEFLATED) or (method == STORED and packed != size):
            raise FormatError(
                f"its record {name[:99]!r} is encrypted, or packed in a way that torch does not know"
            )
        if entry[-2] & FOLDER and size:
            raise FormatError(f"its record {name[:99]!r} is called a folder, and holds {size:,} bytes")
        self.records[name] = Record(name, method, crc, packed, size, header)
        return after


def _large(extra: memoryview, *numbers: int) -> tuple[int, ...]:
    """The numbers, those that do not fit into 32 bits from the extra field that holds them.

    Raises:
        FormatError: it is not there.
    """
    if FULL not in numbers:
        return numbers
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        content = extra[position + 4 : position + 4 + size]
        if kind == ZIP64:
            wide = iter(struct.unpack(f"<{len(content) // 8}Q", content[: len(content) // 8 * 8]))
            try:
                return tuple(next(wide) if number == FULL else number for number in numbers)
            except RuntimeError:
                break
        position += 4 + size
    raise FormatError("it is a zip with a record whose size is not stated")
