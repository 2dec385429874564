"""Runs both networks on some of the user's images, and keeps their first classes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..image_files import find_images
from ..images import apart, run_both

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

MOST_PICTURES = 6
MOST_CLASSES = 3
SIDE = 144  # pixels, of a thumbnail's longer side


@dataclass(frozen=True)
class Picture:
    """One image, and the classes that the networks give most.

    Attributes:
        name: path of the file below its folder.
        thumbnail: a data URI.
        apart: largest difference of a logit.
        classes: name, our probability and the reference's, of each class that one of them has among its
            first; in the reference's order, then in ours.
    """

    name: str
    thumbnail: str
    apart: float
    classes: tuple[tuple[str, float, float], ...]


def look_at(
    networks: tuple[nn.Module, nn.Module],
    config: Mapping[str, Any],
    folder: Path,
    device: torch.device,
    *,
    names: Sequence[str] | None,
    softmax: bool,
    as_torchvision: bool,
) -> tuple[Picture, ...]:
    """Runs both networks on the first images of a folder.

    Args:
        networks: ours and the reference.
        config, folder, device, as_torchvision: see ``compare_images``.
        names: of the classes; None for their numbers.
        softmax: whether one class alone holds; otherwise each logit has a sigmoid of its own.

    Raises:
        ImageError: there is no image, or one can't be read.
        ArchitectureError: the network has no classes, or does not take RGB.
    """
    files = find_images(folder)[:MOST_PICTURES]
    found = run_both(*networks, config, files, device, as_torchvision=as_torchvision)
    return tuple(
        Picture(str(file.relative_to(folder)), _thumbnail(image), apart(a, b), _classes(a, b, names, softmax))
        for file, image, a, b in found
    )


def _classes(
    ours: Tensor, theirs: Tensor, names: Sequence[str] | None, softmax: bool
) -> tuple[tuple[str, float, float], ...]:
    first = dict.fromkeys((*_first(theirs), *_first(ours)))
    a, b = (_probabilities(logits, softmax) for logits in (ours, theirs))
    return tuple((f"class {i}" if names is None else names[i], a[i], b[i]) for i in first)


def _first(logits: Tensor) -> list[int]:
    count = min(MOST_CLASSES, logits.numel())
    return [int(i) for i in logits.flatten().topk(count).indices]


def _probabilities(logits: Tensor, softmax: bool) -> list[float]:
    flat = logits.double().flatten()
    values: list[float] = (flat.softmax(0) if softmax else flat.sigmoid()).tolist()
    return values


def _thumbnail(image: Image) -> str:
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    data = BytesIO()
    small.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(data.getvalue()).decode()}"
