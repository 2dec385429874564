"""Both networks on a folder of images: each told by its own side how to prepare them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from math import inf
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import ArchitectureError, ImageError, ParityError, quoted
from ..records import Progress
from ..results import Agreement
from ..tensors import same_bits
from .determinism import deterministic
from .image_files import find_images
from .preprocessing import config_transform, preset_transform
from .tolerance import largest_error, logits_of


def compare_images(
    ours: nn.Module,
    theirs: nn.Module,
    config: Mapping[str, Any],
    folder: Path,
    device: torch.device,
    progress: Progress | None,
    *,
    as_torchvision: bool = True,
) -> Agreement:
    """Compares, on every image of a folder, the first class and the logits of both networks.

    Our network sees an image as config.json tells to prepare it, the reference as torchvision's preset does.

    Args:
        ours: our network; it is left as it was.
        theirs: the reference, on ``device``.
        config: the content of config.json.
        folder: is searched through, and the folders in it, for files whose names end as torchvision's
            ``ImageFolder`` takes them.
        device: where both run.
        progress: wraps the paths of the images, and is told what they are.
        as_torchvision: whether the reference prepares images as torchvision does; where its library does
            not, nothing but ``config`` tells how.

    Raises:
        ImageError: there is none, or one can't be read.
        ArchitectureError: the network has no classes, or does not take RGB.
        ParityError: the networks differ on an image.
    """
    files = find_images(folder)
    agreed, largest, where = 0, 0.0, ""
    shown = files if progress is None else progress(files, "images")
    for file, _, a, b in run_both(ours, theirs, config, shown, device, as_torchvision=as_torchvision):
        agreed += int(a.argmax() == b.argmax())
        difference = apart(a, b)
        if difference > largest:
            largest, where = difference, str(file)
    if largest or agreed < len(files):
        raise ParityError(
            f"On {len(files):,} images both networks name the same class for {agreed:,}, and the logits "
            f"differ by up to {largest:.3g}, expected 0, most on {quoted(where)}.",
            where="the output",
            largest=largest,
        )
    return Agreement(len(files), agreed, largest)


def run_both(
    ours: nn.Module,
    theirs: nn.Module,
    config: Mapping[str, Any],
    files: Iterable[Path],
    device: torch.device,
    *,
    as_torchvision: bool,
) -> Iterator[tuple[Path, Image.Image, Tensor, Tensor]]:
    """Yields each file, its image, and both networks' logits, ``[1, classes]``; see ``compare_images``."""
    if config["num_classes"] == 0 or config["pretrained_cfg"]["input_size"][0] != 3:
        raise ArchitectureError("Images are compared with networks that have classes and take RGB only.")
    dtype = next(theirs.parameters()).dtype
    ours = deepcopy(ours).to(device, dtype)
    downstream = config_transform(config["pretrained_cfg"])
    upstream = preset_transform() if as_torchvision else downstream
    with deterministic(device):
        for file in files:
            image = _read(file)
            a, b = (
                logits_of(network, transform(image)[None].to(device, dtype))
                for network, transform in ((ours, downstream), (theirs, upstream))
            )
            yield file, image, a, b


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two networks' logits; infinite where it is no number, 0 for equal bits alone."""
    if same_bits(ours, theirs):
        return 0.0
    difference = largest_error(ours, theirs.double()) or inf
    return inf if difference != difference else difference


def _read(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            # Its shorter side becomes 256: a thin line of pixels would become a wide one.
            if max(image.size) * 256**2 > (Image.MAX_IMAGE_PIXELS or inf) * min(image.size):
                raise ValueError(f"{image.width} x {image.height} pixels are too thin to be resized")
            return image.convert("RGB")
    # Pillow's decoders raise what they like on a damaged file.
    except Exception as error:
        raise ImageError(
            f"{quoted(str(file))} can't be read as an image: {error}. Mend it, or take it away."
        ) from error
