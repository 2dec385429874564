"""Step 3: the layout's names to canonical ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import LayoutError, some
from .layout import Layout
from .records import Checkpoint, Renamed, Trace

if TYPE_CHECKING:
    from torch import Tensor


def rename_tensors(checkpoint: Checkpoint, layout: Layout) -> Renamed:
    """Renames by the layout's table; every name of the source is accounted for.

    Files of before torch 0.4.1 have no ``num_batches_tracked``: each that is absent
    becomes a zero, as torch itself fills it in, and its trace has no source name.

    Raises:
        LayoutError: the layout does not explain every name.
    """
    import torch

    explanation = layout.explain(checkpoint.tensors)
    if explanation.problems:
        raise LayoutError(f"{layout.name} does not fit: {some(explanation.problems)}.")
    tensors: dict[str, Tensor] = {}
    trail: list[Trace] = []
    for source_name, name in explanation.targets.items():
        tensors[name] = checkpoint.tensors[source_name]
        trail.append(Trace(name, source_name))
    for name in list(tensors):
        norm, _, field = name.rpartition(".")
        counter = f"{norm}.num_batches_tracked"
        if field == "running_mean" and counter not in tensors:
            tensors[counter] = torch.zeros((), dtype=torch.int64)
            trail.append(Trace(counter, None))
    return Renamed(checkpoint, layout, tensors, tuple(trail), explanation.dropped)
