"""Runs every check of the proof on a faulty network, each as if it were alone.

The comparisons are the proof's own; only the tally differs: it notes the first difference
of each kind and goes on.  The reference runs once, and what it computed is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ...errors import ParityError
from ..comparisons import (
    Ran,
    Step,
    compare_layers,
    compare_placement,
    compare_steps,
    describe,
    record,
    step_beside,
    take_step,
)
from ..inputs import draw, proof_inputs
from ..layers import Pair
from ..tally import Tally

# What each check is called, and the kind of comparison that it is.
KINDS = {
    "bytes": "tensors",
    "layers": "activations",
    "forward": "logits",
    "placement": "placements",
    "gradients": "gradients",
    "statistics": "running statistics",
}


@dataclass
class FirstDifferences(Tally):
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
        train: the input of the training step, and the layers as they ran.
        step: what it came to.
    """

    evals: tuple[tuple[Tensor, list[Ran], Tensor], ...]
    train: tuple[Tensor, list[Ran]]
    step: Step


def record_reference(theirs: nn.Module, channels: int, device: torch.device) -> Recorded:
    """Runs a reference, on ``device`` already, on the proof's inputs."""
    dtype = next(theirs.parameters()).dtype
    evals = []
    for i, (mode, shape) in enumerate(proof_inputs(channels)):
        x = draw(shape, seed=i).to(device, dtype)
        layers: list[Ran] = []
        if mode == "train":
            step = take_step(theirs, partial(record, theirs, x, layers.append, graph=True))
            train = (x, layers)
        else:
            evals.append((x, layers, record(theirs, x, layers.append)))
    return Recorded(tuple(evals), train, step)


def run_checks(ours: nn.Module, recorded: Recorded, found: FirstDifferences) -> Tensor:
    """Lets every functional check judge a network; returns its logits on the last input in eval mode.

    What the checks found is in ``found.first``.
    """
    pairs: list[Pair] = []
    with torch.no_grad():
        for x, layers, expected in recorded.evals:
            try:
                pairs, logits = compare_layers(ours, x, iter(layers).__next__, found, describe(x, "eval"))
            except ParityError as error:  # other layers: the logits can be compared all the same
                found.first.setdefault("activations", error)
                logits = cast(Tensor, ours(x))
            found.compare("logits", "the output", logits, expected, describe(x, "eval"))
    compare_placement(pairs, found)
    try:
        x, layers = recorded.train
        compare_steps(*step_beside(ours, x, iter(layers).__next__, found), recorded.step, x, found)
    except ParityError as error:  # there is nothing to hold the gradients against
        for kind in ("gradients", "running statistics"):
            found.first.setdefault(kind, error)
    return logits
