"""Which checks catch a faulty network, each as if it were alone.

The comparisons are the proof's own; only the tally differs: it notes the first difference
of each kind and goes on.  The reference runs once, and what it computed is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import ParityError
from .comparisons import (
    Ran,
    Step,
    compare_layers,
    compare_placement,
    compare_step,
    describe,
    record,
    take_step,
)
from .inputs import draw, input_shapes
from .layers import Pair
from .tally import Tally

# What each check is called, and the kind of comparison that it is.
CHECKS = {
    "bytes": "tensors",
    "layers": "activations",
    "forward": "logits",
    "placement": "placements",
    "gradients": "gradients",
    "statistics": "running statistics",
}


@dataclass
class Scores(Tally):
    """Notes the first difference of each kind, and raises nothing."""

    first: dict[str, ParityError] = field(default_factory=dict)

    def compare(self, kind: str, where: str, ours: Tensor, theirs: Tensor, on: str) -> None:
        """As ``Tally.compare``, which see."""
        if kind in self.first:
            return
        try:
            super().compare(kind, where, ours, theirs, on)
        except ParityError as error:
            self.first[kind] = error


@dataclass(frozen=True)
class Recorded:
    """What the reference computed on the proof's inputs.

    Attributes:
        evals: each input in eval mode, ``[N, C, H, W]``, the layers as they ran, and the logits.
        train: the input of the training step.
        step: the step.
    """

    evals: tuple[tuple[Tensor, list[Ran], Tensor], ...]
    train: Tensor
    step: Step


def record_reference(theirs: nn.Module, channels: int, device: torch.device) -> Recorded:
    """Runs a reference, on ``device`` already, on the proof's inputs."""
    dtype = next(theirs.parameters()).dtype
    shapes, train_shape = input_shapes(channels)
    inputs = [draw(shape, seed=i).to(device, dtype) for i, shape in enumerate((*shapes, train_shape))]
    evals = []
    for x in inputs[:-1]:
        layers: list[Ran] = []
        logits = record(theirs, x, layers.append)
        evals.append((x, layers, logits))
    return Recorded(tuple(evals), inputs[-1], take_step(theirs, inputs[-1]))


def score(ours: nn.Module, recorded: Recorded, scores: Scores) -> Tensor:
    """Lets every functional check judge a network; returns its logits on the first input.

    What the checks found is in ``scores.first``.
    """
    pairs: list[Pair] = []
    outputs = []
    with torch.no_grad():
        for x, layers, expected in recorded.evals:
            try:
                pairs, logits = compare_layers(ours, x, iter(layers).__next__, scores, describe(x, "eval"))
            except ParityError as error:  # other layers: the logits can be compared all the same
                scores.first.setdefault("activations", error)
                logits = cast(Tensor, ours(x))
            scores.compare("logits", "the output", logits, expected, describe(x, "eval"))
            outputs.append(logits)
    compare_placement(pairs, scores)
    try:
        compare_step(ours, recorded.step, recorded.train, scores)
    except ParityError as error:  # there is nothing to hold the gradients against
        for kind in ("gradients", "running statistics"):
            scores.first.setdefault(kind, error)
    return outputs[0]
