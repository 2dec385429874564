"""Inert records that stand for what a pickle would make: dicts, objects and long text."""

from __future__ import annotations

from typing import Any, NamedTuple

from .raw import Buffer
from .untrusted import FormatError, Global, shown

# Beyond this, floats skip integers.
MOST_EXACT = 1 << 53


class LongText(NamedTuple):
    """Text too long to be a name: in old files the bytes of an array are kept as such."""

    octets: Buffer
    encoding: str


class Dict:
    """The pairs of a dict in their order, and what an OrderedDict has for attributes.

    Keys are not hashed as they are: a file can choose integers that collide.
    """

    __slots__ = ("pairs", "seen", "state")

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []
        self.seen: set[Any] = set()
        self.state: Any = None

    def add(self, key: Any, value: Any) -> None:
        """Raises FormatError where the key is there."""
        token = _token(key)
        if token in self.seen:
            raise FormatError(f"a dict holds the key {shown(key)} twice")
        self.seen.add(token)
        self.pairs.append((key, value))

    def get(self, key: str) -> Any:
        """The value under ``key``, or None."""
        return next((value for name, value in self.pairs if name == key), None)

    def build(self, state: Any) -> None:
        """Keeps what BUILD would set as attributes.  Raises FormatError at a second time."""
        if self.state is not None:
            raise FormatError("an object's attributes are set twice")
        self.state = state


class Stub(Dict):
    """An object of a class that stays a name: how it was made, and what was put into it."""

    __slots__ = ("args", "callee", "items")

    def __init__(self, callee: Any, args: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.callee = callee
        self.args = args
        self.items: list[Any] = []

    def attribute(self, name: str) -> Any:
        """An attribute that BUILD set, or None."""
        return self.state.get(name) if isinstance(self.state, Dict) else None


def _token(key: Any) -> Any:
    """Returns a stand-in for a key in a set: equal for equal keys, with a hash that no file can foresee."""
    if isinstance(key, str | bytes | Global):
        return key
    if isinstance(key, int | float):
        return "number", repr(int(key) if abs(key) < MOST_EXACT and int(key) == key else key)
    return id(key)  # None, or a thing of which no two are equal here
