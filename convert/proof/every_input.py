"""Compares two recorded networks: equal names are equal results for every input of these shapes.

Where names differ, the first step without a partner says why.  The same operator that takes another tensor,
or another argument, is another function.  Another operator, or sums in another order, may be the same
mathematics with other roundings: then nothing is known, and the numbers decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from torch import Tensor

from ..results import DIFFERS, EQUAL, UNKNOWN, EveryInput
from .comparisons import Step as TrainingStep
from .layers import OUTPUT, Pair
from .naming import Name
from .operators import SUMS
from .recorder import Recorder, Step
from .tally import Tally


class Judgement(NamedTuple):
    """The verdict that names give for one kind of results.

    Attributes:
        verdict: ``"equal"``, ``"differs"`` or ``"unknown"``.
        because: the first step without a partner, or what makes names worthless; None where they are equal.
        where: our layer at that step; empty for what runs before the first.
    """

    verdict: str
    because: str | None = None
    where: str = ""


class Result(NamedTuple):
    """One result of both networks.

    Attributes:
        called: what it is called here.
        ours, theirs: its names.
        is_leaf: whether both are what was loaded, and nothing has written to them.
    """

    called: str
    ours: Name
    theirs: Name
    is_leaf: bool = False


Results = Mapping[str, Sequence[Result]]


def judge_results(ours: Recorder, theirs: Recorder, results: Results) -> Mapping[str, Judgement]:
    """Judges each kind of results of two recorded networks by their names."""
    for whose, recorder in (("the converted network", ours), ("the reference", theirs)):
        if recorder.unknown is not None:
            return dict.fromkeys(results, Judgement(UNKNOWN, f"of {whose}, {recorder.unknown}"))
    others = {kind: _first_other(some) for kind, some in results.items()}
    steps = _judge_steps(ours, theirs) if any(others.values()) else None
    return {
        kind: Judgement(EQUAL) if other is None else steps or _judge_result(other)
        for kind, other in others.items()
    }


def _first_other(results: Sequence[Result]) -> Result | None:
    return next((result for result in results if result.ours != result.theirs), None)


def _judge_steps(ours: Recorder, theirs: Recorder) -> Judgement | None:
    """Judges by the first steps that have no partner; None where each has one."""
    our_step, their_step = _first_alone(ours, theirs), _first_alone(theirs, ours)
    if our_step is None or their_step is None:
        return None
    because = (
        f"at {our_step.layer or 'the input'} it runs {_words(our_step, their_step)}, and the reference, at "
        f"{their_step.layer or 'the input'}, {_words(their_step, our_step)}"
    )
    leaves = [label for label in our_step.leaves if "." in label]
    where = leaves[0].rpartition(".")[0] if leaves else our_step.layer
    same = our_step.operator == their_step.operator and our_step.operator not in SUMS
    return Judgement(DIFFERS if same else UNKNOWN, because, where)


def _judge_result(other: Result) -> Judgement:
    """Judges a result that is another one of the same steps, or a leaf that no step reads."""
    if other.is_leaf:
        return Judgement(DIFFERS, f"it holds another {other.called} than the reference", other.called)
    return Judgement(UNKNOWN, f"{other.called} is another result of the same steps", other.called)


def eval_results(
    recorders: tuple[Recorder, Recorder], logits: Sequence[Tensor], pairs: Sequence[Pair]
) -> Results:
    """Names the logits of both networks, and what their buffers hold after a run in eval mode.

    Args:
        recorders: of our network and the reference.
        logits: of both.
        pairs: their layers.
    """
    ours, theirs = logits
    return {
        "logits": [_result(recorders, OUTPUT, ours, theirs)],
        "buffers": [_result(recorders, *trio) for pair in pairs for trio in pair.buffers()],
    }


def training_results(
    recorders: tuple[Recorder, Recorder], pairs: Sequence[Pair], ours: TrainingStep, theirs: TrainingStep
) -> Results:
    """Names logits, gradients and buffers after a training step of both networks."""
    parameters = [trio for pair in pairs for trio in pair.parameters()]
    return {
        "logits": [_result(recorders, OUTPUT, ours.logits, theirs.logits)],
        "gradients": [
            _result(recorders, name, ours.gradients[mine], theirs.gradients[other])
            for name, mine, other in parameters
        ],
        "buffers": [
            _result(recorders, f"{pair.name}.{field}", buffer, theirs.buffers[pair.theirs][field])
            for pair in pairs
            for field, buffer in ours.buffers[pair.ours].items()
        ],
    }


def _result(recorders: tuple[Recorder, Recorder], called: str, ours: Tensor, theirs: Tensor) -> Result:
    mine, other = recorders
    is_leaf = mine.holds_leaf(ours) and other.holds_leaf(theirs)
    return Result(called, mine.name_of(ours), other.name_of(theirs), is_leaf)


def require_one_function(tally: Tally, judged: Mapping[str, Judgement]) -> None:
    """Raises if an operation takes another tensor or argument than the reference's.

    Raises:
        ParityError: it does.
    """
    for judgement in judged.values():
        if judgement.verdict == DIFFERS:
            raise tally.other_function(judgement.where, str(judgement.because))


def summarise(tally: Tally, *judged: Mapping[str, Judgement]) -> EveryInput:
    """Returns what is known of each kind of results, over all runs.

    Raises:
        ParityError: see ``require_one_function``.
    """
    verdicts: dict[str, str] = {}
    because = None
    for found in judged:
        require_one_function(tally, found)
        for kind, judgement in found.items():
            because = because or judgement.because
            known = verdicts.get(kind, EQUAL) == judgement.verdict == EQUAL
            verdicts[kind] = EQUAL if known else UNKNOWN
    return EveryInput(**verdicts, because=because)


def _first_alone(recorder: Recorder, other: Recorder) -> Step | None:
    """Returns the first step that the other network does not take as well."""
    partners = Counter(map(itemgetter(0), other.steps))
    for step in recorder.steps:
        if not partners[step.name]:
            return step
        partners[step.name] -= 1
    return None


def _words(step: Step, other: Step) -> str:
    """Returns ``"aten.convolution.default of features.conv0.weight"``: what a step does, and to which leaves.

    Its other arguments stand behind, if there are no leaves or ``other`` does the same to the same.
    """
    of = f" of {', '.join(step.leaves)}" if step.leaves else ""
    if of and (step.operator, step.leaves) != (other.operator, other.leaves):
        return step.operator + of
    # A reader learns nothing from the places of tensors and lists among the arguments.
    said = [word for word in step.arguments.split() if not word.startswith(("(", "*"))]
    return step.operator + of + (f" ({', '.join(said)})" if said else "")
