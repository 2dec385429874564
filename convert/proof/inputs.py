"""The inputs on which both networks run."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from densenet_convert.densenet import DenseNetConfig

# Mode, and [N, H, W].  ceil_mode can't be seen where the windows fill the side.  91 and 123 leave a rest
# at every pooling: 46 and 62 at the stem's, then 23 and 31, 11 and 15, 5 and 7, and 3 where there is a
# fifth block.  The large input is the last: it takes the most memory, and nothing is to be done beside it.
ODD_SIZE = (2, 91, 123)
INPUTS = (("eval", ODD_SIZE), ("train", (2, 64, 96)), ("eval", (1, 224, 224)))
# Further inputs in eval mode are drawn while they show more of the network, up to so many.
MOST_ADDED = 8

# The largest error of fewer logits says little: see ``tolerance.factor``.
FEWEST_LOGITS = 24

Shape = tuple[int, ...]


def proof_inputs(channels: int) -> list[tuple[str, Shape]]:
    """Mode, ``"eval"`` or ``"train"``, and shape ``[N, C, H, W]`` of each input."""
    return [(mode, (images, channels, *sides)) for mode, (images, *sides) in INPUTS]


def odd_shape(config: DenseNetConfig) -> Shape:
    """Shape of the input on which rounding is measured."""
    images, *sides = ODD_SIZE
    return images, config.in_channels, *sides


def measured_shape(config: DenseNetConfig) -> Shape:
    """The same for a small head, with enough images for ``FEWEST_LOGITS``."""
    images, *others = odd_shape(config)
    needed = ceil(FEWEST_LOGITS / config.num_classes) if config.num_classes else 0
    return max(images, needed), *others


def draw(shape: Shape, *, seed: int) -> torch.Tensor:
    """A float32 tensor on the CPU, uniform over -2 to 2, about where normalised images lie."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float32).mul_(4).sub_(2)
