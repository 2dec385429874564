"""Step 6: the proof."""

from __future__ import annotations

from copy import deepcopy

import torch

from ..errors import ValueRangeError
from ..records import Loaded, Proof, Reference, Verified
from ..tensors import dtype_name
from .comparisons import compare_bytes, compare_eval, compare_training_step, describe, half_the_threads
from .coverage import Sight
from .determinism import deterministic, device_name, environment
from .inputs import draw, input_shapes
from .tally import Tally


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
    """
    tally = Tally(loaded.renamed.source_names)
    compare_bytes(loaded.renamed, loaded.model, tally)
    dtype = next(reference.network.parameters()).dtype
    ours = loaded.model
    if device.type != "cpu" or next(ours.parameters()).dtype != dtype:
        ours = deepcopy(ours).to(device, dtype)
    theirs = reference.network.to(device)
    sight = Sight(ours)
    shapes = input_shapes(loaded.config.in_channels)
    with deterministic(), half_the_threads():
        for seed, (mode, shape) in enumerate(shapes):
            x = draw(shape, seed=seed).to(device, dtype)
            if mode == "eval":
                pairs, logits = compare_eval(ours, theirs, x, tally, sight.observe)
                if not logits.isfinite().all():
                    raise ValueRangeError(f"The network's output is not finite on {describe(x, mode)}.")
                sight.backward(logits)
                del logits  # and with it the graph
            else:
                compare_training_step(ours, theirs, pairs, x, tally)
        proof = Proof(
            device=device_name(device),
            dtype=dtype_name(x),
            reference=reference.description,
            inputs=shapes,
            compared=dict(tally.compared),
            largest=dict(tally.largest),
            parameters=sight.parameters(),
            statistics=sight.statistics(),
            environment=environment(device),
        )
    return Verified(loaded, proof)
