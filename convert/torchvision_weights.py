"""Facts that torchvision states about the ImageNet weights that it serves."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

LICENSE = "bsd-3-clause"
DATASET = "ILSVRC/imagenet-1k"


def weights_url(architecture: str) -> str:
    """Returns the address at which torchvision serves its weights of, say, ``"densenet169"``."""
    url: str = _weights(architecture).url
    return url


def weights_digits(architecture: str) -> str:
    """The digits with which the SHA-256 of that file begins, as its name states them."""
    match = re.search(r"-([a-f0-9]{8,})\.", weights_url(architecture))
    assert match is not None  # torch.hub's convention for the names of weight files
    return match[1]


def imagenet_accuracy(architecture: str) -> tuple[float, float]:
    """Top-1 and top-5 accuracy on ImageNet-1k's validation images in percent, as torchvision states them."""
    found = _weights(architecture).meta["_metrics"]["ImageNet-1K"]
    return found["acc@1"], found["acc@5"]


def imagenet_names() -> tuple[str, ...]:
    """torchvision's names of ImageNet's 1,000 classes, in their order."""
    return tuple(_weights("densenet121").meta["categories"])


@cache
def _weights(architecture: str) -> Any:
    from torchvision.models import get_model_weights

    return get_model_weights(architecture).IMAGENET1K_V1
