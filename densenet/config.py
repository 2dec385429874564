"""The hyperparameters of a DenseNet, its tensors' names and shapes, and how to read them off a checkpoint.

Needs no torch: a checkpoint can be described without building a network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

Shape = tuple[int, ...]

_FIRST_CONV, _FIRST_CONV_BIAS = "features.conv0.weight", "features.conv0.bias"
_FIRST_BOTTLENECK = "features.denseblock1.denselayer1.conv1.weight"
_FIRST_GROWTH = "features.denseblock1.denselayer1.conv2.weight"
_CLASSIFIER, _CLASSIFIER_BIAS = "classifier.weight", "classifier.bias"
_DENSE_LAYER = re.compile(r"features\.denseblock([1-9][0-9]{0,8})\.denselayer([1-9][0-9]{0,8})\..+")


@dataclass(frozen=True)
class DenseNetConfig:
    """The hyperparameters of a DenseNet.

    Args:
        growth_rate: channels that every dense layer adds (k in arXiv 1608.06993).
        block_config: dense layers in each dense block.
        num_init_features: channels of the stem.
        bn_size: width of a bottleneck, as a multiple of ``growth_rate``.
        drop_rate: probability of dropout after each dense layer, in training.
        num_classes: width of the classifier; 0 leaves the classifier out.
        in_channels: channels of the input.
        memory_efficient: recompute concatenations and bottlenecks in the backward
            pass instead of keeping them (arXiv 1707.06990).
        transition_pool: ``"avg"`` as published, or ``"max"``.
        norm_eps: epsilon of every batch normalisation.
        stem_padding: zero pixels before and after each side of the input of the
            first convolution.
        final_relu: whether a ReLU stands behind the last norm, as in torchvision.
        stem_bias: whether the first convolution has a bias, as torchvision's has not.
        spatial_dims: dimensions of the input beside its channels: 2 of an image, or 1 or 3 as in
            ``monai.networks.nets.DenseNet``.

    Raises:
        ValueError: a value is out of range.

    Examples:
        >>> config = DenseNetConfig(growth_rate=12, block_config=(3, 3), num_init_features=24, num_classes=10)
        >>> config.num_features
        66
        >>> config.tensor_shapes()["classifier.weight"]
        (10, 66)
    """

    growth_rate: int = 32
    block_config: tuple[int, ...] = (6, 12, 24, 16)
    num_init_features: int = 64
    bn_size: int = 4
    drop_rate: float = 0.0
    num_classes: int = 1000
    in_channels: int = 3
    memory_efficient: bool = False
    transition_pool: str = "avg"
    norm_eps: float = 1e-5
    stem_padding: tuple[int, int] = (3, 3)
    final_relu: bool = True
    stem_bias: bool = False
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        # A config that came from JSON carries lists; the record must be hashable.
        object.__setattr__(self, "block_config", tuple(self.block_config))
        object.__setattr__(self, "stem_padding", tuple(self.stem_padding))
        at_least_one = ("growth_rate", "num_init_features", "bn_size", "in_channels")
        problems = [
            f"{name} is {getattr(self, name)}, expected at least 1"
            for name in at_least_one
            if getattr(self, name) < 1
        ]
        if not self.block_config or min(self.block_config) < 1:
            problems.append(f"block_config is {self.block_config}, expected layers in every block")
        if self.num_classes < 0:
            problems.append(f"num_classes is {self.num_classes}, expected 0 or more")
        if not 0 <= self.drop_rate < 1:
            problems.append(f"drop_rate is {self.drop_rate}, expected 0 <= rate < 1")
        if self.transition_pool not in ("avg", "max"):
            problems.append(f"transition_pool is {self.transition_pool!r}, expected 'avg' or 'max'")
        if not self.norm_eps > 0:
            problems.append(f"norm_eps is {self.norm_eps}, expected a positive number")
        if len(self.stem_padding) != 2 or min(self.stem_padding) < 0:
            problems.append(f"stem_padding is {self.stem_padding}, expected (before, after)")
        problems += [
            f"{name} is {getattr(self, name)!r}, expected true or false"
            for name in ("final_relu", "stem_bias")
            if not isinstance(getattr(self, name), bool)
        ]
        if type(self.spatial_dims) is not int or not 1 <= self.spatial_dims <= 3:
            problems.append(f"spatial_dims is {self.spatial_dims!r}, expected 1, 2 or 3")
        if problems:
            raise ValueError("; ".join(problems))

    def block_widths(self) -> Iterator[tuple[int, int]]:
        """Yields, for each dense block, the channels that enter and that leave it."""
        width = self.num_init_features
        for layers in self.block_config:
            grown = width + layers * self.growth_rate
            yield width, grown
            width = grown // 2

    @property
    def num_features(self) -> int:
        """Channels that enter the classifier."""
        return list(self.block_widths())[-1][1]

    def tensor_shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor of the network, in the order of its state dict.

        The names are torchvision's of today, ``num_batches_tracked`` included.
        """
        shapes: dict[str, Shape] = {_FIRST_CONV: self._kernel(self.num_init_features, self.in_channels, 7)}
        if self.stem_bias:
            shapes[_FIRST_CONV_BIAS] = (self.num_init_features,)
        shapes.update(_norm_shapes("features.norm0", self.num_init_features))
        last_block = len(self.block_config)
        for block, (width, grown) in enumerate(self.block_widths(), start=1):
            for layer in range(1, self.block_config[block - 1] + 1):
                shapes.update(self._layer_shapes(f"features.denseblock{block}.denselayer{layer}", width))
                width += self.growth_rate
            if block < last_block:
                shapes.update(_norm_shapes(f"features.transition{block}.norm", grown))
                shapes[f"features.transition{block}.conv.weight"] = self._kernel(grown // 2, grown, 1)
        shapes.update(_norm_shapes("features.norm5", self.num_features))
        if self.num_classes:
            shapes[_CLASSIFIER] = (self.num_classes, self.num_features)
            shapes[_CLASSIFIER_BIAS] = (self.num_classes,)
        return shapes

    def _layer_shapes(self, prefix: str, width: int) -> dict[str, Shape]:
        bottleneck = self.bn_size * self.growth_rate
        return {
            **_norm_shapes(f"{prefix}.norm1", width),
            f"{prefix}.conv1.weight": self._kernel(bottleneck, width, 1),
            **_norm_shapes(f"{prefix}.norm2", bottleneck),
            f"{prefix}.conv2.weight": self._kernel(self.growth_rate, bottleneck, 3),
        }

    def _kernel(self, out: int, width: int, side: int) -> Shape:
        return (out, width, *[side] * self.spatial_dims)


def _norm_shapes(prefix: str, width: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {
        f"{prefix}.{field}": (width,) for field in ("weight", "bias", "running_mean", "running_var")
    }
    shapes[f"{prefix}.num_batches_tracked"] = ()
    return shapes


# Table 1 of arXiv 1608.06993; 161 is the wide one of torchvision (k = 48, 96 in the stem).
ARCHITECTURES: dict[str, DenseNetConfig] = {
    "densenet121": DenseNetConfig(block_config=(6, 12, 24, 16)),
    "densenet161": DenseNetConfig(growth_rate=48, block_config=(6, 12, 36, 24), num_init_features=96),
    "densenet169": DenseNetConfig(block_config=(6, 12, 32, 32)),
    "densenet201": DenseNetConfig(block_config=(6, 12, 48, 32)),
}


def architecture_of(config: DenseNetConfig) -> str | None:
    """The name of the architecture, such as ``"densenet169"``, or None where it has none.

    Classes, input channels, dropout and memory use do not change the name; it is one of networks for images.

    Examples:
        >>> architecture_of(DenseNetConfig(num_classes=14))
        'densenet121'
    """
    free: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("num_classes", "in_channels", "drop_rate", "memory_efficient")
    }
    return next((name for name, named in ARCHITECTURES.items() if replace(named, **free) == config), None)


# Properties of a network that its tensors' shapes do not tell; torchvision's are always the same.
UNSEEN_IN_SHAPES = ("norm_eps", "stem_padding", "transition_pool", "final_relu")


def unlike_torchvision(config: DenseNetConfig) -> dict[str, Any]:
    """Returns the settings, by name, in which a network computes otherwise than torchvision's."""
    settings = {name: getattr(config, name) for name in UNSEEN_IN_SHAPES}
    return {name: value for name, value in settings.items() if value != getattr(DenseNetConfig(), name)}


def size_of(config: DenseNetConfig) -> str | None:
    """Returns the architecture's name, whatever a library sets beside it, such as its own epsilon."""
    names = (*UNSEEN_IN_SHAPES, "stem_bias", "spatial_dims")
    return architecture_of(replace(config, **{name: getattr(DenseNetConfig(), name) for name in names}))


def architecture_label(config: DenseNetConfig) -> str:
    """Returns the architecture's name, or what it is made of where it has none."""
    architecture, dimensions = architecture_of(replace(config, spatial_dims=2)), dimensions_text(config)
    if architecture:
        return architecture + dimensions
    return (
        f"DenseNet{dimensions} with blocks {config.block_config}, growth rate {config.growth_rate}, "
        f"{config.num_init_features} channels in the stem and bottlenecks {config.bn_size} times as wide"
    )


def dimensions_text(config: DenseNetConfig) -> str:
    """``" in 3 dimensions"``, which a network's name ends with; empty for one of images."""
    if config.spatial_dims == 2:
        return ""
    return f" in {config.spatial_dims} dimension{'s' * (config.spatial_dims > 1)}"


def infer_config(shapes: Mapping[str, Shape]) -> DenseNetConfig:
    """Reads the hyperparameters off the shapes of a network's tensors, under canonical names.

    Epsilon, padding, pooling and dropout leave no trace in shapes and keep their
    defaults.  Only what is needed is looked at: compare the whole with
    ``tensor_shapes``.

    Raises:
        ValueError: a tensor that decides the architecture is missing or has a shape
            that no DenseNet has.

    Examples:
        >>> infer_config(DenseNetConfig(num_classes=14).tensor_shapes()).num_classes
        14
    """
    # Kernels of one and of three dimensions are MONAI's.
    rank = len(shapes.get(_FIRST_CONV, ()))
    rank = rank if rank in (3, 5) else 4
    stem = _shape_of(shapes, _FIRST_CONV, rank)
    bottleneck = _shape_of(shapes, _FIRST_BOTTLENECK, rank)[0]
    growth_rate = _shape_of(shapes, _FIRST_GROWTH, rank)[0]
    if bottleneck % growth_rate:
        raise ValueError(
            f"{_FIRST_BOTTLENECK} has {bottleneck} channels, which is no multiple of the "
            f"growth rate {growth_rate} of {_FIRST_GROWTH}"
        )
    has_head = _CLASSIFIER in shapes or _CLASSIFIER_BIAS in shapes
    return DenseNetConfig(
        growth_rate=growth_rate,
        block_config=_block_config(shapes),
        num_init_features=stem[0],
        bn_size=bottleneck // growth_rate,
        num_classes=_shape_of(shapes, _CLASSIFIER, 2)[0] if has_head else 0,
        in_channels=stem[1],
        stem_bias=_FIRST_CONV_BIAS in shapes,
        spatial_dims=rank - 2,
    )


def _shape_of(shapes: Mapping[str, Shape], name: str, rank: int) -> Shape:
    if name not in shapes:
        raise ValueError(f"{name} is missing")
    shape = shapes[name]
    if len(shape) != rank:
        raise ValueError(f"{name} has shape {shape}, expected {rank} dimensions")
    if 0 in shape:
        raise ValueError(f"{name} has shape {shape}, expected at least 1 in every dimension")
    return shape


def _block_config(shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    blocks: dict[int, set[int]] = {}
    for match in filter(None, map(_DENSE_LAYER.fullmatch, shapes)):
        blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    # A block or layer number that jumps would make a network of any size out of one name.
    if (block := _first_gap(blocks)) is not None:
        raise ValueError(f"features.denseblock{block} is missing")
    for block, layers in sorted(blocks.items()):
        if (layer := _first_gap(layers)) is not None:
            raise ValueError(f"features.denseblock{block}.denselayer{layer} is missing")
    return tuple(len(blocks[block]) for block in sorted(blocks))


def _first_gap(numbers: Collection[int]) -> int | None:
    """The first number from 1 up that is missing below the highest; None where none is."""
    return next((n for n in range(1, len(numbers) + 1) if n not in numbers), None)
