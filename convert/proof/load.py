"""Loads the renamed tensors, strictly, into our network."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING

from densenet_convert.densenet import DenseNetConfig

from ..claims import Remark
from ..errors import ValueRangeError, quoted
from ..records import Loaded, Renamed

if TYPE_CHECKING:
    import torch

log = logging.getLogger("densenet_convert")

# The square root of what a flipped highest bit of the exponent multiplies a number by.
ROOTS = {"float16": 2.0**8, "bfloat16": 2.0**64, "float32": 2.0**64, "float64": 2.0**512}
# Among fewer elements the largest may be any multiple of the others.
FEWEST = 16
# A thousand batches a second, for thirty years.
MOST_BATCHES = 10**12


def load_model(renamed: Renamed, config: DenseNetConfig) -> Loaded:
    """Puts the tensors, uncopied, into a network in eval mode; nothing is initialised.

    Raises:
        ValueRangeError: a tensor has values or a dtype that no trained network has.
    """
    import torch

    from densenet_convert.densenet import DenseNet
    from densenet_convert.densenet.blank import SkipInit

    remarks = check_values(renamed)
    for remark in remarks:
        log.warning("%s", remark.text)
    with torch.device("meta"), SkipInit():
        model = DenseNet(config)
    model.load_state_dict(dict(renamed.tensors), strict=True, assign=True)
    return Loaded(renamed, config, model.eval(), remarks)


def check_values(renamed: Renamed) -> tuple[Remark, ...]:
    """Returns a remark for each tensor that holds an impossible value.

    Raises:
        ValueRangeError: there are NaN, infinity, negative variances or counts, or several dtypes of floats.
    """
    floats: dict[torch.dtype, str] = {}
    remarks: list[Remark] = []
    source_names = renamed.source_names
    for name, tensor in renamed.tensors.items():
        label = quoted(source_names[name] or name)
        if name.endswith(".num_batches_tracked"):
            _check_count(label, tensor)
        else:
            largest = _largest_of(label, tensor, lowest_allowed=0 if name.endswith(".running_var") else None)
            floats.setdefault(tensor.dtype, label)
            remarks += _remarks_on(label, tensor, largest)
    if len(floats) > 1:
        found = ", ".join(f"{dtype} ({label})" for dtype, label in floats.items())
        raise ValueRangeError(
            f"The weights are of several dtypes, expected one: {found}. Save them in the widest of these, "
            "into which the others go exactly."
        )
    return tuple(remarks)


def _remarks_on(label: str, tensor: torch.Tensor, largest: float) -> Iterator[Remark]:
    """Yields a remark if an element is beyond all reason.

    One flipped bit, the exponent's highest, multiplies a number below 2 by F: 2**16 in float16, 2**128 in
    float32 and bfloat16, 2**1024 in float64.  An element is impossible from the square root of F on: its
    square does not fit into the dtype, so that no training step could have computed with it.  float16 is
    what weights are saved in after training in float32, and its root is 256: there the element must also be
    so many times as large as any other of its tensor.
    """
    import torch

    root = ROOTS[str(tensor.dtype).removeprefix("torch.")]
    if largest < root:
        return
    sizes = tensor.detach().abs().flatten()
    if tensor.dtype == torch.float16:
        if sizes.numel() < FEWEST:
            return
        second = sizes.topk(2).values[1].item()
        if not 0 < second * root <= largest:
            return
    place = [int(i) for i in torch.unravel_index(sizes.argmax(), tensor.shape)]
    value = tensor[tuple(place)].item()
    text = (
        f"{label} holds {value:.4g} at {place}, which no training gives: a bit was flipped in memory or on a "
        "disk, perhaps. It was converted as it is."
    )
    yield Remark("impossible-value", text, (label,))


def _check_count(label: str, tensor: torch.Tensor) -> None:
    import torch

    if tensor.dtype != torch.int64 or tensor.numel() != 1 or not 0 <= tensor.item() <= MOST_BATCHES:
        raise ValueRangeError(
            f"{label} is {' '.join(str(tensor).split())[:99]}, expected a count of batches: "
            f"int64, 0 to {MOST_BATCHES:,}. The file is damaged, or the count was made up: set it to 0."
        )


def _largest_of(label: str, tensor: torch.Tensor, lowest_allowed: int | None) -> float:
    """Returns the largest absolute value, which is one that a trained network may have."""
    import torch

    if tensor.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        raise ValueRangeError(
            f"{label} is of {tensor.dtype}, expected float32, float64, float16 or bfloat16. "
            "No network can compute with other weights, which this one could be held against."
        )
    if not tensor.numel():
        return 0.0
    lowest, highest = (bound.item() for bound in torch.aminmax(tensor))  # a NaN anywhere makes both NaN
    if not (isfinite(lowest) and isfinite(highest)):
        bad = int(torch.count_nonzero(~torch.isfinite(tensor)))
        raise ValueRangeError(
            f"{label} has {bad:,} of {tensor.numel():,} elements that are NaN or infinite. "
            "The training diverged or the file is damaged: use an earlier checkpoint."
        )
    if lowest_allowed is not None and lowest < lowest_allowed:
        raise ValueRangeError(f"{label} holds {lowest:.4g}, expected no variance below 0.")
    return max(-lowest, highest)
