"""Takes off what some tools append to a file: the SHA-1 of all before it, with a mark of a few bytes."""

from __future__ import annotations

import hashlib

from .raw import Whole
from .untrusted import Budget

DIGEST, LONGEST_MARK = 20, 16


def without_digest(data: Whole, budget: Budget) -> bytes | None:
    """The file without its digest, which must be right; None where it ends in none.

    The mark stands on either side of the digest, and belongs to what is taken off.
    """
    first = max(len(data) - DIGEST - LONGEST_MARK, 1)
    view = memoryview(data)
    running = hashlib.sha1(view[:first], usedforsecurity=False)
    for end in range(first, len(data) - DIGEST + 1):
        if running.digest() in bytes(view[end:]):
            budget.take(end)
            return bytes(view[:end])
        running.update(view[end : end + 1])
    return None
