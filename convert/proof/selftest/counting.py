"""Counts the results of the self-test by kind of fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...columns import table, wrapped
from ...errors import first_few
from ...shown import Shown
from .exchanges import Counted
from .judging import AFTER, BEFORE, FUNCTIONAL, Judged
from .peers import PEERS, STRICT_LOAD

# An exported network has one check of its own, of which there is no table.
CHECKS = (*BEFORE, "bytes", *FUNCTIONAL, *AFTER)


@dataclass(frozen=True)
class FaultKind:
    """All faults of one kind, counted.

    Attributes:
        name: the kind.
        injected: how many there were, those that change nothing left out.
        nothing: how many change nothing.
        caught: how many were found without comparing bytes through the map.
        located: how many of these the message pointed at.
        checks: for each check, how many it caught alone, of how many it could judge.
        peers: the same for other people's checks.
    """

    name: str
    injected: int
    nothing: int
    caught: int
    located: int
    checks: Mapping[str, tuple[int, int]]
    peers: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, repr=False)
class SelfTest(Shown):
    """The result of the self-test.

    Attributes:
        network: what the faults were injected into.
        device: ``"cpu"``, or the name of the GPU.
        rows: one for each kind of fault.
        clean_runs: conversions without a fault.
        false_alarms: messages of those that failed.
        escaped: name and places of each fault that was not caught, or not located.
        environment: versions and flags.
    """

    network: str
    device: str
    rows: tuple[FaultKind, ...]
    clean_runs: int
    false_alarms: tuple[str, ...]
    escaped: tuple[str, ...]
    environment: Mapping[str, Any]

    def __str__(self) -> str:
        return self_test_as_text(self)

    def _shown(self) -> dict[str, object]:
        """Returns what was tested, and what was found."""
        return {
            "network": self.network,
            "device": self.device,
            "faults": f"{sum(row.injected for row in self.rows):,} of {len(self.rows)} kinds",
            "escaped": len(self.escaped),
            "false alarms": f"{len(self.false_alarms)} in {self.clean_runs} clean runs",
        }

    @property
    def holds(self) -> bool:
        """Whether everything was caught and located, and nothing else was."""
        return not self.escaped and not self.false_alarms


def count_kinds(judged: Iterable[Judged]) -> Iterator[FaultKind]:
    """Yields one record for each kind of fault, in the order of the catalogue."""
    kinds: dict[str, list[Judged]] = {}
    for one in judged:
        kinds.setdefault(one.fault.name, []).append(one)
    for name, all_of_kind in kinds.items():
        real = [one for one in all_of_kind if not one.fault.nothing]
        yield FaultKind(
            name=name,
            injected=len(real),
            nothing=len(all_of_kind) - len(real),
            caught=sum(bool(one.shown) for one in real),
            located=sum(one.located for one in real),
            checks={check: _count([one.findings for one in real], check) for check in CHECKS},
            peers={peer: _count([one.peers for one in real], peer) for peer in (STRICT_LOAD, *PEERS)},
        )


def count_exchanges(counted: Mapping[str, Counted]) -> Iterator[FaultKind]:
    """Yields one record for each set of exchanges, which names alone judged."""
    for name, found in counted.items():
        yield FaultKind(
            name=name,
            injected=found.injected,
            nothing=found.nothing,
            caught=found.caught,
            located=found.located,
            checks={**dict.fromkeys(CHECKS, (0, 0)), "names": (found.caught, found.injected)},
            peers=dict.fromkeys((STRICT_LOAD, *PEERS), (0, 0)),
        )


def _count(verdicts: Sequence[Mapping[str, object]], check: str) -> tuple[int, int]:
    could = [found[check] for found in verdicts if check in found]
    return sum(map(bool, could)), len(could)


def escaped_faults(judged: Iterable[Judged]) -> Iterator[str]:
    for one in judged:
        if not one.fault.nothing and not one.located:
            found = f"shown as: {' '.join(map(str, one.shown))}" if one.shown else "not caught"
            yield f"{one.fault.name} at {first_few(sorted(one.fault.where))}: {found}"


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
