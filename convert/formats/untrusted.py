"""The tools of every reader of a stranger's file: one error, a budget, and values made safe to show."""

from __future__ import annotations

import struct
from typing import NamedTuple

# The errors of a parser on bytes that are not what they should be.
MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    struct.error,
)
LONGEST_MESSAGE = 500
ALONE = "Save the state dict that you mean, alone, to a file of its own."
AGAIN = "It is damaged or was tampered with: get it again from its source."


class FormatError(ValueError):
    """A file can't be read: says what is wrong, without the file's name, and then what to do."""

    def __init__(self, found: str, advice: str = AGAIN) -> None:
        # It quotes the file, and goes to a terminal.
        short = found if len(found) <= LONGEST_MESSAGE else f"{found[:LONGEST_MESSAGE]}..."
        self.found = short if short.isprintable() else ascii(short)[1:-1]
        super().__init__(f"{self.found}. {advice}")


class SeveralError(FormatError):
    """A file holds several state dicts, which differ; ``keys`` lead to each, for ``key``."""

    def __init__(self, found: str, advice: str, keys: tuple[str, ...]) -> None:
        super().__init__(found, advice)
        self.keys = keys


class Global(NamedTuple):
    """A name that a pickle wants to import, such as ``collections`` and ``OrderedDict``."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def shown(value: object) -> str:
    """A stranger's value in a message: short, escaped, and the same on every run."""
    if isinstance(value, str | bytes):
        return ascii(value[:80])
    if isinstance(value, int | float | Global | None):
        return ascii(str(value)[:80])[1:-1]
    return f"a {type(value).__name__}"


def key_of(value: object) -> str:
    """Returns the key of an object of an old file, which is text or a number.

    Raises:
        FormatError: it is something else, which could take without end to print.
    """
    if not isinstance(value, str | int):
        raise FormatError(f"an object is called {shown(value)}, expected text or a number")
    return str(value)


class Budget:
    """Bounds memory and time before either is spent, whatever a file claims.

    What is made out of a file may take as much again, and ``BASE`` beside that: a byte of a
    pickle can ask for hundreds.
    """

    BASE = 32 << 20

    def __init__(self, size: int) -> None:
        self.left = self.BASE + size

    def take(self, count: int) -> None:
        """Raises FormatError where ``count`` more bytes are too many."""
        self.left -= count
        if self.left < 0:
            raise FormatError("it would take far more memory than its size, as no checkpoint does", ALONE)
