"""A training step of the owner's own network beside ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet

from ..errors import first_few, is_out_of_memory
from ..results import DIFFERS, EQUAL, UNKNOWN
from ..tensors import same_bits
from .comparisons import Step, take_step
from .every_input import Judgement, Result, judge_results
from .naming import state_of_generators
from .own_runs import OwnPart, run_ours
from .recorder import Recorder
from .tolerance import factor, largest_error


class Trained(NamedTuple):
    """A network after one training step.

    Attributes:
        output: what was compared of it.
        gradients: of its parameters, by its own names.
        buffers: as the step left them, by its own names.
        recorder: of the step.
        draws: whether it drew random numbers, so that another step computes something else.
    """

    output: Tensor
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    recorder: Recorder
    draws: bool = False


def train_both(ours: DenseNet, theirs: OwnPart, x: Tensor) -> tuple[Trained, Trained]:
    """Takes a training step with each on ``[N, C, H, W]``."""
    other, recorder = train_theirs(theirs, x), Recorder()
    step = take_step(ours, lambda: run_ours(ours, x, other.output, recorder).output, recorder=recorder)
    return _trained(ours, step, recorder), other


def train_theirs(theirs: OwnPart, x: Tensor) -> Trained:
    """Takes a training step with the owner's network, or with the module of it that is compared."""
    recorder, before = Recorder(), state_of_generators()
    step = take_step(
        theirs.part,
        lambda: theirs.run(x, recorder).output,
        recorder=recorder,
        parameters=theirs.parameters(),
    )
    trained = _trained(theirs.own.network, step, recorder)
    return trained._replace(draws=state_of_generators() != before)


def train_exactly(theirs: OwnPart, x: Tensor) -> Trained | None:
    """Takes the owner's step in float64, or returns None where its code does not run in that."""
    try:
        return train_theirs(theirs.in_float64(), x.double())
    except Exception as error:  # whatever the owner's code raises
        if is_out_of_memory(error):
            raise
        return None


def _trained(network: nn.Module, step: Step, recorder: Recorder) -> Trained:
    gradients = {
        name: step.gradients[one] for name, one in network.named_parameters() if one in step.gradients
    }
    buffers = {
        f"{path}.{field}" if path else field: buffer
        for path, module in network.named_modules()
        for field, buffer in step.buffers.get(module, {}).items()
    }
    return Trained(step.logits, gradients, buffers, recorder)


def judge_steps(
    ours: Trained,
    theirs: Trained,
    take_exact: Callable[[], Trained | None],
    pairs: Sequence[tuple[str, str]],
) -> tuple[Judgement, Judgement]:
    """Judges the gradients and the buffers of both by names, and where these leave it open by the numbers.

    Args:
        ours, theirs: in one dtype.
        take_exact: takes the owner's step in float64; gives None where its code does not run in that.
        pairs: the owner's name and ours of each tensor.
    """
    steps = ours, theirs
    gradients = _judge(steps, [step.gradients for step in steps], pairs)
    buffers = _judge(steps, [step.buffers for step in steps], pairs)
    if DIFFERS not in (gradients.verdict, buffers.verdict):
        return gradients, buffers
    exact = None if theirs.draws else take_exact()
    if exact is None:
        return gradients, buffers
    return (
        _measured(gradients, ours.gradients, theirs.gradients, exact.gradients, pairs),
        _measured(buffers, ours.buffers, theirs.buffers, exact.buffers, pairs),
    )


def _judge(
    steps: tuple[Trained, Trained], found: Sequence[Mapping[str, Tensor]], pairs: Sequence[tuple[str, str]]
) -> Judgement:
    """Judges by names and bits; what is other bits differs, until it is measured."""
    ours, theirs = found
    own_names = {our_name: name for name, our_name in pairs if name in theirs}
    if missing := [name for name in ours if name not in own_names]:
        return Judgement(UNKNOWN, f"the owner's network has no tensor for {first_few(missing)}")
    mine, other = (step.recorder for step in steps)
    results = [
        Result(name, mine.name_of(one), other.name_of(theirs[own_names[name]])) for name, one in ours.items()
    ]
    judged = judge_results(mine, other, {"results": results})["results"]
    if judged.verdict == EQUAL:
        return judged
    alike = all(same_bits(one, theirs[own_names[name]]) for name, one in ours.items())
    return judged._replace(verdict=UNKNOWN if alike else DIFFERS)


def _measured(
    judged: Judgement,
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    exact: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, str]],
) -> Judgement:
    """Judges what has other bits: our errors, each as a share of its tensor's largest value, and theirs."""
    if judged.verdict != DIFFERS:
        return judged
    own_names = {our_name: name for name, our_name in pairs}
    error = their_error = 0.0
    for name, one in ours.items():
        value = exact[own_names[name]]
        scale = value.abs().max().item() or 1.0
        error = max(error, largest_error(one, value) / scale)
        their_error = max(their_error, largest_error(theirs[own_names[name]], value) / scale)
    rounding = torch.finfo(next(iter(ours.values())).dtype).eps / 2
    limit = factor(sum(one.numel() for one in ours.values())) * max(their_error, rounding)
    return judged._replace(verdict=UNKNOWN if error <= limit else DIFFERS)
