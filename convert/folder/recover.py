"""Rebuilds the source's tensors from a converted folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import Checkpoint
from ..tensors import tensor_sha256
from . import receipt
from .files import WEIGHTS
from .open import read_tensors
from .records import Written

if TYPE_CHECKING:
    from torch import Tensor


def recover_checkpoint(written: Written) -> Checkpoint:
    """Returns the source's tensors under the source's names, rebuilt from the folder and its trail.

    What was dropped is not among them.
    """
    tensors = dict(read_tensors(written.folder / WEIGHTS))
    source = written.receipt["source"]
    found = {
        entry["source_name"]: as_in_source(tensors[entry["name"]], entry["transform"])
        for entry in written.receipt["tensors"]
        if entry["source_name"] is not None
    }
    return Checkpoint(
        tensors=found,
        digests={name: tensor_sha256(tensor) for name, tensor in found.items()},
        **{
            key: source[key]
            for key in ("sha256", "size", "format", "container", "origin", "seed", "norm_eps")
        },
    )


def as_in_source(tensor: Tensor, transform: Mapping[str, Any] | None) -> Tensor:
    """Returns a canonical tensor with the axes of the source."""
    axes = receipt.axes_from(transform)
    if axes is None:
        return tensor
    back = sorted(range(len(axes)), key=axes.__getitem__)
    return tensor.permute(back).contiguous()
