"""The stages and layers of two networks: how many of their tensors are equal, and how far they are apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt

from .sides import Side
from .values import FLOATS, distance, squares

Sums = dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Part:
    """A stage or a layer of two networks.

    Attributes:
        name: such as ``"stem"``, ``"denseblock1"``, ``"transition1"``, ``"norm5"`` or ``"classifier"``, or
            the canonical name of a layer.
        tensors: number of those that both have.
        equal: number of those that agree in every bit.
        distance: the norm of the difference over that of A's numbers, counters aside; None where it can't be
            said.
    """

    name: str
    tensors: int
    equal: int
    distance: float | None


def sums_of(a: Side, b: Side, shared: Collection[str], differing: Collection[str]) -> Sums:
    """Returns the sums of squares of each tensor of a stage that differs; counters aside."""
    stages = {stage_of(name) for name in differing}
    found: Sums = {}
    for name in shared:
        x, y = a.tensors[name], b.tensors[name]
        if stage_of(name) in stages and {x.dtype, y.dtype} <= set(FLOATS):
            found[name] = squares(x, y)
    return found


def parts_of(
    shared: Sequence[str], differing: Collection[str], sums: Sums, part_of: Callable[[str], str]
) -> tuple[Part, ...]:
    members: dict[str, list[str]] = {}
    for name in shared:
        members.setdefault(part_of(name), []).append(name)
    other = set(differing)
    return tuple(
        Part(part, len(names), sum(name not in other for name in names), distance_of(names, sums))
        for part, names in members.items()
    )


def distance_of(names: Collection[str], sums: Sums) -> float | None:
    """Returns the relative distance of several tensors; 0 where none of them differs."""
    known = [sums[name] for name in names if name in sums]
    return distance(sum(apart for apart, _, _ in known), sum(size for _, size, _ in known))


def cosine_of(names: Collection[str], sums: Sums) -> float:
    """Returns the cosine of the angle between both sides' numbers; 0 where it can't be said."""
    # A norm's weights are all near 1, and so alike in any two networks.
    matrices = [name for name in names if not re.search(r"\.norm|bias$", name)]
    apart, x, y = (sum(sums[name][i] for name in matrices or names if name in sums) for i in range(3))
    known = isfinite(apart) and 0 < x * y < inf
    return (x + y - apart) / (2 * sqrt(x * y)) if known else 0.0


def stage_of(name: str) -> str:
    parts = name.split(".")
    return "stem" if parts[1] in ("conv0", "norm0") else parts[parts[0] == "features"]


def layer_of(name: str) -> str:
    return name.rpartition(".")[0]
