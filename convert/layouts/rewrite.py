"""Carries out the steps that ``prepare.py`` planned: none of them rounds a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ValueRangeError, quoted
from ..records import Checkpoint, Rewrite, Rewritten
from ..tensors import tensor_sha256
from .prepare import MASKED, RESHAPED, ROUNDED, SCALED, ZEROED, classes_of, matrix_sides

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_COUNT = 1 << 62


def rewrite_tensors(checkpoint: Checkpoint, steps: Sequence[Rewrite]) -> Checkpoint:
    """Returns the checkpoint with each step's result in the place of what it takes, and its digests.

    Args:
        checkpoint: what was read.
        steps: those that its network was identified with.

    Raises:
        ValueRangeError: values are not those of such a thing, so that the step would round.
    """
    tensors, digests = dict(checkpoint.tensors), dict(checkpoint.digests)
    done: list[Rewritten] = []
    for step in steps:
        taken = [tensors[name] for name in step.sources]
        like = tensors[step.like] if step.like else None
        result = STEPS[step.name](step, taken, like)
        held = tuple((name, digests.get(name) or tensor_sha256(tensors[name])) for name in step.sources)
        for name in step.sources:
            del tensors[name]
            digests.pop(name, None)
        tensors[step.target], digests[step.target] = result, tensor_sha256(result)
        done.append(Rewritten(step.name, held, step.target, digests[step.target]))
    if not done:
        return checkpoint
    before = checkpoint.tensors if checkpoint.untouched is None else checkpoint.untouched
    rewrites = (*checkpoint.rewrites, *done)
    return replace(checkpoint, tensors=tensors, digests=digests, rewrites=rewrites, untouched=before)


def _count(step: Rewrite, taken: list[Tensor], _like: Tensor | None) -> Tensor:
    """Returns the nearest integer; 0 for what is beyond every count of its dtype, as in half precision."""
    import torch

    value = float(taken[0].reshape(()))
    if value != value or value in (float("inf"), -float("inf")):
        return torch.zeros((), dtype=torch.int64)
    if abs(value) > LARGEST_COUNT:
        count = f"{quoted(step.target)} is {value:g}"
        raise ValueRangeError(f"{count}, expected a count of batches. Set it to 0.")
    exact = taken[0].reshape(())
    return torch.tensor(round(value)) if exact.is_floating_point() else exact.to(torch.int64)


def _product(step: Rewrite, taken: list[Tensor], _like: Tensor | None) -> Tensor:
    weight, mask = taken
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueRangeError(
            f"{quoted(step.sources[1])} holds other numbers than 0 and 1, expected the mask of a pruned "
            "layer: their product would round. Call torch.nn.utils.prune.remove(layer, name) where the "
            "network is, and save its state_dict() again."
        )
    return mask.to(weight.dtype) * weight


def _scale(step: Rewrite, taken: list[Tensor], _like: Tensor | None) -> Tensor:
    own, scale = taken
    neutral = 1.0 if step.target.endswith(("gamma", "weight")) else 0.0
    if not (own == neutral).all():
        raise ValueRangeError(
            f"{quoted(step.target)} holds other numbers than {neutral:g}, and {quoted(step.sources[1])} "
            "scales what it gives: one norm can't do both without rounding. Fold them where the network is, "
            "and save it again."
        )
    return scale


def _linear(step: Rewrite, taken: list[Tensor], _like: Tensor | None) -> Tensor:
    (kernel,) = taken
    return kernel.reshape(matrix_sides(step, tuple(kernel.shape)))


def _zeros(step: Rewrite, _taken: list[Tensor], like: Tensor | None) -> Tensor:
    import torch

    assert like is not None  # the weight, whose classes are counted
    return torch.zeros(classes_of(step, tuple(like.shape)), dtype=like.dtype)


STEPS = {ROUNDED: _count, MASKED: _product, SCALED: _scale, RESHAPED: _linear, ZEROED: _zeros}
