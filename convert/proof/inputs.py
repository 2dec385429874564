"""The inputs on which both networks run."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from densenet_convert.densenet import DenseNetConfig

# Mode, and [N, H, W], by the number of dimensions.  ceil_mode can't be seen where the windows fill the side.
# 91 and 123 leave a rest at every pooling: 46 and 62 at the stem's, then 23 and 31, 11 and 15, 5 and 7, and 3
# where there is a fifth block.  Of 41, 53 and 37 one leaves a rest at each transition, and 64 at the stem's.
# The large input is the last: it takes the most memory, and nothing is to be done beside it.
INPUTS = {
    1: (("eval", (3, 123)), ("train", (2, 96)), ("eval", (1, 224))),
    2: (("eval", (2, 91, 123)), ("train", (2, 64, 96)), ("eval", (1, 224, 224))),
    3: (("eval", (3, 41, 53, 37)), ("train", (2, 64, 48, 48)), ("eval", (1, 64, 64, 64))),
}
# A further size of an owner's network, for those that do not take the proof's own.
LARGER = {1: (224,), 2: (224, 224), 3: (96, 96, 96)}
# The shorter side of the smallest input is halved by the stem twice and by each transition.
MOST_BLOCKS = {1: 5, 2: 5, 3: 4}
# Further inputs in eval mode are drawn while they show more of the network, up to so many.
MOST_ADDED = 8

# The largest error of fewer logits says little: see ``tolerance.factor``.
FEWEST_LOGITS = 24

Shape = tuple[int, ...]


def proof_inputs(config: DenseNetConfig) -> list[tuple[str, Shape]]:
    """Mode, ``"eval"`` or ``"train"``, and shape ``[N, C, H, W]`` of each input."""
    inputs = INPUTS[config.spatial_dims]
    return [(mode, (images, config.in_channels, *sides)) for mode, (images, *sides) in inputs]


def odd_shape(config: DenseNetConfig) -> Shape:
    """Shape of the input on which rounding is measured."""
    return proof_inputs(config)[0][1]


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
