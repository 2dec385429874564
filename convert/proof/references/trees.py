"""torchvision's own modules, hung in trees that bear a source's names.

A layout names one of these functions.  Each returns a network on the meta device,
into which the source's untouched tensors are loaded strictly.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from densenet_convert.densenet.blank import SkipInit

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig

    from ...layout import Reading


def tree_of_today(config: DenseNetConfig) -> nn.Module:
    """torchvision's DenseNet, with the stem, the head and the last ReLU of ``config``."""
    with torch.device("meta"), SkipInit():
        network = torchvision.models.DenseNet(
            growth_rate=config.growth_rate,
            block_config=config.block_config,
            num_init_features=config.num_init_features,
            bn_size=config.bn_size,
            drop_rate=config.drop_rate,
            num_classes=config.num_classes or 1,
        )
        if config.in_channels != 3 or config.stem_bias:
            sides = (config.in_channels, config.num_init_features)
            network.features.conv0 = nn.Conv2d(*sides, 7, stride=2, padding=3, bias=config.stem_bias)
    if not config.num_classes:
        network.classifier = nn.Identity()
    return cast(nn.Module, network) if config.final_relu else _WithoutFinalRelu(network)


class _WithoutFinalRelu(nn.Module):
    """torchvision's layers; the maps are averaged as the last norm gives them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.features, self.classifier = network.features, network.classifier

    def forward(self, x: Tensor) -> Tensor:
        maps = cast(nn.Module, self.features)(x)
        pooled = torch.flatten(F.adaptive_avg_pool2d(maps, (1, 1)), 1)
        return cast(Tensor, cast(nn.Module, self.classifier)(pooled))


def under_source_names(network: nn.Module, reading: Reading) -> nn.Module:
    """The network's layers, the very same, in a tree that bears the source's names.

    It can be loaded, not run: what is put into it is in ``network``.

    Args:
        network: its names are the layout's own.
        reading: the prefix and the head of the source.
    """
    root = nn.Module()
    for name, layer in network.named_modules():
        if all(value is None for value in (*layer._parameters.values(), *layer._buffers.values())):
            continue
        if name == reading.layout.head and reading.head is not None:
            path = reading.head
        else:
            path = reading.prefix + name.removeprefix(reading.inside)
        *parents, last = path.split(".")
        place = root
        for parent in parents:
            if parent not in place._modules:
                place.add_module(parent, nn.Module())
            place = place.get_submodule(parent)
        place.add_module(last, layer)
    return root


def tree_of_2017(config: DenseNetConfig) -> nn.Module:
    """The same, each dense layer hung as torchvision 0.2 had it: ``norm.1``, ``conv.1`` and so on.

    Source: ``_DenseLayer`` in ``torchvision/models/densenet.py`` of torchvision 0.2.2,
    a sequence of norm.1, relu.1, conv.1, norm.2, relu.2, conv.2.
    """
    network = tree_of_today(config)
    for block in network.get_submodule("features").children():
        if isinstance(block, nn.ModuleDict):
            for name, layer in list(block.items()):
                block[name] = _LayerOf2017(layer)
    return network


class _LayerOf2017(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        norm1, relu1, conv1, norm2, relu2, conv2 = layer.children()
        self.norm = nn.ModuleDict({"1": norm1, "2": norm2})
        self.relu = nn.ModuleDict({"1": relu1, "2": relu2})
        self.conv = nn.ModuleDict({"1": conv1, "2": conv2})
        self.drop_rate = cast(float, layer.drop_rate)

    def forward(self, features: list[Tensor] | Tensor) -> Tensor:
        x = torch.cat([features] if isinstance(features, Tensor) else features, 1)
        for step in ("1", "2"):
            x = self.conv[step](self.relu[step](self.norm[step](x)))
        if self.drop_rate > 0:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        return x


def tree_of_monai(config: DenseNetConfig) -> nn.Module:
    """The same, hung as MONAI has it: each dense layer within ``layers``, the head in ``class_layers``.

    In one or three dimensions torch's modules of as many stand in the places of torchvision's.

    Source: ``monai/networks/nets/densenet.py`` of MONAI 1.6.1.
    """
    network = tree_of_today(config)
    _set_dimensions(network.get_submodule("features"), config.spatial_dims)
    for block in network.get_submodule("features").children():
        if isinstance(block, nn.ModuleDict):
            for name, layer in list(block.items()):
                block[name] = _LayerOfMonai(layer)
    return _NetworkOfMonai(network, config)


def tree_of_monai_0_3(config: DenseNetConfig) -> nn.Module:
    """The same, hung as MONAI before 0.4 has it: by torchvision's names, the head in ``class_layers``.

    Source: ``monai/networks/nets/densenet.py`` of MONAI 0.3.0.
    """
    network = tree_of_today(config)
    _set_dimensions(network.get_submodule("features"), config.spatial_dims)
    return _NetworkOfMonai(network, config, head="class")


def _set_dimensions(features: nn.Module, dimensions: int) -> None:
    """Puts modules of so many dimensions, with the same settings, in the places of torchvision's."""
    kinds = [nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d] if dimensions != 2 else []
    for parent in list(features.modules()):
        for name, layer in parent.named_children():
            if type(layer) in kinds:
                kind = getattr(nn, type(layer).__name__.replace("2d", f"{dimensions}d"))
                parent._modules[name] = kind(**_settings_of(layer))


def _settings_of(layer: nn.Module) -> dict[str, Any]:
    """Returns what a module was made of, each side's setting as one number."""
    found: dict[str, Any] = {"device": "meta"}
    if isinstance(layer, nn.BatchNorm2d):
        return {**found, "num_features": layer.num_features, "eps": layer.eps, "momentum": layer.momentum}
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "ceil_mode")
    found = {name: getattr(layer, name) for name in names if hasattr(layer, name)}
    if isinstance(layer, nn.Conv2d):
        found |= {"bias": layer.bias is not None, "device": "meta"}
    return {name: value[0] if isinstance(value, tuple) else value for name, value in found.items()}


def tree_of_efficient_densenet(config: DenseNetConfig) -> nn.Module:
    """The same, its last norm called ``norm_final``.

    Source: ``models/densenet.py`` of github.com/gpleiss/efficient_densenet_pytorch.
    """
    network = tree_of_today(config)
    features = network.get_submodule("features")
    features._modules = {n.replace("norm5", "norm_final"): m for n, m in features._modules.items()}
    return network


class _LayerOfMonai(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(OrderedDict(layer.named_children()))
        self.drop_rate = cast(float, layer.drop_rate)

    def forward(self, features: list[Tensor] | Tensor) -> Tensor:
        x: Tensor = self.layers(torch.cat([features] if isinstance(features, Tensor) else features, 1))
        return F.dropout(x, p=self.drop_rate, training=self.training) if self.drop_rate > 0 else x


class _NetworkOfMonai(nn.Module):
    def __init__(self, network: nn.Module, config: DenseNetConfig, head: str = "out") -> None:
        super().__init__()
        self.final_relu = config.final_relu
        self.features = cast(nn.Module, network.features)
        self.class_layers = nn.ModuleDict({head: cast(nn.Module, network.classifier)})
        self.head, self.pool = head, getattr(nn, f"AdaptiveAvgPool{config.spatial_dims}d")(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if self.final_relu:
            x = F.relu(x, inplace=True)
        return cast(Tensor, self.class_layers[self.head](torch.flatten(self.pool(x), 1)))
