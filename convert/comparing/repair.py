"""Plans how B becomes A without a loss: by taking each tensor from where it was found."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import RepairError
from ..layouts.rearrange import EXCHANGED, PERMUTED, REORDERED
from ..records import Rewrite
from .compare import HEAD as ANOTHER_HEAD
from .compare import PREPROCESSING, Compared
from .sides import Side, is_of_head
from .tensor_causes import AXES, Finding, repairable
from .tensor_causes import EXCHANGED as EXCHANGE
from .tensor_causes import RENAMED as OTHER_NAMES

# What a repair leaves as it is, or mends.
NO_HINDRANCE = (ANOTHER_HEAD, PREPROCESSING, EXCHANGE, OTHER_NAMES)


def repair_steps(compared: Compared, b: Side) -> list[Rewrite]:
    """Returns the steps on B's tensors, by its own names, that give A's outside the head.

    Raises:
        RepairError: there is nothing to repair, or something that no exchange explains.
    """
    for one in compared.differences:
        if one.cause in NO_HINDRANCE or all(map(is_of_head, one.names)):
            continue
        if not all(_is_mended(name, compared) for name in one.names):
            raise RepairError(
                f"B can't be made A without a loss: {one.text} Convert it as it is, or train it again."
            )
    steps = [*_exchanged(compared, b), *_turned(compared, b)]
    if not steps:
        raise RepairError("There is nothing to repair: every tensor of B outside the head is A's.")
    return steps


def _is_mended(name: str, compared: Compared) -> bool:
    return name in compared.findings and repairable(name, compared.findings[name])


def _exchanged(compared: Compared, b: Side) -> Iterator[Rewrite]:
    """Yields a step for each tensor that stands at another's place."""
    for exchange in compared.exchanges:
        for name, place in exchange.moves.items():
            if b.axes.get(name) != b.axes.get(place):
                raise RepairError(
                    f"{name} and {place} have their axes in different orders in B: rename it there."
                )
            yield Rewrite(EXCHANGED, (b.sources[name],), b.sources[place])


def _turned(compared: Compared, b: Side) -> Iterator[Rewrite]:
    """Yields a step for each tensor whose axes, or entries along one, are in another order."""
    for name, finding in compared.findings.items():
        if not repairable(name, finding):
            continue
        yield _turn(finding, b.sources[name], b.axes.get(name) or tuple(range(len(b.tensors[name].shape))))


def _turn(finding: Finding, source: str, axes: tuple[int, ...]) -> Rewrite:
    """Returns the step on a tensor of the source, whose axes in canonical order are ``axes``."""
    if finding.cause == AXES:
        order = {axes[i]: axes[axis] for i, axis in enumerate(finding.axes)}
        return Rewrite(PERMUTED, (source,), source, transform={"permute": [order[i] for i in sorted(order)]})
    assert finding.order is not None  # every other cause that is repaired has one
    axis, entries = finding.order
    return Rewrite(REORDERED, (source,), source, transform={"axis": axes[axis], "order": list(entries)})
