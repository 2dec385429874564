"""Counts the results of the self-test by kind of fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import first_few
from ...shown import Shown
from .exchanges import Counted
from .judging import AFTER, BEFORE, FUNCTIONAL, Judged
from .peers import PEERS, STRICT_LOAD

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
