"""Renames the source's tensors: the layout's names to canonical ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..errors import LayoutError, first_few
from ..layout import Reading
from ..records import Checkpoint, Renamed, Trace

if TYPE_CHECKING:
    from torch import Tensor


def rename_tensors(checkpoint: Checkpoint, reading: Reading) -> Renamed:
    """Renames as the reading explains; every name of the source is accounted for.

    Files of before torch 0.4.1 have no ``num_batches_tracked``: each that is absent
    becomes a zero, as torch itself fills it in, and its trace has no source name.

    Args:
        checkpoint: what was read.
        reading: what its names were identified as, with its explanation.

    Raises:
        LayoutError: the reading does not explain every name.
    """
    import torch

    explanation = reading.explanation
    if explanation.problems:
        raise LayoutError(f"{reading.layout.name} does not fit: {first_few(explanation.problems)}.")
    tensors: dict[str, Tensor] = {}
    trail: list[Trace] = []
    for source_name, name in explanation.targets.items():
        tensor, axes = checkpoint.tensors[source_name], explanation.axes.get(source_name)
        tensors[name] = tensor if axes is None else tensor.permute(axes).contiguous()
        trail.append(Trace(name, None if source_name in checkpoint.filled else source_name, axes))
    for counter in absent_counters(tensors):
        tensors[counter] = torch.zeros((), dtype=torch.int64)
        trail.append(Trace(counter, None))
    return Renamed(checkpoint, reading, tensors, tuple(trail))


def absent_counters(names: Collection[str]) -> list[str]:
    """Returns the ``num_batches_tracked`` that are not among the canonical names of batch norms."""
    norms = [name.removesuffix(".running_mean") for name in names if name.endswith(".running_mean")]
    return [f"{norm}.num_batches_tracked" for norm in norms if f"{norm}.num_batches_tracked" not in names]
