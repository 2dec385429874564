"""What both networks are run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# [N, H, W].  On even sides ceil_mode can't be seen; 75 x 107 is odd at every pooling.
EVAL_SIZES = ((1, 224, 224), (3, 75, 107))
TRAIN_SIZE = (2, 64, 96)

Shape = tuple[int, ...]


def input_shapes(channels: int) -> tuple[tuple[str, Shape], ...]:
    """Mode and shape ``[N, C, H, W]`` of each input, in the order in which they are run."""
    sizes = [("eval", size) for size in EVAL_SIZES] + [("train", TRAIN_SIZE)]
    return tuple((mode, (n, channels, h, w)) for mode, (n, h, w) in sizes)


def draw(shape: Shape, *, seed: int) -> torch.Tensor:
    """A float32 tensor on the CPU, uniform over -2 to 2, about where normalised images lie."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float32).mul_(4).sub_(2)
