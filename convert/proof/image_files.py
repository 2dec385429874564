"""Finds the images in a folder; needs no torch."""

from __future__ import annotations

from pathlib import Path

from ..errors import ImageError

# What torchvision's ImageFolder takes for images.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def find_images(folder: Path) -> list[Path]:
    """Paths of all images in a folder and the folders in it, sorted.

    Raises:
        ImageError: there is none, or the folder can't be read.
    """
    try:
        if not folder.is_dir():
            raise ImageError(f"{folder} is no folder. Name one that holds images.")
        named = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
        found = sorted(path for path in named if path.is_file())
    except OSError as error:
        raise ImageError(f"{folder} can't be read: {error.strerror or error}.") from error
    if not found:
        raise ImageError(f"{folder} holds no image: no name in it ends in {', '.join(SUFFIXES)}.")
    return found
