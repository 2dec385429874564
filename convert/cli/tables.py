"""The tables of the self-test, and of what was measured for a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import first_few
from .columns import table, wrapped

if TYPE_CHECKING:
    from ..proof.selftest.counting import FaultKind, SelfTest

# Longer than a column is wide.
SHORT = {"placement": "place", "gradients": "grads", "statistics": "stats", "read-back": "back"}


def self_test_as_text(tested: SelfTest) -> str:
    """The verdict and three tables: how many of each fault were caught and located, and by which checks."""
    injected = sum(row.injected for row in tested.rows)
    versions = ", ".join(f"{name} {value}" for name, value in tested.environment["versions"].items())
    escaped = (
        f"{len(tested.escaped):,} of {injected:,} injected faults escaped"
        if tested.escaped
        else (f"all of {injected:,} injected faults were caught, and found where they are")
    )
    clean = f"false alarms: {len(tested.false_alarms)} in {tested.clean_runs} clean runs"
    lines = [
        *wrapped(f"{escaped}; {clean}"),
        *wrapped(f"{tested.network}, on {tested.device}, {versions}"),
        "",
        *table("fault", ("injected", "idle", "caught", "located"), list(_counted(tested.rows))),
        "",
        *_table_of_checks("caught by each check alone", tested.rows, "checks"),
        "",
        *_table_of_checks("by the checks that people use", tested.rows, "peers"),
    ]
    if tested.escaped:
        lines += ["", *wrapped(f"escaped: {first_few(tested.escaped, 5)}")]
    if tested.false_alarms:
        lines += ["", *wrapped(f"first false alarm: {tested.false_alarms[0]}")]
    return "\n".join(lines)


def measured_table(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of errors against float64; None is infinite."""
    if not measured:
        return []
    labels = ("ours", "theirs", "bound")
    rows = [
        (f"    {one['setting']}{'' if _tells(one) else ' *'}", [_number(one[label]) for label in labels])
        for one in measured
    ]
    lines = list(table("  error of the logits", labels, rows))
    if not all(map(_tells, measured)):
        lines += wrapped("  * in this setting rounding alone may be as large as the logits: it shows nothing")
    return lines


def _tells(one: Mapping[str, Any]) -> bool:
    return one["bound"] is not None and one["bound"] < one["spread"]


def _number(value: float | None) -> str:
    return "infinite" if value is None else format(value, ".2e")


def _counted(rows: Sequence[FaultKind]) -> Iterator[tuple[str, list[str]]]:
    for row in rows:
        yield row.name, _columns(row.injected, row.nothing, row.caught, row.located)
    sums = [
        sum(column)
        for column in zip(*((r.injected, r.nothing, r.caught, r.located) for r in rows), strict=True)
    ]
    yield "all of them", _columns(*sums)


def _columns(injected: int, nothing: int, caught: int, located: int) -> list[str]:
    return [f"{injected:,}", f"{nothing:,}", _share(caught, injected), _share(located, injected)]


def _table_of_checks(title: str, rows: Sequence[FaultKind], which: str) -> Iterator[str]:
    counts: list[tuple[str, Mapping[str, tuple[int, int]]]] = [
        (row.name, getattr(row, which)) for row in rows
    ]
    names = list(counts[0][1])
    lines = [(name, [_share(*found[check]) for check in names]) for name, found in counts if _judged(found)]
    return table(title, [SHORT.get(name, name) for name in names], lines)


def _judged(found: Mapping[str, tuple[int, int]]) -> bool:
    return any(of for _, of in found.values())


def _share(caught: int, of: int) -> str:
    """Rounded down: 100% means all of them.  A dash where there was nothing to judge."""
    return f"{int(1000 * caught / of) / 10:g}%" if of else "-"
