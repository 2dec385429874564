"""Compares two recorded networks: equal names are equal results for every input of these shapes.

Where names differ, the first step without a partner says why.  The same operator that takes another tensor,
or another argument, is another function.  Another operator, or sums in another order, may be the same
mathematics with other roundings: then nothing is known, and the numbers decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from ..results import DIFFERS, EQUAL, UNKNOWN, EveryInput
from .comparisons import Step as TrainingStep
from .layers import Pair
from .naming import DIGEST, Name
from .operators import SUMS
from .recorder import Recorder, Step
from .tally import Tally


class Judgement(NamedTuple):
    """What names tell of one kind of results.

    Attributes:
        verdict: ``"equal"``, ``"differs"`` or ``"unknown"``.
        because: the first step without a partner, or what makes names worthless; None where they are equal.
        where: our layer at that step; empty for what runs before the first.
    """

    verdict: str
    because: str | None = None
    where: str = ""


def judge_names(
    ours: Recorder, theirs: Recorder, our_names: Sequence[Name], their_names: Sequence[Name]
) -> Judgement:
    """Judges results of two recorded networks, which are given in one order, by their names."""
    for whose, recorder in (("the converted network", ours), ("the reference", theirs)):
        if recorder.unknown is not None:
            return Judgement(UNKNOWN, f"of {whose}, {recorder.unknown}")
    if list(our_names) == list(their_names):
        return Judgement(EQUAL)
    our_step, their_step = _first_alone(ours, theirs), _first_alone(theirs, ours)
    if our_step is None or their_step is None:
        return Judgement(UNKNOWN, "the results are other ones of the same steps")
    because = (
        f"behind {our_step.layer or 'the input'} it runs {_words(our_step, ours)}, and the reference, behind "
        f"{their_step.layer or 'the input'}, {_words(their_step, theirs)}"
    )
    leaves = [label for label in _leaves(our_step, ours) if "." in label]
    where = leaves[0].rpartition(".")[0] if leaves else our_step.layer
    same = our_step.operator == their_step.operator and our_step.operator not in SUMS
    return Judgement(DIFFERS if same else UNKNOWN, because, where)


def judge_eval(
    recorders: tuple[Recorder, Recorder], logits: Sequence[Tensor], pairs: Sequence[Pair]
) -> Mapping[str, Judgement]:
    """Judges the logits of both networks, and what their buffers hold after a run in eval mode.

    Args:
        recorders: of our network and the reference.
        logits: of both.
        pairs: their layers.
    """
    buffers = [(ours, theirs) for pair in pairs for _, ours, theirs in pair.buffers()]
    return {
        "logits": _judge(recorders, [tuple(logits)]),
        "buffers": _judge(recorders, buffers),
    }


def judge_training(
    recorders: tuple[Recorder, Recorder], pairs: Sequence[Pair], ours: TrainingStep, theirs: TrainingStep
) -> Mapping[str, Judgement]:
    """Judges logits, gradients and buffers after a training step of both networks."""
    parameters = [(mine, other) for pair in pairs for _, mine, other in pair.parameters()]
    gradients = [(ours.gradients[mine], theirs.gradients[other]) for mine, other in parameters]
    buffers = [
        (buffer, theirs.buffers[pair.theirs][field])
        for pair in pairs
        for field, buffer in ours.buffers[pair.ours].items()
    ]
    return {
        "logits": _judge(recorders, [(ours.logits, theirs.logits)]),
        "gradients": _judge(recorders, gradients),
        "buffers": _judge(recorders, buffers),
    }


def summarise(tally: Tally, *judged: Mapping[str, Judgement]) -> EveryInput:
    """Returns what is known of each kind of results, over all runs.

    Raises:
        ParityError: an operation takes another tensor or argument than the reference's.
    """
    verdicts: dict[str, str] = {}
    because = None
    for found in judged:
        for kind, judgement in found.items():
            if judgement.verdict == DIFFERS:
                raise tally.other_function(judgement.where, str(judgement.because))
            because = because or judgement.because
            known = verdicts.get(kind, EQUAL) == judgement.verdict == EQUAL
            verdicts[kind] = EQUAL if known else UNKNOWN
    return EveryInput(**verdicts, because=because)


def _judge(recorders: tuple[Recorder, Recorder], results: Sequence[tuple[Tensor, ...]]) -> Judgement:
    ours, theirs = recorders
    names = [(ours.name_of(mine), theirs.name_of(other)) for mine, other in results]
    return judge_names(ours, theirs, [mine for mine, _ in names], [other for _, other in names])


def _first_alone(recorder: Recorder, other: Recorder) -> Step | None:
    """Returns the first step that the other network does not take as well."""
    partners = Counter(step.name for step in other.steps)
    for step in recorder.steps:
        if not partners[step.name]:
            return step
        partners[step.name] -= 1
    return None


def _words(step: Step, recorder: Recorder) -> str:
    """``"aten.convolution.default of features.conv0.weight"``: what a step does, and to which leaves."""
    leaves = _leaves(step, recorder)
    return step.operator + (f" of {', '.join(leaves)}" if leaves else f" ({step.arguments})")


def _leaves(step: Step, recorder: Recorder) -> list[str]:
    """Returns what the leaves are called that a step reads."""
    return [recorder.labels[read[:DIGEST]] for read in step.reads if read[:DIGEST] in recorder.labels]
