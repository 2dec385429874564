"""The proof: both networks run on the same inputs and are compared to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import ArchitectureError, ValueRangeError
from ..records import Loaded
from ..results import EveryInput, Proof
from ..tensors import dtype_name
from .comparisons import (
    compare_bytes,
    compare_outputs,
    compare_placement,
    compare_training_step,
    describe,
    half_the_threads,
)
from .coverage import CoverageMeter
from .determinism import deterministic, device_name, environment
from .every_input import (
    eval_results,
    judge_results,
    require_one_function,
    summarise,
    training_results,
)
from .inputs import MOST_ADDED, MOST_BLOCKS, Shape, draw, proof_inputs
from .recorder import Recorder
from .storages import Contents
from .tally import Tally

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig

    from .references.reference import Reference


def verify_model(loaded: Loaded, reference: Reference, device: torch.device, *, seed: int = 0) -> Proof:
    """Shows that the network is the reference's function, to the bit, in eval and in training.

    Weights in half precision are computed in float32, into which they go exactly.

    Args:
        loaded: our network, on the CPU; it is left as it was.
        reference: an independent network with the same source; it is moved to ``device``.
        device: where both run.
        seed: what the inputs are drawn from.

    Raises:
        ParityError: a tensor, an activation, a gradient or a running statistic differs.
        ValueRangeError: the network's output overflows.
        ArchitectureError: it has too many blocks for the inputs.
    """
    _require_few_blocks(loaded.config)
    inputs = proof_inputs(loaded.config)
    with deterministic(device), half_the_threads():
        both = _Both(loaded, reference, device, seed)
        compare_bytes(loaded.renamed, loaded.model, both.tally)
        every_input = both.compare_recorded(*inputs[:2])
        if not every_input.holds:
            both.measure(inputs)
        return both.proof(reference.description, every_input)


class _Both:
    """Both networks on one device, and what came of comparing them.

    Attributes:
        trains_on: where a training step is taken.
        tally: number of comparisons, and their largest differences.
        meter: what the comparisons could see; None where the recorded steps tell more.
    """

    def __init__(self, loaded: Loaded, reference: Reference, device: torch.device, seed: int) -> None:
        self.device, self.seed = device, seed
        self.dtype = next(reference.network.parameters()).dtype
        self.ours: nn.Module = loaded.model
        if device.type != "cpu" or next(self.ours.parameters()).dtype != self.dtype:
            self.ours = deepcopy(self.ours).to(device, self.dtype)
        self.theirs = reference.network.to(device)
        # CUDA adds up the gradients of max pooling in three dimensions in no fixed order.
        in_order = device.type == "cpu" or loaded.config.spatial_dims < 3
        self.trains_on = device if in_order else torch.device("cpu")
        self.tally = Tally(loaded.renamed.source_names)
        self.meter: CoverageMeter | None = None
        self.inputs: list[tuple[str, Shape]] = []

    def compare_recorded(self, evaluated: tuple[str, Shape], trained: tuple[str, Shape]) -> EveryInput:
        """Compares in eval and in training, and tells what is equal for every input of these shapes.

        Raises:
            ParityError: a value differs, or an operation takes another tensor or argument.
        """
        leaves = Contents()
        x = self._draw(*evaluated)
        with torch.no_grad():
            in_eval = Recorder(leaves=leaves), Recorder(leaves=leaves)
            pairs, *logits = compare_outputs(self.ours, self.theirs, x, self.tally, in_eval)
        _require_finite(logits[0], x)
        judged = judge_results(*in_eval, eval_results(in_eval, logits, pairs))
        require_one_function(self.tally, judged)
        with self._where_it_trains():
            x = self._draw(*trained)
            in_training = Recorder(leaves=leaves), Recorder(leaves=leaves)
            ran = compare_training_step(self.ours, self.theirs, x, self.tally, in_training)
        after = judge_results(*in_training, training_results(in_training, *ran))
        return summarise(self.tally, judged, after)

    def measure(self, inputs: Sequence[tuple[str, Shape]]) -> None:
        """Compares on each input, and on further ones as long as they show more of the network.

        Gradients of the logits are taken for coverage beside what comes next: each network alone leaves cores
        idle.
        """
        self.inputs.clear()
        self.meter = meter = CoverageMeter(self.ours)
        with ThreadPoolExecutor(max_workers=1) as beside:
            taken: list[Future[None]] = []
            for mode, shape in inputs:
                if mode == "train":
                    wait(taken if self.trains_on != self.device else [])  # these gradients are taken there
                    with self._where_it_trains(), meter.watching():
                        x = self._draw(mode, shape)
                        compare_training_step(self.ours, self.theirs, x, self.tally)
                    continue
                x = self._draw(mode, shape)
                with meter.watching():
                    pairs, logits, _ = compare_outputs(self.ours, self.theirs, x, self.tally)
                taken.append(beside.submit(meter.backward, logits))
                del logits  # and with it the graph, once it was gone through
            compare_placement(pairs, self.tally)
            for one in taken:
                one.result()  # which raises what was raised there
        for shape in _while_it_shows_more(inputs[0][1], meter):
            x = self._draw("eval", shape)
            with meter.watching(), torch.no_grad():
                compare_outputs(self.ours, self.theirs, x, self.tally)

    def proof(self, reference: str, every_input: EveryInput) -> Proof:
        """Returns the record of it all; ``reference`` describes what was compared with."""
        meter = self.meter
        return Proof(
            device=device_name(self.device),
            dtype=dtype_name(next(self.theirs.parameters())),
            reference=reference,
            inputs=tuple(self.inputs),
            compared=dict(self.tally.compared),
            largest=dict(self.tally.largest),
            every_input=every_input,
            parameters=meter.parameters() if meter else None,
            statistics=meter.statistics() if meter else None,
            reaching=meter.reaching() if meter else None,
            dead=meter.dead_channels() if meter else {},
            environment=environment(self.device),
        )

    @contextmanager
    def _where_it_trains(self) -> Iterator[None]:
        """Moves both networks there, and back."""
        here = self.device
        if here == self.trains_on:
            yield
            return
        self._move(self.trains_on)
        try:
            yield
        finally:
            self._move(here)

    def _move(self, device: torch.device) -> None:
        self.device = device
        self.ours.to(device)
        self.theirs.to(device)

    def _draw(self, mode: str, shape: Shape) -> Tensor:
        x = draw(shape, seed=self.seed + len(self.inputs)).to(self.device, self.dtype)
        self.inputs.append((mode, shape))
        return x


def _require_few_blocks(config: DenseNetConfig) -> None:
    blocks, most = len(config.block_config), MOST_BLOCKS[config.spatial_dims]
    if blocks > most:
        raise ArchitectureError(
            f"This network has {blocks} dense blocks, and the proof's inputs are large enough for {most}."
        )


def _while_it_shows_more(shape: Shape, meter: CoverageMeter) -> Iterator[Shape]:
    """Yields a shape as long as a channel is dead and the last input showed life in one.

    Single elements of a kernel that lie over nothing but borders are not waited for.
    """
    dead = meter.dead_channels()
    for _ in range(MOST_ADDED):
        if not dead:
            return
        yield shape
        before, dead = dead, meter.dead_channels()
        if dead == before:
            return


def _require_finite(logits: Tensor, x: Tensor) -> None:
    if not logits.isfinite().all():
        raise ValueRangeError(
            f"The network's output is not finite on {describe(x, 'eval')}. The weights are too large to be "
            "those of a network that was trained: use another checkpoint."
        )
