"""Faults of the network: each leaves every tensor as it was, and computes another function.

A fault is located by the layer that it changes, or by the first that reads what that computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from densenet_convert.densenet import DenseNet
from densenet_convert.densenet.model import LAYERS

from ...records import Loaded
from .faults import NETWORK, Draw, Fault


def network_faults(clean: Loaded, draw: Draw) -> Iterator[Fault]:
    """Yields every fault of the network, at places that are drawn."""
    names = {name: module for name, module in clean.model.named_modules() if name}
    norms = [name for name, module in names.items() if isinstance(module, _BatchNorm)]
    # Keras' in place of torchvision's, or the other way round.
    other = "1e-5" if clean.config.norm_eps == 1.001e-5 else "1.001e-5"
    yield _changing(f"epsilon of {other}", _set_all(norms, "eps", float(other)), *norms)
    for name in draw.places(norms):
        yield _changing("a batch norm left in training", _set_all([name], "training", True), name)
        yield _changing("another momentum", _set_all([name], "momentum", 0.2), name, f"{name}.running_mean")
    yield from _pooling(names, LAYERS[clean.config.spatial_dims].max_pool)
    yield from _padding(names, draw)
    yield from _activations(names, draw)
    yield from _blocks(clean, draw)


def _changing(name: str, change: Callable[[DenseNet], None], *where: str, nothing: bool = False) -> Fault:
    return Fault(name, NETWORK, change, frozenset(where), nothing)


def _set_all(names: Sequence[str], field: str, value: object) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        for name in names:
            setattr(model.get_submodule(name), field, value)

    return change


def _put(name: str, module: Callable[[nn.Module], nn.Module]) -> Callable[[DenseNet], None]:
    """Puts another module in the place of one."""

    def change(model: DenseNet) -> None:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module(model.get_submodule(name)))

    return change


def _pooling(names: Mapping[str, nn.Module], max_pool: Callable[..., nn.Module]) -> Iterator[Fault]:
    for name, module in names.items():
        if isinstance(module, _AvgPoolNd):
            yield _changing("max for average pooling", _put(name, lambda _: max_pool(2, 2)), name)
        if isinstance(module, _AvgPoolNd | _MaxPoolNd):
            yield _changing("ceil_mode", _set_all([name], "ceil_mode", True), name)


def _padding(names: Mapping[str, nn.Module], draw: Draw) -> Iterator[Fault]:
    convolutions = [(name, module) for name, module in names.items() if isinstance(module, _ConvNd)]
    padded = [name for name, module in convolutions if set(module.padding) != {0}]
    padded.remove("features.conv0")
    for name in ["features.conv0", *draw.places(padded)]:

        def change(model: DenseNet, name: str = name) -> None:
            layer: Any = model.get_submodule(name)
            width, dimensions = layer.padding[0], len(layer.padding)
            layer.padding = (0,) * dimensions
            sides = (width - 1, width + 1) * dimensions
            layer.register_forward_pre_hook(lambda _, inputs: (F.pad(inputs[0], sides),))

        yield _changing("asymmetric padding", change, name)


def _activations(names: Mapping[str, nn.Module], draw: Draw) -> Iterator[Fault]:
    relus = [name for name, module in names.items() if isinstance(module, nn.ReLU)]
    for name in draw.places(relus):
        reader, norm = _around(name)
        yield _changing("a ReLU missing", _put(name, lambda _: nn.Identity()), reader)

        def moved(model: DenseNet, name: str = name, norm: str = norm) -> None:
            _put(name, lambda _: nn.Identity())(model)
            model.get_submodule(norm).register_forward_pre_hook(lambda _, inputs: (inputs[0].relu(),))

        yield _changing("a ReLU moved before its norm", moved, norm, reader)

    def last(model: DenseNet) -> None:
        def forward(x: Tensor) -> Any:
            average = LAYERS[model.config.spatial_dims].average
            return model.classifier(average(model.features(x), 1).flatten(1))

        model.forward = forward  # type: ignore[method-assign]

    yield _changing("a ReLU missing", last, "classifier", "the output")


def _around(relu: str) -> tuple[str, str]:
    """The layer that reads a ReLU's output, and the norm before it."""
    parent, _, name = relu.rpartition(".")
    number = name.removeprefix("relu")
    if parent == "features":
        return "features.pool0", "features.norm0"
    return f"{parent}.conv{number}", f"{parent}.norm{number}"


def _blocks(clean: Loaded, draw: Draw) -> Iterator[Fault]:
    most = draw.sites // len(clean.config.block_config) or 1
    for block, layers in enumerate(clean.config.block_config, start=1):
        name = f"features.denseblock{block}"
        after = _reader(clean, block, layers)
        yield _changing("concatenation reversed", _reversed_block(name), after)
        for layer in draw.places(range(1, layers + 1), most):
            path, reader = f"{name}.denselayer{layer}", _reader(clean, block, layer)
            if layer > 1:
                yield _changing("concatenation reversed", _reversed_layer(path), f"{path}.norm1")
            yield _changing("dropout left in training", _dropout(path, 0.2, training=True), reader)
            yield _changing("dropout added", _dropout(path, 0.2, training=False), reader)
            yield _changing(
                "dropout left in training", _dropout(path, 0.0, training=True), reader, nothing=True
            )


def _reader(clean: Loaded, block: int, layer: int) -> str:
    """The first layer that reads the output of a dense layer."""
    if layer < clean.config.block_config[block - 1]:
        return f"features.denseblock{block}.denselayer{layer + 1}.norm1"
    last = block == len(clean.config.block_config)
    return "features.norm5" if last else f"features.transition{block}.norm"


def _reversed_block(name: str) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        block = model.get_submodule(name)

        def forward(x: Tensor) -> Tensor:
            features = [x]
            for layer in block.children():
                features.append(layer(features))
            return torch.cat(features[::-1], 1)

        block.forward = forward

    return change


def _reversed_layer(name: str) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        layer = model.get_submodule(name)
        forward = layer.forward
        layer.forward = lambda features: forward(features[::-1])

    return change


def _dropout(name: str, rate: float, *, training: bool) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        layer: Any = model.get_submodule(name)
        layer.drop_rate, layer.training = rate, training

    return change
