"""The bytes of a tensor."""

from __future__ import annotations

import hashlib
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

phases = logging.getLogger("densenet_convert.phases")


def announce_torch() -> None:
    """Says that torch is loaded next, which takes seconds; nothing where it is there already."""
    if "torch" not in sys.modules:
        phases.info("loading torch")


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The elements of a CPU tensor in row-major order, in the machine's byte order.

    Shares the tensor's memory where its elements lie in order already.
    """
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of ``tensor_bytes``, hexadecimal."""
    return hashlib.sha256(tensor_bytes(tensor)).hexdigest()


def dtype_name(tensor: Tensor) -> str:
    """``"float32"`` for ``torch.float32``, and so on."""
    return str(tensor.dtype).removeprefix("torch.")


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether dtype, shape and every bit agree; 0.0 and -0.0 differ, and a NaN equals itself."""
    import torch

    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.is_floating_point:
        integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
        a, b = a.detach().view(integer), b.detach().view(integer)
    return torch.equal(a, b)
