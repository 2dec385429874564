"""Renames the source's tensors: the layout's names to canonical ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import LayoutError, first_few, quoted
from ..layout import Layout
from ..records import Checkpoint, Renamed, Trace
from .explain import explain

if TYPE_CHECKING:
    from torch import Tensor


def rename_tensors(checkpoint: Checkpoint, layout: Layout) -> Renamed:
    """Renames by the layout's table; every name of the source is accounted for.

    Files of before torch 0.4.1 have no ``num_batches_tracked``: each that is absent
    becomes a zero, as torch itself fills it in, and its trace has no source name.

    Args:
        checkpoint: what was read.
        layout: what its names were identified as.

    Raises:
        LayoutError: the layout does not explain every name, or a tensor has not as many axes as it says.
    """
    import torch

    explanation = explain(layout, checkpoint.tensors, whole=False)
    if explanation.problems:
        raise LayoutError(f"{layout.name} does not fit: {first_few(explanation.problems)}.")
    for name, order in explanation.axes.items():
        if checkpoint.tensors[name].ndim != len(order):
            shape = list(checkpoint.tensors[name].shape)
            raise LayoutError(
                f"{quoted(name)} has shape {shape}, expected {len(order)} dimensions in {layout.name}."
            )
    tensors: dict[str, Tensor] = {}
    trail: list[Trace] = []
    for source_name, name in explanation.targets.items():
        tensor, axes = checkpoint.tensors[source_name], explanation.axes.get(source_name)
        tensors[name] = tensor if axes is None else tensor.permute(axes).contiguous()
        trail.append(Trace(name, source_name, axes))
    for name in list(tensors):
        norm, _, field = name.rpartition(".")
        counter = f"{norm}.num_batches_tracked"
        if field == "running_mean" and counter not in tensors:
            tensors[counter] = torch.zeros((), dtype=torch.int64)
            trail.append(Trace(counter, None))
    return Renamed(checkpoint, layout, tensors, tuple(trail), explanation.dropped)
