"""Finds tensors that stand at one another's places, and whole modules of which this is so."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from .sides import COUNTER, Tensor

Tensors = Mapping[str, Tensor]


class Exchange(NamedTuple):
    """Tensors of which each stands at the place of the next, and the last at that of the first.

    Attributes:
        names: of tensors, or of two modules.
        moves: under each name B holds what A holds under the other.
    """

    names: tuple[str, ...]
    moves: Mapping[str, str]


def find_exchanges(a: Tensors, b: Tensors, differing: Collection[str]) -> list[Exchange]:
    """Returns the exchanges among the tensors that differ, the largest modules first.

    Args:
        a, b: both networks, by canonical names.
        differing: names of tensors that both have and that differ.
    """
    counters = [name for name in differing if name.endswith(COUNTER)]
    left = _closed(_paired(a, b, [name for name in differing if not name.endswith(COUNTER)]))
    found = []
    for one, other in sorted(set(_modules(left)), key=lambda pair: pair[0].count(".")):
        if moves := _between(one, other, a, b, left):
            found.append(Exchange((one, other), moves | _between_counters(one, other, a, b)))
            left = {name: place for name, place in left.items() if name not in moves}
    left |= _closed(_paired(a, b, counters)) if len(counters) == 2 else {}
    return found + [Exchange(tuple(moves), moves) for moves in _cycles(left)]


def find_copies(a: Tensors, b: Tensors, differing: Collection[str]) -> dict[str, str]:
    """Returns for each tensor of B that A has under another name what that is."""
    names = {tensor.key: name for name, tensor in reversed(list(a.items()))}
    found = {name: names.get(b[name].key) for name in differing if not name.endswith(COUNTER)}
    return {name: other for name, other in found.items() if other is not None}


def _paired(a: Tensors, b: Tensors, differing: Collection[str]) -> dict[str, str]:
    """Returns under which name A holds what B holds under each; in pairs, where tensors are equal."""
    places: dict[tuple[object, ...], list[str]] = {}
    for name in differing:
        places.setdefault(a[name].key, []).append(name)
    found: dict[str, str] = {}
    for name in differing:
        free = places.get(b[name].key)
        if free:
            back = [place for place in free if b[place].key == a[name].key]
            found[name] = (back or free)[0]
            free.remove(found[name])
    return found


def _closed(moves: Mapping[str, str]) -> dict[str, str]:
    """Returns the moves that are a permutation: what goes away from a place comes to another."""
    left = dict(moves)
    while lost := [name for name in left if left[name] not in left]:
        for name in lost:
            del left[name]
    return left


def _modules(moves: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields each two modules, which may be exchanged as a whole, of the tensors that were moved."""
    for name, place in moves.items():
        if moves.get(place) != name or name > place:
            continue
        one, other = name.split("."), place.split(".")
        while len(one) == len(other) > 1 and one[-1] == other[-1]:
            one.pop()
            other.pop()
            yield ".".join(one), ".".join(other)


def _between(one: str, other: str, a: Tensors, b: Tensors, moves: Mapping[str, str]) -> dict[str, str]:
    """Returns the moves of two modules that were exchanged as a whole; empty if they were not."""
    places = {f"{other}{name.removeprefix(one)}": name for name in _within(one, a)}
    if places.keys() != set(_within(other, a)) or not b.keys() >= {*places, *places.values()}:
        return {}
    moved: dict[str, str] = {}
    for place, name in places.items():
        if moves.get(name) == place and moves.get(place) == name:
            moved |= {name: place, place: name}
        elif len({a[name].key, a[place].key, b[name].key, b[place].key}) != 1:
            return {}
    return moved if len(moved) > 2 else {}


def _between_counters(one: str, other: str, a: Tensors, b: Tensors) -> dict[str, str]:
    """Returns the moves of counters that were exchanged along with their norms."""
    moved: dict[str, str] = {}
    for name in [name for name in a.keys() & b.keys() if name.endswith(COUNTER)]:
        place = f"{other}{name.removeprefix(one)}"
        if name.startswith(f"{one}.") and place in a and place in b and a[name].key != b[name].key:
            crossed = (a[name].key, a[place].key) == (b[place].key, b[name].key)
            moved |= {name: place, place: name} if crossed else {}
    return moved


def _within(module: str, tensors: Tensors) -> list[str]:
    """Returns the names of a module's tensors, without counters."""
    names = [name for name in tensors if not name.endswith(COUNTER)]
    return [name for name in names if name.startswith(f"{module}.")]


def _cycles(moves: Mapping[str, str]) -> Iterator[dict[str, str]]:
    left = dict(moves)
    while left:
        name, place = next(iter(left.items()))
        cycle = {}
        while name in left:
            place = left.pop(name)
            cycle[name] = place
            name = place
        yield cycle
