"""Compares the preprocessing that config.json asks of timm and transformers with torchvision's preset.

timm's eval transform, and transformers through it, resizes the shorter side to
``floor(input_size / crop_pct)``, crops the centre and normalises
(``timm/data/transforms_factory.py``, ``transforms_imagenet_eval``).  The same is done here by
torchvision's operations, for neither library is needed to convert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import floor
from typing import Any

import torch
from torch import Tensor
from torchvision import transforms
from torchvision.models import DenseNet121_Weights
from torchvision.transforms.functional import InterpolationMode, resize, to_pil_image

from ..errors import ParityError

INTERPOLATIONS = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
    "lanczos": InterpolationMode.LANCZOS,
    "box": InterpolationMode.BOX,
    "hamming": InterpolationMode.HAMMING,
}
# Portrait, landscape, square and smaller than the crop, with odd sides: [H, W].
SIZES = ((333, 257), (240, 401), (256, 256), (97, 150))


def compare_preprocessing(config: Mapping[str, Any]) -> int:
    """Compares both preprocessings on images made here; the difference must be 0.

    Args:
        config: the content of config.json.

    Returns:
        Number of images compared; 0 for other than three input channels, for which there is no preset.

    Raises:
        ParityError: they differ; the message names the fields that are not the preset's.
    """
    fields = config["pretrained_cfg"]
    if fields["input_size"][0] != 3:
        return 0
    images = [to_pil_image(_image(*size)) for size in SIZES]
    preset = preset_transform()
    wrong = _wrong_fields(fields, preset)
    try:
        transform = config_transform(fields)
        largest = max(_difference(transform(image), preset(image)) for image in images)
    except (KeyError, TypeError, ValueError):
        largest = float("inf")
    if largest or wrong:
        raise ParityError(
            f"config.json tells another preprocessing than torchvision's preset: {', '.join(wrong)}. "
            f"The largest difference of an image is {largest:.3g}, expected 0.",
            where=f"pretrained_cfg.{wrong[0].split()[0]}" if wrong else "pretrained_cfg",
            largest=largest,
        )
    return len(images)


def preset_transform() -> Callable[[Any], Tensor]:
    """torchvision's own for its DenseNets, from a PIL image to float32 ``[3, H, W]``."""
    preset: Callable[[Any], Tensor] = DenseNet121_Weights.IMAGENET1K_V1.transforms()
    return preset


def config_transform(fields: Mapping[str, Any]) -> transforms.Compose:
    """Returns timm's transform of config.json's ``pretrained_cfg``: PIL image to float32 ``[3, H, W]``."""
    sides = fields["input_size"][-2:]
    resized = [floor(side / fields["crop_pct"]) for side in sides]
    interpolation = INTERPOLATIONS[fields["interpolation"]]
    if fields["crop_mode"] == "squash":
        resized_by: Any = transforms.Resize(resized, interpolation=interpolation)
    elif resized[0] == resized[1]:
        resized_by = transforms.Resize(resized[0], interpolation=interpolation)
    else:
        resized_by = transforms.Lambda(lambda image: _covering(image, resized, interpolation))
    return transforms.Compose(
        [
            resized_by,
            transforms.CenterCrop(sides),
            transforms.ToTensor(),
            transforms.Normalize(mean=fields["mean"], std=fields["std"]),
        ]
    )


def _covering(image: Any, sides: Sequence[int], interpolation: InterpolationMode) -> Any:
    """Resizes to the smallest size, of the image's own aspect, that covers ``sides``, as timm does."""
    height, width = image.height, image.width
    ratio = min(height / sides[0], width / sides[1])
    return resize(image, [round(height / ratio), round(width / ratio)], interpolation)


def _wrong_fields(fields: Mapping[str, Any], preset: Any) -> list[str]:
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    expected = {
        "interpolation": preset.interpolation.value,
        "crop_pct": crop / resize,
        "crop_mode": "center",
        "input_size": [3, crop, crop],
        "mean": list(preset.mean),
        "std": list(preset.std),
    }
    return [
        f"{name} is {fields.get(name)}, expected {value}"
        for name, value in expected.items()
        if fields.get(name) != value
    ]


def _difference(a: Tensor, b: Tensor) -> float:
    return float("inf") if a.shape != b.shape else (a - b).abs().max().item()


def _image(height: int, width: int) -> Tensor:
    """Gradients, an edge and noise, another in each channel; uint8, ``[3, H, W]``."""
    generator = torch.Generator().manual_seed(height)
    rows, columns = torch.linspace(0, 200, height)[:, None], torch.linspace(0, 120, width)
    noise = torch.rand((3, height, width), generator=generator) * 55
    channels = torch.stack([rows + 0 * columns, 0 * rows + columns, (rows > columns) * 190.0])
    return (channels + noise).to(torch.uint8)
