"""A training step of the owner's own network beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet

from ..errors import first_few
from ..results import DIFFERS, EQUAL, UNKNOWN
from ..tensors import same_bits
from .comparisons import Step, take_step
from .every_input import Judgement, judge_names
from .own_runs import OwnPart, run_ours
from .recorder import Recorder, state_of_generators
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
    ours: Trained, theirs: Trained, exact: Trained | None, pairs: Sequence[tuple[str, str]]
) -> tuple[Judgement, Judgement]:
    """Judges the gradients and the buffers of both.

    Args:
        ours, theirs: in one dtype.
        exact: the owner's in float64; None where its code does not run in that, or draws random numbers.
        pairs: the owner's name and ours of each tensor.
    """
    recorders = ours.recorder, theirs.recorder
    exact_gradients: Mapping[str, Tensor] = exact.gradients if exact else {}
    exact_buffers: Mapping[str, Tensor] = exact.buffers if exact else {}
    return (
        _judge(recorders, ours.gradients, theirs.gradients, exact_gradients, pairs),
        _judge(recorders, ours.buffers, theirs.buffers, exact_buffers, pairs),
    )


def _judge(
    recorders: tuple[Recorder, Recorder],
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    exact: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, str]],
) -> Judgement:
    """Judges by names, and where they leave it open by the numbers."""
    own_names = {our_name: name for name, our_name in pairs if name in theirs}
    if missing := [name for name in ours if name not in own_names]:
        return Judgement(UNKNOWN, f"the owner's network has no tensor for {first_few(missing)}")
    both = [(ours[mine], theirs[own_names[mine]]) for mine in ours]
    mine, other = recorders
    judged = judge_names(
        mine, other, [mine.name_of(one) for one, _ in both], [other.name_of(one) for _, one in both]
    )
    if judged.verdict == EQUAL:
        return judged
    values = [exact.get(own_names[name]) for name in ours]
    alike = all(same_bits(*one) for one in both) or _are_within_bound(both, values)
    return judged._replace(verdict=UNKNOWN if alike else DIFFERS)


def _are_within_bound(both: Sequence[tuple[Tensor, Tensor]], exact: Sequence[Tensor | None]) -> bool:
    """Whether our errors, each as a share of its tensor's largest value, are as small as theirs may be."""
    ours = theirs = 0.0
    for (mine, other), value in zip(both, exact, strict=True):
        if value is None:
            return False
        scale = value.abs().max().item() or 1.0
        ours = max(ours, largest_error(mine, value) / scale)
        theirs = max(theirs, largest_error(other, value) / scale)
    rounding = torch.finfo(both[0][0].dtype).eps / 2
    return ours <= factor(sum(mine.numel() for mine, _ in both)) * max(theirs, rounding)
