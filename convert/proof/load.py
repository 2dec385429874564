"""Loads the renamed tensors, strictly, into our network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from densenet_convert.densenet import DenseNetConfig

from ..errors import ValueRangeError, quoted
from ..records import Loaded, Renamed

if TYPE_CHECKING:
    import torch

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

    check_values(renamed)
    with torch.device("meta"), SkipInit():
        model = DenseNet(config)
    model.load_state_dict(dict(renamed.tensors), strict=True, assign=True)
    return Loaded(renamed, config, model.eval())


def check_values(renamed: Renamed) -> None:
    """Refuses NaN, infinity, negative variances and counts, and dtypes that are not one float type."""
    floats: dict[torch.dtype, str] = {}
    for name, tensor in renamed.tensors.items():
        label = quoted(renamed.source_names[name] or name)
        if name.endswith(".num_batches_tracked"):
            _check_count(label, tensor)
        else:
            _check_floats(label, tensor, lowest_allowed=0 if name.endswith(".running_var") else None)
            floats.setdefault(tensor.dtype, label)
    if len(floats) > 1:
        found = ", ".join(f"{dtype} ({label})" for dtype, label in floats.items())
        raise ValueRangeError(
            f"The weights are of several dtypes, expected one: {found}. Save them in the widest of these, "
            "into which the others go exactly."
        )


def _check_count(label: str, tensor: torch.Tensor) -> None:
    import torch

    if tensor.dtype != torch.int64 or tensor.numel() != 1 or not 0 <= tensor.item() <= MOST_BATCHES:
        raise ValueRangeError(
            f"{label} is {' '.join(str(tensor).split())[:99]}, expected a count of batches: "
            f"int64, 0 to {MOST_BATCHES:,}. The file is damaged, or the count was made up: set it to 0."
        )


def _check_floats(label: str, tensor: torch.Tensor, lowest_allowed: int | None) -> None:
    import torch

    if tensor.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        raise ValueRangeError(
            f"{label} is of {tensor.dtype}, expected float32, float64, float16 or bfloat16. "
            "No network can compute with other weights, which this one could be held against."
        )
    if not tensor.numel():
        return
    lowest, highest = torch.aminmax(tensor)  # a NaN anywhere makes both NaN
    if not torch.isfinite(lowest) or not torch.isfinite(highest):
        bad = int(torch.count_nonzero(~torch.isfinite(tensor)))
        raise ValueRangeError(
            f"{label} has {bad:,} of {tensor.numel():,} elements that are NaN or infinite. "
            "The training diverged or the file is damaged: use an earlier checkpoint."
        )
    if lowest_allowed is not None and lowest < lowest_allowed:
        raise ValueRangeError(f"{label} holds {lowest.item():.4g}, expected no variance below 0.")
