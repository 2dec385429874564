"""The order of the self-test's steps, by which the rate of a part is that of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...records import Progress

# The kind of a step, and what does it.
Step = tuple[str, Callable[[], Any]]


def do_in_turn(
    groups: Sequence[Sequence[Step]], progress: Progress | None
) -> Iterator[list[tuple[str, Any]]]:
    """Does every step, and yields for each group the kinds of its steps and what they gave, in its order.

    A step of one kind takes a hundred times as long as one of another. Done one kind after the other, no rate
    would tell what is left.

    Args:
        groups: the steps.
        progress: wraps the numbers of the steps, and may leave some out.
    """
    steps = [step for group in groups for step in group]
    order = in_turn([kind for kind, _ in steps])
    given = {i: steps[i][1]() for i in (order if progress is None else progress(order, "self-test"))}
    begin = 0
    for group in groups:
        end = begin + len(group)
        yield [(steps[i][0], given[i]) for i in range(begin, end) if i in given]
        begin = end


def in_turn(kinds: Sequence[str]) -> list[int]:
    """Returns the positions in an order of which every part has of each kind what is its share.

    >>> in_turn(["a", "a", "a", "b"])
    [0, 1, 3, 2]
    """
    counts, seen = Counter(kinds), Counter[str]()
    places = []
    for i, kind in enumerate(kinds):
        places.append(((seen[kind] + 0.5) / counts[kind], i))
        seen[kind] += 1
    return [i for _, i in sorted(places)]
