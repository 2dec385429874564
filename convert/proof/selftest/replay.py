"""Names the recorded steps of a network anew, as if other tensors had been loaded under its names.

A network is recorded once, its leaves named by what they are called.  Each name that was made of others is
then made again, of the bytes of the tensors that stand for the leaves.  That takes milliseconds, and gives
the names that recording the network with these tensors gives.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from torch import Tensor

from ...results import EQUAL
from ..every_input import Judgement, Result, Results, judge_results
from ..naming import (
    DIGEST,
    Made,
    Name,
    digest_of,
    digest_of_bytes,
    geometry_of,
    length_bytes,
    operation_bytes,
)
from ..recorder import Recorder, Step
from ..storages import Contents


class SymbolicRecorder(Recorder):
    """Records a network whose leaves are named by what they are called, whatever they hold."""

    def add_leaves(self, tensors: Mapping[str, Tensor]) -> None:
        """As ``Recorder.add_leaves``, which see."""
        for label, tensor in tensors.items():
            self.leaves.name(tensor, _symbol(label))
        super().add_leaves(tensors)


def _symbol(label: str) -> Name:
    """Returns what stands for the name of a leaf."""
    return digest_of("leaf", [], [label])


class Leaves:
    """Names and geometries of leaves, by what they are called.

    Attributes:
        names: digests of their bytes.
        geometries: how they lie in memory.
        unknown: why names tell nothing, where that is so.
    """

    def __init__(self, tensors: Mapping[str, Tensor], known: Recorder | None = None) -> None:
        """Digests them; ``known`` keeps names of storages, so that none is digested twice."""
        recorder = Recorder(leaves=Contents() if known is None else known.leaves)
        recorder.add_leaves(tensors)
        self.names = {label: recorder.name_of(tensor)[:DIGEST] for label, tensor in tensors.items()}
        self.geometries = {label: geometry_of(tensor) for label, tensor in tensors.items()}
        self.unknown = recorder.unknown


class _Made:
    """How a name is made of others, prepared so that little is left to do where it is made anew.

    Attributes:
        made: how it was made.
        reads: the names that it is made of and that may be others, as they were recorded.
    """

    __slots__ = ("_between", "_operation", "made", "reads")

    def __init__(self, made: Made, known: Container[Name]) -> None:
        """Joins what ``digest_of`` digests beside the names that are ``known``."""
        self.made = made
        self.reads: list[Name] = []
        self._operation = operation_bytes(made.operator, made.words)
        self._between = [self._operation]
        for read in made.reads:
            self._between[-1] += length_bytes(read)
            if read[:DIGEST] in known:
                self.reads.append(read[:DIGEST])
                self._between.append(read[DIGEST:])
            else:
                self._between[-1] += read

    def anew(self, names: Mapping[Name, Name]) -> Name:
        """Makes it of other names, as ``Names.make`` does."""
        if self.made.turns:
            reads = [names.get(read[:DIGEST], read[:DIGEST]) + read[DIGEST:] for read in self.made.reads]
            parts = [part for read in sorted(reads) for part in (length_bytes(read), read)]
            return digest_of_bytes(b"".join([self._operation, *parts]))
        parts = self._between[:1]
        for read, after in zip(self.reads, self._between[1:], strict=True):
            parts += (names[read], after)
        return digest_of_bytes(b"".join(parts))


class Replay:
    """The recorded steps of our network, in eval or in training, and what the reference's came to.

    It holds no tensor, and goes to other processes.

    Attributes:
        unknown: the kinds of results whose names don't tell of the sound network that it is the reference's.
    """

    def __init__(self, ours: SymbolicRecorder, theirs: Recorder, results: Results, sound: Leaves) -> None:
        """Takes over what was recorded.

        Args:
            ours: our network.
            theirs: the reference, by the bytes of its leaves.
            results: those of both, ours by symbols.
            sound: the leaves of our network and its input, as they were when it ran.
        """
        self._unknown, self._geometries = ours.unknown or sound.unknown, sound.geometries
        self._theirs = Recorder(steps=theirs.steps, unknown=theirs.unknown)
        self._sound = {_symbol(label): name for label, name in sound.names.items()}
        known = {*self._sound, *(made.name for made in ours.names.made)}
        self._made = [_Made(made, known) for made in ours.names.made]
        # Before a leaf is read, nothing is made of it.
        self._first = dict.fromkeys(self._sound, len(self._made))
        for i, made in reversed(list(enumerate(self._made))):
            self._first.update({read: i for read in made.reads if read in self._first})
        self._make_anew(self._sound, 0)
        # The name of each recorded result, beside its name in the sound network.
        self._steps = [(step.name, step._replace(name=self._sound[step.name])) for step in ours.steps]
        self._results = {
            kind: [(one.ours[:DIGEST], _anew(one, self._sound[one.ours[:DIGEST]])) for one in some]
            for kind, some in results.items()
        }
        # Results that are not known to be equal without a fault tell of no fault either.
        judged = self.judge(sound)
        self.unknown = frozenset(kind for kind in results if judged[kind].verdict != EQUAL)
        self._results = {kind: some for kind, some in self._results.items() if kind not in self.unknown}

    def is_sound(self, given: Leaves) -> bool:
        """Whether these tensors are those that the sound network has."""
        return all(self._sound[_symbol(label)] == name for label, name in given.names.items())

    def judge(self, given: Leaves) -> Mapping[str, Judgement]:
        """Judges our network, into which other tensors are loaded under some names, against the reference."""
        ours, results = self.named(given)
        return judge_results(ours, self._theirs, results)

    def named(self, given: Leaves) -> tuple[Recorder, Results]:
        """Returns what recording our network with these tensors gives: its steps, and names of results."""
        changed = {_symbol(label): name for label, name in given.names.items()}
        names = {**self._sound, **changed}
        self._make_anew(names, min(self._first[symbol] for symbol in changed))
        steps = [
            step if names[symbol] == step.name else Step(names[symbol], *step[1:])
            for symbol, step in self._steps
        ]
        results = {
            kind: [
                one if names[symbol] == self._sound[symbol] else _anew(one, names[symbol])
                for symbol, one in some
            ]
            for kind, some in self._results.items()
        }
        unknown = self._unknown or given.unknown or self._lies_otherwise(given)
        return Recorder(steps=steps, unknown=unknown), results

    def _make_anew(self, names: dict[Name, Name], start: int) -> None:
        for made in self._made[start:]:
            names[made.made.name] = made.anew(names)

    def _lies_otherwise(self, given: Leaves) -> str | None:
        """Says which leaf lies otherwise in memory than the recorded one: how it does is a part of names."""
        for label, geometry in given.geometries.items():
            if geometry != self._geometries[label]:
                return f"{label} lies otherwise in memory than what was recorded"
        return None


def _anew(result: Result, content: Name) -> Result:
    """Returns a result of ours with another name of what it holds."""
    return result._replace(ours=content + result.ours[DIGEST:])
