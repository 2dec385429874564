"""Step 1: bytes to named tensors."""

from __future__ import annotations

import hashlib
import stat
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ReadError, some
from .records import Checkpoint
from .tensors import tensor_sha256

if TYPE_CHECKING:
    from torch import Tensor

ZIP_MAGIC = b"PK\x03\x04"


def read_checkpoint(path: Path, *, digits: str | None = None) -> Checkpoint:
    """Reads a state dict that ``torch.save`` wrote.

    The file is read once: what was hashed is what is parsed.

    Args:
        path: a regular file.
        digits: what its SHA-256 must begin with, where that is known.

    Raises:
        ReadError: the file can't be read, has another digest, or holds no state dict.
    """
    data = _read_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if digits is not None and not sha256.startswith(digits):
        raise ReadError(
            f"{path} is corrupt: its SHA-256 should begin with {digits} and is {sha256}. "
            "Delete it and run again to download it anew."
        )
    tensors = _state_dict(_unpickle(data, path), path, len(data))
    return Checkpoint(
        tensors=tensors,
        # Taken at once: what is written in the end is held against these.
        digests={name: tensor_sha256(tensor) for name, tensor in tensors.items()},
        sha256=sha256,
        size=len(data),
        format="torch-zip" if data.startswith(ZIP_MAGIC) else "torch-legacy",
    )


def _read_bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ReadError(f"{path} is no regular file. Name the checkpoint file itself.")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ReadError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}.") from error
    if not data:
        raise ReadError(f"{path} is empty. Download or copy it again.")
    if data.lstrip()[:1] == b"<":
        raise ReadError(
            f"{path} is an HTML or XML page, not a checkpoint: a download that went to a login or "
            "error page looks like this. Download it again."
        )
    return data


def _unpickle(data: bytes, path: Path) -> Any:
    import torch

    file = BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our message is the one to read
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its parsers meet in the bytes
        raise ReadError(
            f"{path} is not a state dict that torch.save wrote: it is truncated, is of another format, or "
            f"holds Python objects that only running its code could rebuild ({type(error).__name__}). "
            "Copy the file again, or ask its author for its state_dict()."
        ) from error
    left = len(data) - file.tell()
    if left and not data.startswith(ZIP_MAGIC):
        raise ReadError(
            f"{path} goes on for {left:,} bytes after the end of the checkpoint. "
            "Something was appended to it: get it from its source again."
        )
    return content


def _state_dict(content: Any, path: Path, size: int) -> dict[str, Tensor]:
    import torch

    if not isinstance(content, Mapping) or not content:
        raise ReadError(f"{path} holds a {type(content).__name__}, expected a dict of tensors.")
    foreign = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        raise ReadError(
            f"{path} holds values that are no tensors, expected a dict of tensors: {some(foreign)}. "
            "If one of them is the state dict, save that one alone to a file of its own."
        )
    for name, tensor in content.items():
        if not isinstance(name, str):
            raise ReadError(f"{path} holds a tensor under {name!r}, expected names that are text.")
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            kind = "quantised" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}"
            raise ReadError(f"{path}: {name} is {kind}, expected a dense tensor with its elements.")
        if tensor.numel() * tensor.element_size() > size:
            raise ReadError(f"{path}: {name} claims to be larger than the file. It is damaged, or an attack.")
    # In one order of elements: torchvision's loader copies into that, too, and kernels
    # sum in the order in which elements lie.
    return {name: tensor.detach().contiguous() for name, tensor in content.items()}
