"""Reads a checkpoint: bytes to named tensors."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from densenet_convert.densenet import ARCHITECTURES

from ..errors import ReadError, WeightsUnavailableError
from ..folder.files import WEIGHTS, is_ours
from ..formats.raw import RawTensor
from ..formats.recognise import Content
from ..formats.untrusted import Budget, FormatError
from ..records import ORIGIN_IMAGENET, ORIGIN_RANDOM, Checkpoint
from ..temporary import temporary_folder
from ..torchvision_weights import weights_digits, weights_url
from .beside import settings_beside
from .download import download
from .file import parse_checkpoint, read_whole
from .random_weights import random_checkpoint

if TYPE_CHECKING:
    from torch import Tensor


log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")


class Opened(NamedTuple):
    """A file that was read and understood, and nothing of it copied: no torch was needed for it.

    Attributes:
        path: the file.
        size: its length in bytes.
        sha256: its digest, hexadecimal.
        content: what it holds.
        settings: what lies beside it tells; see ``settings_beside``.
    """

    path: Path
    size: int
    sha256: str
    content: Content
    settings: Mapping[str, Any]

    def load(self, *, with_claims: bool = False) -> Checkpoint:
        """Returns the tensors in memory of their own; what was read is gone then, so that it works once.

        Args:
            with_claims: whether the caller takes over what a converted folder says of its weights.

        Raises:
            ReadError: views of a storage claim more than the file may take.
        """
        content = self.content
        try:
            tensors, digests = _copy(content.tensors, Budget(self.size))
        except FormatError as error:
            raise ReadError(f"{self.path} can't be read: {error}") from error
        if _was_converted(self.path) and not with_claims:
            log.warning(
                "%s was converted already: labels, license and receipt beside it are not taken over.",
                self.path,
            )
        return Checkpoint(
            tensors,
            digests,
            self.sha256,
            self.size,
            content.format,
            content.container,
            layers=content.layers,
            **self.settings,
            calls=content.calls,
            labels=content.labels,
        )


def open_checkpoint(
    path: Path, *, digits: str | None = None, key: str | None = None, ignore_config: bool = False
) -> Opened:
    """Reads a file once, and what was hashed is what is parsed; nothing in it is executed.

    Args and Raises: as ``read_checkpoint``.
    """
    phases.info("reading %s", path)
    data = read_whole(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if digits is not None and not sha256.startswith(digits):
        raise ReadError(
            f"{path} is corrupt: its SHA-256 should begin with {digits} and is {sha256}. "
            "Delete it and run again to download it anew."
        )
    content = parse_checkpoint(data, path, key)
    return Opened(path, len(data), sha256, content, settings_beside(path, ignore_config=ignore_config))


def read_checkpoint(
    path: Path, *, digits: str | None = None, key: str | None = None, ignore_config: bool = False
) -> Checkpoint:
    """Reads the state dict in a file, which is in one of the formats of ``formats``.

    Of weights that this converter or its network wrote, what lies beside them tells settings.

    Args:
        path: a regular file.
        digits: what its SHA-256 must begin with, where that is known.
        key: keys that lead to the state dict, joined by dots, where it is not to be looked for.
        ignore_config: see ``settings_beside``.

    Raises:
        ReadError: the file can't be read, has another digest, is not sound or holds no
            state dict.
        FolderError: it is the weights of a converted folder, whose receipt was changed, or names settings,
            such as a padding, that weights alone do not tell.
    """
    return open_checkpoint(path, digits=digits, key=key, ignore_config=ignore_config).load()


def _was_converted(path: Path) -> bool:
    return path.name == WEIGHTS and is_ours(path.parent)


def is_imagenet(checkpoint: Checkpoint | Opened) -> bool:
    """Whether the file is one of those that torchvision serves, by its SHA-256."""
    return any(checkpoint.sha256.startswith(weights_digits(name)) for name in ARCHITECTURES)


def read_imagenet(architecture: str, weights: str, progress: bool) -> Checkpoint:
    """Reads torchvision's own file, from torch's hub cache or by a download into it.

    Args:
        architecture: such as ``"densenet169"``.
        weights: must be ``"IMAGENET1K_V1"``.
        progress: draw a bar of a download on stderr.

    Raises:
        WeightsUnavailableError: there are no such weights, or they can't be had.
        ReadError: what is in the cache has another digest, or is not sound.
    """
    if weights != ORIGIN_IMAGENET:
        raise WeightsUnavailableError(
            f"There are no weights {weights!r} of {architecture}, expected {ORIGIN_IMAGENET} or "
            f"{ORIGIN_RANDOM}."
        )
    phases.info("fetching torchvision's weights of %s", architecture)
    digits = weights_digits(architecture)
    path = download(weights_url(architecture), digits, progress=progress)
    return replace(read_checkpoint(path, digits=digits), origin=ORIGIN_IMAGENET)


def read_random(architecture: str, seed: int) -> Checkpoint:
    """Draws random weights, which go through a file and the reader as a download does.

    Args:
        architecture: such as ``"densenet169"``.
        seed: 0 to 2**63 - 1.

    Raises:
        WeightsUnavailableError: the seed is out of range.
    """
    if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise WeightsUnavailableError(f"The seed is {seed!r}, expected a whole number from 0 to 2**63 - 1.")
    with temporary_folder() as folder:
        path = folder / f"{architecture}-random-{seed}.pth"
        path.write_bytes(random_checkpoint(ARCHITECTURES[architecture], seed))
        return replace(read_checkpoint(path), origin=ORIGIN_RANDOM, seed=seed)


def _copy(raw_tensors: Mapping[str, RawTensor], budget: Budget) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors with memory of their own, in row-major order, and the digest of each one's bytes.

    torchvision's loader copies into that order, too, and kernels sum in the order in which
    elements lie.  Names that are tied stay so.
    """
    copies: dict[Any, tuple[Tensor, str]] = {}
    waiting = Counter(id(raw.storage) for raw in raw_tensors.values())
    for raw in raw_tensors.values():
        if raw.key not in copies:
            # Views of one storage can claim its bytes over and over.
            budget.take(raw.nbytes)
            elements = raw.row_major()
            # Taken at once: what is written in the end is held against these.
            copies[raw.key] = _tensor(raw, elements), hashlib.sha256(elements).hexdigest()
            del elements
        waiting[id(raw.storage)] -= 1
        if not waiting[id(raw.storage)]:
            raw.storage.data = None  # what was inflated or decoded is not needed twice
    found = {name: copies[raw.key] for name, raw in raw_tensors.items()}
    return {name: pair[0] for name, pair in found.items()}, {name: pair[1] for name, pair in found.items()}


def _tensor(raw: RawTensor, elements: memoryview) -> Tensor:
    import torch

    dtype = getattr(torch, raw.dtype)
    if not elements:
        return torch.empty(raw.shape, dtype=dtype)
    writable = bytearray(elements) if elements.readonly else elements
    # A copy of torch's own, on 64 bytes: MKL's sums differ in the last bit by where a tensor lies in memory.
    return torch.frombuffer(writable, dtype=dtype).clone().reshape(raw.shape)
