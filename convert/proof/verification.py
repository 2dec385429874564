"""Step 6: the proof."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ..errors import ArchitectureError, ValueRangeError
from ..records import Coverage, Loaded, Proof, Reference, Verified
from ..tensors import dtype_name
from .comparisons import (
    compare_bytes,
    compare_outputs,
    compare_placement,
    compare_training_step,
    describe,
    half_the_threads,
)
from .coverage import Sight
from .determinism import deterministic, device_name, environment
from .inputs import draw, input_shapes
from .tally import Tally

# The shorter side of the smallest input, 64, is halved by the stem twice and by each transition.
MOST_BLOCKS = 5


def verify_model(loaded: Loaded, reference: Reference, device: torch.device) -> Verified:
    """Shows that the network is the reference's function, to the bit, in eval and in training.

    Weights in half precision are computed in float32, into which they go exactly.

    Args:
        loaded: our network, on the CPU; it is left as it was.
        reference: an independent network with the same source; it is moved to ``device``.
        device: where both run.

    Raises:
        ParityError: a tensor, an activation, a gradient or a running statistic differs.
        ValueRangeError: the network's output overflows.
        ArchitectureError: it has too many blocks for the inputs.
    """
    blocks = len(loaded.config.block_config)
    if blocks > MOST_BLOCKS:
        raise ArchitectureError(
            f"This network has {blocks} dense blocks, and the proof's inputs are large enough for "
            f"{MOST_BLOCKS}."
        )
    tally = Tally(loaded.renamed.source_names)
    compare_bytes(loaded.renamed, loaded.model, tally)
    dtype = next(reference.network.parameters()).dtype
    shapes = input_shapes(loaded.config.in_channels)
    with deterministic(device), half_the_threads():
        inputs = [draw(shape, seed=seed).to(device, dtype) for seed, (_, shape) in enumerate(shapes)]
        ours: nn.Module = loaded.model
        if device.type != "cpu" or next(ours.parameters()).dtype != dtype:
            ours = deepcopy(ours).to(device, dtype)
        theirs = reference.network.to(device)
        parameters, statistics = _compare_in_eval(ours, theirs, inputs[:-1], tally)
        compare_training_step(ours, theirs, inputs[-1], tally)
        proof = Proof(
            device=device_name(device),
            dtype=dtype_name(inputs[-1]),
            reference=reference.description,
            inputs=shapes,
            compared=dict(tally.compared),
            largest=dict(tally.largest),
            parameters=parameters,
            statistics=statistics,
            environment=environment(device),
        )
    return Verified(loaded, proof)


def _compare_in_eval(
    ours: nn.Module, theirs: nn.Module, inputs: list[Tensor], tally: Tally
) -> tuple[Coverage, Coverage]:
    """Compares outputs and placements; returns the coverage of parameters and of running statistics."""
    sight = Sight(ours)
    for x in inputs:
        pairs, logits, _ = compare_outputs(ours, theirs, x, tally, "eval", sight.observe)
        if not logits.isfinite().all():
            raise ValueRangeError(f"The network's output is not finite on {describe(x, 'eval')}.")
        sight.backward(logits)
        del logits  # and with it the graph
    compare_placement(pairs, tally)
    return sight.parameters(), sight.statistics()
