"""The outputs of a source library's own network, where its layers are not torch's and can't be watched."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from ...errors import ParityError
from ..tolerance import largest_error

# Odd and even, for the two differ where padding is at one side only.
SIDES = (97, 64)
# A share of the outputs' scale: float64 has 16 digits, and a thousand sums lose three of them.
BOUND = 1e-12

Outputs = Callable[[Tensor], tuple[Tensor, str]]


def compare_with_library(model: nn.Module, channels: int, outputs: Outputs) -> tuple[str, float] | None:
    """Holds a network against the library's own, end to end in float64.

    Args:
        model: the converted network, in eval mode on the CPU; it is left as it was.
        channels: of its input.
        outputs: what the library's own network computes of images ``[N, C, H, W]``, and which one that is.

    Returns:
        Which network it was, and the largest difference, of the outputs' scale; None where it is not
        installed.

    Raises:
        ParityError: the difference is beyond what rounding explains.
    """
    images = torch.randn(
        (2, channels, *SIDES), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    try:
        theirs, name = outputs(images)
    except ImportError:
        return None
    with torch.no_grad():
        ours = deepcopy(model).double()(images)
    scale = max(1.0, float(theirs.abs().max()))
    largest = largest_error(ours, theirs) / scale
    if not largest <= BOUND:
        raise ParityError(
            f"The converted network is not {name}: in float64 the largest difference of an output is "
            f"{largest:.3g} of the outputs' scale, expected at most {BOUND:.0e}.",
            where="the output",
            largest=largest * scale,
        )
    return name, largest
