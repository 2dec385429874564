"""The proof: both networks run side by side and are compared to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import torch
from torch import Tensor, nn

from ..errors import ArchitectureError, ValueRangeError
from ..records import Loaded, Proof, Reference, Verified
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
from .inputs import MOST_ADDED, Shape, draw, proof_inputs
from .tally import Tally

# The shorter side of the smallest input, 64, is halved by the stem twice and by each transition.
MOST_BLOCKS = 5


def verify_model(loaded: Loaded, reference: Reference, device: torch.device, *, seed: int = 0) -> Verified:
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
    blocks = len(loaded.config.block_config)
    if blocks > MOST_BLOCKS:
        raise ArchitectureError(
            f"This network has {blocks} dense blocks, and the proof's inputs are large enough for "
            f"{MOST_BLOCKS}."
        )
    tally = Tally(loaded.renamed.source_names)
    compare_bytes(loaded.renamed, loaded.model, tally)
    dtype = next(reference.network.parameters()).dtype
    with deterministic(device), half_the_threads():
        ours: nn.Module = loaded.model
        if device.type != "cpu" or next(ours.parameters()).dtype != dtype:
            ours = deepcopy(ours).to(device, dtype)
        theirs = reference.network.to(device)
        sight = CoverageMeter(ours)
        inputs, taken = proof_inputs(loaded.config.in_channels), []
        # Gradients are taken beside what comes next: each network alone leaves cores idle.
        with ThreadPoolExecutor(max_workers=1) as beside:
            for i, (mode, shape) in enumerate(inputs):
                x = draw(shape, seed=seed + i).to(device, dtype)
                with sight.watching():
                    if mode == "train":
                        compare_training_step(ours, theirs, x, tally)
                        continue
                    pairs, logits = compare_outputs(ours, theirs, x, tally)
                _require_finite(logits, x)
                taken.append(beside.submit(sight.backward, logits))
                del logits  # and with it the graph, once it was gone through
            compare_placement(pairs, tally)
            for one in taken:
                one.result()  # which raises what was raised there
        for shape in _while_it_shows_more(inputs[0][1], sight):
            x = draw(shape, seed=seed + len(inputs)).to(device, dtype)
            inputs.append(("eval", shape))
            with sight.watching(), torch.no_grad():
                compare_outputs(ours, theirs, x, tally)
        proof = Proof(
            device=device_name(device),
            dtype=dtype_name(x),
            reference=reference.description,
            inputs=tuple(inputs),
            compared=dict(tally.compared),
            largest=dict(tally.largest),
            parameters=sight.parameters(),
            statistics=sight.statistics(),
            reaching=sight.reaching(),
            dead=sight.dead_channels(),
            environment=environment(device),
        )
    return Verified(loaded, proof)


def _while_it_shows_more(shape: Shape, sight: CoverageMeter) -> Iterator[Shape]:
    """Yields a shape as long as a channel is dead and the last input showed life in one.

    Single elements of a kernel that lie over nothing but borders are not waited for.
    """
    dead = sight.dead_channels()
    for _ in range(MOST_ADDED):
        if not dead:
            return
        yield shape
        before, dead = dead, sight.dead_channels()
        if dead == before:
            return


def _require_finite(logits: Tensor, x: Tensor) -> None:
    if not logits.isfinite().all():
        raise ValueRangeError(
            f"The network's output is not finite on {describe(x, 'eval')}. The weights are too large to be "
            "those of a network that was trained: use another checkpoint."
        )
