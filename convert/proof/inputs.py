"""What both networks are run on."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from densenet_convert.densenet import DenseNetConfig

# [N, H, W].  ceil_mode can't be seen where the windows fill the side.  91 and 123 leave a rest at every
# pooling: 46 and 62 at the stem's, then 23 and 31, 11 and 15, 5 and 7, and 3 where there is a fifth block.
EVAL_SIZES = ((1, 224, 224), (2, 91, 123))
TRAIN_SIZE = (2, 64, 96)
# Further inputs in eval mode are drawn while they show more of the network, up to so many.
MOST_ADDED = 8

# Of fewer logits the largest error says little: see ``tolerance.factor``.
FEWEST_LOGITS = 24

Shape = tuple[int, ...]


def input_shapes(channels: int) -> tuple[tuple[Shape, ...], Shape]:
    """Shapes ``[N, C, H, W]`` of the inputs in eval mode, in their order, and of the one in training."""
    shapes = tuple((n, channels, h, w) for n, h, w in EVAL_SIZES)
    return shapes, (TRAIN_SIZE[0], channels, *TRAIN_SIZE[1:])


def measured_shape(config: DenseNetConfig) -> Shape:
    """Shape of the input on which errors are measured: with a small head, of more images."""
    count, height, width = EVAL_SIZES[-1]
    images = max(count, ceil(FEWEST_LOGITS / config.num_classes)) if config.num_classes else count
    return images, config.in_channels, height, width


def draw(shape: Shape, *, seed: int) -> torch.Tensor:
    """A float32 tensor on the CPU, uniform over -2 to 2, about where normalised images lie."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float32).mul_(4).sub_(2)
