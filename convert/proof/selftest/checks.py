"""Runs every check of the proof on a faulty network, each as if it were alone.

The comparisons are the proof's own; only the tally differs: it notes the first difference
of each kind and goes on.  The reference runs once, and what it computed is kept.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from densenet_convert.densenet import DenseNetConfig

from ...errors import ParityError
from ...results import DIFFERS, EQUAL
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
from ..every_input import Judgement, Results, eval_results, judge_results, training_results
from ..inputs import draw, proof_inputs
from ..layers import Pair, watching
from ..recorder import Recorder, recording
from ..tally import Tally

# The name of each check, and its kind of comparison.
KINDS = {
    "bytes": "tensors",
    "layers": "activations",
    "forward": "logits",
    "names": "names",
    "gradients": "gradients",
    "statistics": "running statistics",
    "placement": "placements",
}


class UndecidedError(ParityError):
    """Names are not equal, and may be those of the same mathematics: the proof goes on to compare values."""


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

    def judge(self, judged: Mapping[str, Judgement], unknown: Container[str] = ()) -> None:
        """Notes the first results whose names differ; what is known to be another function comes first.

        Args:
            judged: each kind of results.
            unknown: the kinds whose names tell nothing of a sound network either.
        """
        for kind, (verdict, because, where) in judged.items():
            noted = self.first.get("names")
            if kind in unknown:
                continue
            if verdict == DIFFERS and (noted is None or isinstance(noted, UndecidedError)):
                self.first["names"] = self.other_function(where, str(because))
            elif verdict != EQUAL and noted is None:
                self.first["names"] = UndecidedError(str(because), where=where, largest=0.0)


class Recorded(NamedTuple):
    """The reference's results on the proof's first two inputs.

    Attributes:
        x: the input in eval mode, ``[N, C, H, W]``.
        layers: as they ran on it.
        logits: what it came to.
        in_eval: recorded it.
        trained: the input of the training step.
        training_layers: as they ran on that.
        step: what the training step came to.
        in_training: recorded it.
        unknown: the kinds of results, in eval and in training, whose names tell nothing of a sound network.
    """

    x: Tensor
    layers: list[Ran]
    logits: Tensor
    in_eval: Recorder
    trained: Tensor
    training_layers: list[Ran]
    step: Step
    in_training: Recorder
    unknown: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())


def record_reference(theirs: nn.Module, config: DenseNetConfig, device: torch.device) -> Recorded:
    """Runs a reference, on ``device`` already, on the proof's first two inputs."""
    dtype = next(theirs.parameters()).dtype
    shapes = [shape for _, shape in proof_inputs(config)[:2]]
    x, trained = (draw(shape, seed=i).to(device, dtype) for i, shape in enumerate(shapes))
    layers: list[Ran] = []
    training_layers: list[Ran] = []
    in_eval, in_training = Recorder(), Recorder()
    logits = record(theirs, x, layers.append, recorder=in_eval)
    run = partial(record, theirs, trained, training_layers.append, graph=True, recorder=in_training)
    step = take_step(theirs, run, recorder=in_training)
    return Recorded(x, layers, logits, in_eval, trained, training_layers, step, in_training)


def run_checks(
    ours: nn.Module, recorded: Recorded, found: FirstDifferences, recorders: tuple[Recorder, Recorder]
) -> tuple[Tensor, list[Results]]:
    """Lets every functional check judge a network; what they found is in ``found.first``.

    Args:
        recorders: record the network in eval and in training.

    Returns:
        Its logits in eval mode, and the names of both networks' results, in eval and in training.
    """
    in_eval, in_training = recorders
    with torch.no_grad():
        pairs, logits, evaluated = _evaluate(ours, recorded, found, in_eval)
    compare_placement(pairs, found)
    try:
        trained = _train(ours, recorded, found, in_training)
    except ParityError as error:  # there is nothing to hold the gradients against
        for kind in ("gradients", "running statistics"):
            found.first.setdefault(kind, error)
        trained = {}
    return logits, [evaluated, trained]


def _evaluate(
    ours: nn.Module, recorded: Recorded, found: FirstDifferences, recorder: Recorder
) -> tuple[list[Pair], Tensor, Results]:
    x, on = recorded.x, describe(recorded.x, "eval")
    pairs: list[Pair] = []
    try:
        their_next = iter(recorded.layers).__next__
        pairs, logits = compare_layers(ours, x, their_next, found, on, recorder)
    except ParityError as error:  # other layers: the logits can be compared all the same
        found.first.setdefault("activations", error)
        recorder = Recorder(leaves=recorder.leaves)
        with watching(ours, lambda *_: None, recorder), recording(ours, x, recorder):
            logits = cast(Tensor, ours(x))
    found.compare("logits", "the output", logits, recorded.logits, on)
    both = recorder, recorded.in_eval
    results = eval_results(both, (logits, recorded.logits), pairs)
    found.judge(judge_results(*both, results), recorded.unknown[0])
    return pairs, logits, results


def _train(ours: nn.Module, recorded: Recorded, found: FirstDifferences, recorder: Recorder) -> Results:
    x, both = recorded.trained, (recorder, recorded.in_training)
    their_next = iter(recorded.training_layers).__next__
    pairs, step = step_beside(ours, x, their_next, found, recorder)
    compare_steps(pairs, step, recorded.step, x, found)
    results = training_results(both, pairs, step, recorded.step)
    found.judge(judge_results(*both, results), recorded.unknown[1])
    return results
