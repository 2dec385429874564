"""What a person, or a program, is told of a proof of the proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .errors import some
from .records import Proven, Row

SCHEMA_VERSION = 1

# Longer than a column is wide.
SHORT = {"placement": "place", "gradients": "grads", "statistics": "stats", "read-back": "back"}


def proven_as_text(proven: Proven) -> str:
    """Three tables: how many of each fault were caught and located, and by which checks, ours and others'."""
    width = max(len(row.name) for row in proven.rows)
    versions = ", ".join(f"{name} {value}" for name, value in proven.environment["versions"].items())
    return "\n".join(
        [
            f"{proven.network}, on {proven.device}, {versions}",
            "",
            *_table(width, "fault", ("injected", "idle", "caught", "located"), _counted(proven.rows)),
            "",
            *_scores(width, "caught by each check alone", proven.rows, "checks"),
            "",
            *_scores(width, "by the checks that people use", proven.rows, "peers"),
            "",
            f"false alarms: {len(proven.false_alarms)} in {proven.clean_runs} clean runs",
            *(["", f"escaped: {some(proven.escaped, 5)}"] if proven.escaped else []),
            *(["", f"first false alarm: {proven.false_alarms[0]}"] if proven.false_alarms else []),
        ]
    )


def proven_as_json(proven: Proven) -> dict[str, Any]:
    """All of it, with exact counts."""
    status = "proven" if proven.holds else "error"
    return {"schema_version": SCHEMA_VERSION, "status": status, **asdict(proven)}


def _counted(rows: Sequence[Row]) -> Iterator[tuple[str, list[str]]]:
    for row in rows:
        yield row.name, _columns(row.injected, row.nothing, row.caught, row.located)
    sums = [
        sum(column)
        for column in zip(*((r.injected, r.nothing, r.caught, r.located) for r in rows), strict=True)
    ]
    yield "all of them", _columns(*sums)


def _columns(injected: int, nothing: int, caught: int, located: int) -> list[str]:
    return [f"{injected:,}", f"{nothing:,}", _share(caught, injected), _share(located, injected)]


def _scores(width: int, title: str, rows: Sequence[Row], which: str) -> Iterator[str]:
    scores: list[tuple[str, Mapping[str, tuple[int, int]]]] = [
        (row.name, getattr(row, which)) for row in rows
    ]
    names = list(scores[0][1])
    told = [(name, [_share(*found[check]) for check in names]) for name, found in scores if _judged(found)]
    return _table(width, title, names, told)


def _judged(found: Mapping[str, tuple[int, int]]) -> bool:
    return any(of for _, of in found.values())


def _table(
    width: int, title: str, columns: Sequence[str], rows: Iterator[tuple[str, list[str]]] | list[Any]
) -> Iterator[str]:
    labels = [SHORT.get(column, column) for column in columns]
    widths = [max(len(label), 7) + 1 for label in labels]

    def line(name: str, cells: Sequence[str]) -> str:
        return f"{name:<{width}}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))

    yield line(title, labels)
    for name, cells in rows:
        yield line(name, cells)


def _share(caught: int, of: int) -> str:
    """Rounded down: 100% means all of them.  A dash where there was nothing to judge."""
    return f"{int(1000 * caught / of) / 10:g}%" if of else "-"
