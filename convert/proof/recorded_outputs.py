"""Compares the converted network with outputs that its source gave elsewhere."""

from __future__ import annotations

from copy import deepcopy
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import ParityError, ReadError, first_few, quoted
from ..results import OutputsParity
from ..source.read import read_checkpoint
from .determinism import deterministic
from .inputs import FEWEST_LOGITS
from .tolerance import bound, largest_error, logits_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..records import Checkpoint, Loaded

NAMES = ("input", "outputs")
# What the sides of an input are called, by their number.
SIDES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}


def compare_recorded_outputs(loaded: Loaded, path: Path, device: torch.device) -> OutputsParity:
    """Compares outputs with what our network gives in float64, on the same inputs.

    Args:
        loaded: our network.
        path: a file with two tensors: ``input``, ``[N, C, H, W]``, and ``outputs``, ``[N, classes]``, which
            the source network gave in eval mode.
        device: where ours runs.

    Raises:
        ReadError: the file does not hold these, or too few outputs to tell anything.
        ParityError: an output is farther off than rounding explains.
    """
    held = read_checkpoint(path, ignore_config=True)
    x, outputs = _tensors(held, loaded, path)
    with deterministic(device):
        model = deepcopy(loaded.model).to(device, torch.float32)
        ours = logits_of(model, x.to(device, torch.float32)).cpu()
        exact = logits_of(model.double(), x.to(device, torch.float64)).cpu()
    limit = bound(largest_error(ours, exact), exact, outputs.dtype)
    largest = largest_error(outputs, exact)
    if not largest <= limit:
        raise ParityError(
            f"The converted network does not give the outputs in {path}: the largest difference is "
            f"{largest:.3g}, expected at most {limit:.3g}.",
            where="the output",
            largest=largest,
            advice="If they were recorded of this checkpoint, in eval mode and before a softmax or sigmoid, "
            "its network is another function than the converted one: `reference=...` shows where.",
        )
    return OutputsParity(held.sha256, len(x), largest, limit)


def _tensors(held: Checkpoint, loaded: Loaded, path: Path) -> tuple[Tensor, Tensor]:
    """Returns the input and the outputs, whose dtypes and shapes are those of the network."""
    config = loaded.config
    width = config.num_classes or config.num_features
    if sorted(held.tensors) != sorted(NAMES):
        raise ReadError(
            f"{path} holds {first_few(list(held.tensors))}, expected the tensors input and outputs. "
            "docs/own-network.md shows how to record them."
        )
    x, outputs = (held.tensors[name] for name in NAMES)
    for name, tensor, expected in (
        ("input", x, ("N", config.in_channels, *SIDES[config.spatial_dims])),
        ("outputs", outputs, (len(x) if x.ndim else "N", width)),
    ):
        fits = [
            isinstance(wanted, str) or wanted == found
            for found, wanted in zip(tensor.shape, expected, strict=False)
        ]
        if tensor.ndim != len(expected) or not all(fits) or not tensor.dtype.is_floating_point:
            shape = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            wanted = ", ".join(map(str, expected))
            raise ReadError(f"{quoted(name)} in {path} is {shape}, expected floats of shape [{wanted}].")
    if outputs.numel() < FEWEST_LOGITS:
        raise ReadError(
            f"{path} holds {outputs.numel()} outputs, which tell too little. Record those of "
            f"{ceil(FEWEST_LOGITS / width)} images or more."
        )
    return x, outputs
