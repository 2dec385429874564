"""Unpacks gzip, as checkpoints are sent: no more than the budget pays for.

Source of the layout: RFC 1952.
"""

from __future__ import annotations

import zlib

from .raw import Whole
from .untrusted import Budget, FormatError

MAGIC = b"\x1f\x8b"
# Bytes that are read and written at once; and the cost of a member, which may hold nothing.
CHUNK, MEMBER = 1 << 16, 1 << 12
WITH_HEADER = 31
UNPACK = "Unpack it with gunzip, and name what comes out."


def unpack(data: Whole, budget: Budget) -> bytearray:
    """The content of all members, whose sums and lengths agree.

    Raises:
        FormatError: it is cut off or damaged, or unpacks to far more than its size.
    """
    content, view, position = bytearray(), memoryview(data), 0
    while position < len(view) and view[position]:
        position += _unpack_member(view[position:], content, budget)
    if any(view[position:]):
        raise FormatError(f"it is a gzip file, and goes on after its end, at byte {position}")
    return content


def _unpack_member(view: memoryview, content: bytearray, budget: Budget) -> int:
    """Adds what one member holds; returns its length."""
    budget.take(MEMBER)
    stream, position = zlib.decompressobj(WITH_HEADER), 0
    waiting: bytes | memoryview = b""
    while not stream.eof:
        if not waiting:
            waiting = view[position : position + CHUNK]
            position += len(waiting)
            if not waiting:
                raise FormatError("it is a gzip file that is cut off")
        try:
            part = stream.decompress(waiting, 16 * CHUNK)
        except zlib.error as error:
            raise FormatError(f"it is a gzip file that is damaged: {error}") from error
        if len(part) > budget.left:
            raise FormatError("it is a gzip file that unpacks to far more than its size", UNPACK)
        budget.take(len(part))
        content += part
        waiting = stream.unconsumed_tail
    return position - len(stream.unused_data)
