"""Weights of libraries that are not torch's, in torchvision's own modules.

The proof looks at a reference layer by layer, so that it must be made of torch's modules.  The weights are
put into torchvision's network in the order in which the library's own code names its layers, and without the
converter's table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .trees import tree_of_today

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig

CANONICAL = ("weight", "bias", "running_mean", "running_var")


class Fields(NamedTuple):
    """A library's names of the tensors of a layer; ``*`` stands for the layer's own name.

    Attributes:
        norm: a batch norm's weight, bias, mean and variance.
        conv: a kernel.
        linear: a linear layer's weight and bias.
        mark: what stands between a layer's name and its tensor's.
        conv_axes: the library's axes of a kernel in torch's order; None where they are in it.
    """

    norm: tuple[str, str, str, str]
    conv: str
    linear: tuple[str, str]
    mark: str
    conv_axes: tuple[int, ...] | None

    def of(self, module: nn.Module, layer: str) -> list[str]:
        """Returns the names of a layer's tensors, in the order of torch's fields."""
        own: Iterable[str] = self.linear
        if isinstance(module, nn.BatchNorm2d):
            own = self.norm
        elif isinstance(module, nn.Conv2d):
            own = (self.conv,)
        return [f"{layer}{self.mark}{field.replace('*', layer)}" for field in own]


KERAS = Fields(
    ("gamma", "beta", "moving_mean", "moving_variance"), "kernel", ("kernel", "bias"), "/", (3, 2, 0, 1)
)
# Keras 1 calls the variance a standard deviation.
KERAS_1 = Fields(
    ("*_gamma", "*_beta", "*_running_mean", "*_running_std"), "*_W", ("*_W", "*_b"), "/", (3, 2, 0, 1)
)
PADDLE = Fields(("weight", "bias", "_mean", "_variance"), "weight", ("weight", "bias"), ".", None)


def layers_in_order(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the layers with parameters in running order, which is that of torchvision's modules."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            yield path, module


def names_in_order(network: nn.Module, layers: Iterable[str], fields: Fields) -> list[str]:
    """Returns a library's names of all tensors, in the order of its layers."""
    pairs = zip(layers_in_order(network), layers, strict=True)
    return [name for (_, module), layer in pairs for name in fields.of(module, layer)]


def load_in_order(
    network: nn.Module, tensors: Mapping[str, Tensor], layers: Iterable[str], fields: Fields
) -> None:
    """Puts a library's tensors into torchvision's network, strictly.

    Args:
        network: torchvision's, on the meta device.
        tensors: under the library's names, without a prefix, in its order of axes; a linear layer's weight is
            ``[in, out]``.
        layers: what the library calls its layers, in running order.
        fields: what it calls their tensors.

    Raises:
        RuntimeError: one is missing, left over or of another shape.
    """
    left = dict(tensors)
    state: dict[str, Tensor] = {}
    for (path, module), layer in zip(layers_in_order(network), layers, strict=True):
        for name, field in zip(fields.of(module, layer), CANONICAL, strict=False):
            if (tensor := left.pop(name, None)) is None:
                raise RuntimeError(f"{name} is missing")
            state[f"{path}.{field}"] = _in_torch_s_order(name, tensor, module, fields)
        if isinstance(module, nn.BatchNorm2d):
            state[f"{path}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    if left:
        raise RuntimeError(f"{len(left)} tensors are left over: {', '.join(list(left)[:4])}")
    network.load_state_dict(state, strict=True, assign=True)


def _in_torch_s_order(name: str, tensor: Tensor, module: nn.Module, fields: Fields) -> Tensor:
    axes = fields.conv_axes
    if isinstance(module, nn.Linear) and name.endswith(fields.linear[0].lstrip("*")):
        axes = (1, 0)
    elif not isinstance(module, nn.Conv2d):
        return tensor
    if axes is not None and tensor.ndim != len(axes):
        raise RuntimeError(f"{name} has shape {list(tensor.shape)}")
    return tensor if axes is None else tensor.permute(axes).contiguous()


def blocks_of(network: nn.Module) -> list[int]:
    """Returns the number of layers of each dense block."""
    blocks = network.get_submodule("features").children()
    return [len(block) for block in blocks if isinstance(block, nn.ModuleDict)]


def load_paddle(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts PaddleClas' tensors into torchvision's network, strictly; see ``load_in_order``.

    Source: ``DenseNet`` in ``ppcls/arch/backbone/model_zoo/densenet.py`` of PaddleClas 2.6; ``BatchNorm`` of
    Paddle has torch's epsilon.
    """
    load_in_order(network, tensors, _layers_of_paddle(network), PADDLE)


def paddle_names(config: DenseNetConfig) -> list[str]:
    """Returns PaddleClas' names of all tensors, in the order of its layers."""
    network = tree_of_today(config)
    return names_in_order(network, _layers_of_paddle(network), PADDLE)


def _layers_of_paddle(network: nn.Module) -> Iterator[str]:
    yield from ("conv1_func._conv", "conv1_func._batch_norm")
    blocks = blocks_of(network)
    for stage, layers in enumerate(blocks, start=2):
        for layer in range(1, layers + 1):
            for half in (1, 2):
                of_layer = f"db_conv_{stage}.conv{stage}_{layer}.bn_ac_func{half}"
                yield from (f"{of_layer}._batch_norm", f"{of_layer}._conv")
        if stage <= len(blocks):
            transition = f"tr_conv{stage}_blk.conv_ac_func"
            yield from (f"{transition}._batch_norm", f"{transition}._conv")
    yield "batch_norm"
    if isinstance(network.classifier, nn.Linear):
        yield "out"


def densenet_keras_tree(config: DenseNetConfig) -> nn.Module:
    """torchvision's DenseNet on the meta device, with the epsilon of the port to Keras of 2016."""
    network = tree_of_today(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1.1e-5
    return network


def load_densenet_keras(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts the tensors of the port of 2016 into torchvision's network, strictly; see ``load_in_order``.

    Its batch norms are given the values of the Scale layers behind them.

    Source: ``densenet121.py`` of github.com/flyyufelix/DenseNet-Keras.
    """
    load_in_order(network, tensors, _layers_of_densenet_keras(network), _fields_of_keras(tensors))


def _fields_of_keras(tensors: Mapping[str, Tensor]) -> Fields:
    return KERAS_1 if "conv1/conv1_W" in tensors else KERAS


def densenet_keras_names(config: DenseNetConfig) -> list[str]:
    """Returns the port's names of all tensors in Keras 2, in the order of its layers."""
    network = tree_of_today(config)
    return names_in_order(network, _layers_of_densenet_keras(network), KERAS)


def _layers_of_densenet_keras(network: nn.Module) -> Iterator[str]:
    yield from ("conv1", "conv1_bn")
    blocks = blocks_of(network)
    for stage, layers in enumerate(blocks, start=2):
        for layer in range(1, layers + 1):
            for half in ("x1", "x2"):
                yield from (f"conv{stage}_{layer}_{half}_bn", f"conv{stage}_{layer}_{half}")
        yield f"conv{stage}_blk_bn"
        if stage <= len(blocks):
            yield f"conv{stage}_blk"
    if isinstance(network.classifier, nn.Linear):
        yield "fc6"
