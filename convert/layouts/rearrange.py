"""Puts a source's tensors where they belong, by steps that were found beside the same network elsewhere.

No number changes: tensors are taken under other names, with their axes or the entries along one in another
order.  The steps are taken all at once, so that two tensors can be exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import LayoutError, quoted
from ..records import Checkpoint, Rewrite, Rewritten
from ..tensors import tensor_sha256

if TYPE_CHECKING:
    from torch import Tensor

# The steps, as receipts call them.
EXCHANGED, RENAMED, PERMUTED, REORDERED = "exchanged", "renamed", "axes-permuted", "entries-reordered"
REARRANGED = (EXCHANGED, RENAMED, PERMUTED, REORDERED)


def rearrange_tensors(checkpoint: Checkpoint, steps: Sequence[Rewrite]) -> Checkpoint:
    """Returns the checkpoint with each step's result under its name, and its digests.

    Args:
        checkpoint: what was read.
        steps: each takes one tensor, and no two give one name.

    Raises:
        LayoutError: a step takes a tensor that is not there, or that has no such axes.
    """
    if not steps:
        return checkpoint
    held, digests = checkpoint.tensors, checkpoint.digests
    taken = {name for step in steps for name in step.sources}
    if missing := [name for name in taken if name not in held]:
        raise LayoutError(f"There is no tensor {quoted(missing[0])}, which was to be rearranged.")
    if several := [step.target for step in steps if len(step.sources) != 1]:
        raise LayoutError(f"{quoted(several[0])} is to be made of other than one tensor, which no step does.")
    made: dict[str, Tensor] = {}
    done: list[Rewritten] = []
    for step in steps:
        (name,) = step.sources
        made[step.target] = _transformed(name, held[name], step.transform)
        digest = digests[name] if step.transform is None else tensor_sha256(made[step.target])
        done.append(Rewritten(step.name, ((name, digests[name]),), step.target, digest, step.transform))
    kept = {name: tensor for name, tensor in held.items() if name not in taken}
    found = {one.target: one.sha256 for one in done}
    return replace(
        checkpoint,
        tensors=kept | made,
        digests={name: digests[name] for name in kept} | found,
        rewrites=tuple(done),
        untouched=held,
    )


def _transformed(name: str, tensor: Tensor, transform: Mapping[str, Any] | None) -> Tensor:
    if transform is None:
        return tensor
    axis, order = transform.get("axis"), transform.get("order", transform.get("permute"))
    lengths: dict[Any, int] = {None: tensor.ndim, **dict(enumerate(tensor.shape))}
    known = isinstance(axis, int | None) and isinstance(order, list) and set(map(type, order)) <= {int}
    if not known or sorted(order) != list(range(lengths.get(axis, 0))):
        found = quoted(str(dict(transform)))
        raise LayoutError(f"{quoted(name)} of shape {list(tensor.shape)} can't be rearranged by {found}.")
    if axis is None:
        return tensor.permute(order).contiguous()
    import torch

    return tensor.index_select(axis, torch.tensor(order))


def recorded_steps(receipt: Mapping[str, Any]) -> list[Rewrite]:
    """Returns the steps of a receipt that put tensors where they belong."""
    return [
        Rewrite(
            entry["step"],
            tuple(source["source_name"] for source in entry["sources"]),
            entry["name"],
            transform=entry.get("transform"),
        )
        for entry in receipt["rewrites"]
        if entry["step"] in REARRANGED
    ]
