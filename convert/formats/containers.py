"""Walks through what a file holds: every dict and module that may be the state dict, and what leads there.

State dicts lie in dicts with keys of any kind, in lists and tuples, and in attributes of objects, such as a
Learner's ``model`` or the ``ema`` of what averages a network.  Each thing is visited once, and paid for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .modules import Values, is_module, module_values, tensor_in
from .objects import NumpyArray
from .stand_ins import Dict, Stub
from .unpickle import PAIR
from .untrusted import Budget

# How deep a state dict may lie; VISSL's lies under four keys.
DEEPEST = 16
# Looking at a value once costs as much as a reference to it.
REFERENCE = 16
# Names of optimizers, whose moments have the shapes of weights.
OPTIMIZERS = ("optim", "opt_state")
MOST_PARTS = 4
Path = tuple[str, ...]


class Candidate(NamedTuple):
    """A dict or module that may be the state dict.

    Attributes:
        path: what leads there from the file's own object.
        values: its names and values.
        module: the module whose tensors they are; None for a dict.
    """

    path: Path
    values: Values
    module: Stub | None = None

    @property
    def key(self) -> str:
        """Its path as ``key`` takes it."""
        return ".".join(self.path)


def candidates(root: Any, budget: Budget) -> Iterator[Candidate]:
    """Yields every dict and every module, the outer ones first; what lies within a module is its own."""
    seen: set[int] = set()
    level: list[tuple[Path, Any]] = [((), root)]
    for _ in range(DEEPEST):
        below: list[tuple[Path, Any]] = []
        for path, value in level:
            if id(value) in seen or _is_closed(value):
                continue
            seen.add(id(value))
            if is_module(value, budget):
                yield Candidate(path, list(module_values(value, budget)), value)
                continue
            if isinstance(value, Dict):
                yield Candidate(path, value.pairs)
            below += _within(path, value, budget)
        level = below


def _within(path: Path, value: Any, budget: Budget) -> Iterator[tuple[Path, Any]]:
    """Yields what a thing holds that may hold something itself, and what leads there."""
    for pairs in _parts(value):
        budget.take(REFERENCE * len(pairs))
        for position, (key, inner) in enumerate(pairs):
            if isinstance(inner, NumpyArray):
                inner = inner.objects
            if not isinstance(inner, Dict | list | tuple) or _is_tensor(inner):
                continue
            part = _part(key, position)
            if not part.lower().startswith(OPTIMIZERS):
                budget.take(PAIR + len(part) + REFERENCE * len(path))
                yield (*path, part), inner


def _parts(value: Any) -> Iterator[Values]:
    """Yields the pairs of a dict, and those of an object's attributes; what is in a row is numbered."""
    if isinstance(value, list | tuple):
        yield list(enumerate(value))
        return
    yield value.pairs
    if isinstance(value, Stub):
        # With __slots__ the state is a pair of dicts.
        states = value.state if isinstance(value.state, tuple) else (value.state,)
        for state in states[:2]:
            yield state.pairs if isinstance(state, Dict) else []
        yield list(enumerate(value.args))
        yield list(enumerate(value.items))


def _part(key: Any, position: int) -> str:
    """Returns how a key is written; its position where it is no text and no number, nor a few of them."""
    if isinstance(key, str):
        return key
    if isinstance(key, int | float | None):
        return str(key)
    if isinstance(key, bytes):
        return ascii(key)[2:-1]
    if isinstance(key, tuple) and len(key) <= MOST_PARTS and all(isinstance(part, str | int) for part in key):
        return ",".join(map(str, key))
    return str(position)


def _is_tensor(value: Any) -> bool:
    """A broken tensor is a tuple."""
    return tensor_in(value) is not None


def _is_closed(value: Any) -> bool:
    """Whether nothing in it is looked at: an optimizer or its state, or a module that is broken.

    The moments of an optimizer are no network, whatever they look like.
    """
    attributes = value.state if isinstance(value, Stub) and not value.pairs else value
    if not isinstance(attributes, Dict):
        return False
    names = {key for key, _ in attributes.pairs if isinstance(key, str)}
    parts = attributes.get("_modules") if value is not attributes else None
    return {"state", "param_groups"} <= names or not isinstance(parts, Dict | None)
