"""torchvision's own modules in trees of libraries that arrange them otherwise, as ``trees`` hangs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layout import HEAD
from .trees import tree_of_2017, tree_of_today

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig


class _NetworkOf(nn.Module):
    """Features in steps under another library's names, the last of which ends in a ReLU, and a head."""

    def __init__(self, network: nn.Module, features: str, head: str, steps: Mapping[str, nn.Module]) -> None:
        super().__init__()
        place: nn.Module = self
        if features:
            place = nn.Module()
            self.add_module(features, place)
        for name, module in steps.items():
            place.add_module(name, module)
        *holders, last = head.split(".")
        place = self
        for holder in holders:
            place.add_module(holder, nn.Module())
            place = place.get_submodule(holder)
        place.add_module(last, cast(nn.Module, network.classifier))
        self.features_path, self.head_path, self.steps = features, head, tuple(steps)

    def forward(self, x: Tensor) -> Tensor:
        features = self.get_submodule(self.features_path)
        for name in self.steps:
            x = features.get_submodule(name)(x)
        pooled = torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)
        return cast(Tensor, self.get_submodule(self.head_path)(pooled))


def _stem_of(network: nn.Module) -> list[nn.Module]:
    """torchvision's first convolution, norm, ReLU and pooling."""
    return list(network.get_submodule("features").children())[:4]


def _norm_and_relu(norm: nn.Module, config: DenseNetConfig, names: tuple[str, str]) -> nn.Module:
    """The last norm in one module with its ReLU, which ``config`` may leave out."""
    act: nn.Module = nn.ReLU() if config.final_relu else nn.Identity()
    return nn.Sequential(OrderedDict(zip(names, (norm, act), strict=True)))


def tree_of_mmpretrain(config: DenseNetConfig) -> nn.Module:
    """The same in mmpretrain's modules: a stem, stages and transitions, the last of them the last norm.

    Source: ``mmpretrain/models/backbones/densenet.py``, and ``LinearClsHead`` in
    ``mmpretrain/models/heads/linear_head.py``, of mmpretrain 1.2.0.
    """
    network = tree_of_today(config)
    features = network.get_submodule("features")._modules
    stem = nn.Sequential(*_stem_of(network))
    blocks = [module for module in features.values() if isinstance(module, nn.ModuleDict)]
    ends = [cast(nn.Module, features[f"transition{i}"]) for i in range(1, len(blocks))]
    ends.append(_norm_and_relu(cast(nn.Module, features["norm5"]), config, ("0", "1")))
    return _NetworkOfMmpretrain(
        network, stem, nn.ModuleList(map(_BlockOfMmpretrain, blocks)), nn.ModuleList(ends)
    )


class _BlockOfMmpretrain(nn.Module):
    def __init__(self, block: nn.ModuleDict) -> None:
        super().__init__()
        self.block = nn.ModuleList(block.values())

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.block:
            features.append(layer(features))
        return torch.cat(features, 1)


class _NetworkOfMmpretrain(_NetworkOf):
    def __init__(
        self, network: nn.Module, stem: nn.Module, stages: nn.ModuleList, transitions: nn.ModuleList
    ) -> None:
        steps = {"stem": stem, "stages": stages, "transitions": transitions}
        super().__init__(network, "backbone", "head.fc", steps)
        pairs = ((f"stages.{i}", f"transitions.{i}") for i in range(len(stages)))
        self.steps = ("stem", *(step for pair in pairs for step in pair))


def tree_of_pytorchcv(config: DenseNetConfig) -> nn.Module:
    """The same in pytorchcv's modules: stages with units, and the transition before them.

    Each unit concatenates what it reads and what it makes.  pytorchcv pools the last maps by 7x7, and its
    head takes one place alone: for images of its size that is their average.

    Source: ``pytorchcv/models/densenet.py``, ``preresnet.py`` and ``common/conv.py`` of pytorchcv 0.0.74.
    """
    network = tree_of_today(config)
    features = network.get_submodule("features")._modules
    stem = dict(zip(("conv", "bn", "activ", "pool"), _stem_of(network), strict=True))
    steps: dict[str, nn.Module] = {"init_block": nn.Sequential(OrderedDict(stem))}
    blocks = [module for module in features.values() if isinstance(module, nn.ModuleDict)]
    for number, block in enumerate(blocks, start=1):
        stage = steps[f"stage{number}"] = nn.Sequential()
        if number > 1:
            *convolution, pool = cast(nn.Module, features[f"transition{number - 1}"]).children()
            parts = OrderedDict(conv=_convolution(*convolution), pool=pool)
            stage.add_module(f"trans{number}", nn.Sequential(parts))
        for i, layer in enumerate(block.values(), start=1):
            stage.add_module(f"unit{i}", _UnitOfPytorchcv(layer))
    steps["post_activ"] = _norm_and_relu(cast(nn.Module, features["norm5"]), config, ("bn", "activ"))
    return _NetworkOf(network, "features", "output", steps)


def _convolution(norm: nn.Module, relu: nn.Module, conv: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(bn=norm, activ=relu, conv=conv))


class _UnitOfPytorchcv(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        norm1, relu1, conv1, norm2, relu2, conv2 = layer.children()
        self.conv1, self.conv2 = _convolution(norm1, relu1, conv1), _convolution(norm2, relu2, conv2)
        self.drop_rate = cast(float, layer.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv2(self.conv1(x))
        if self.drop_rate > 0:
            made = F.dropout(made, p=self.drop_rate, training=self.training)
        return torch.cat((x, made), 1)


def tree_of_timm_features(config: DenseNetConfig) -> nn.Module:
    """The modules of ``features`` at the top, each behind ``features_``, as timm flattens them.

    Source: ``FeatureListNet`` and ``_module_list`` in ``timm/models/_features.py`` of timm 1.0.31.
    """
    network = tree_of_today(config)
    names = (f"features_{name}" for name, _ in network.get_submodule("features").named_children())
    return _hung_as(network, config, "", names)


def tree_of_numbers(config: DenseNetConfig) -> nn.Module:
    """The modules of ``features`` by their numbers, as ``torch.nn.Sequential`` calls what it is given."""
    return _hung_as(tree_of_today(config), config, "features", map(str, count()))


def tree_of_dotted_numbers(config: DenseNetConfig) -> nn.Module:
    """The same of torchvision before 0.3."""
    return _hung_as(tree_of_2017(config), config, "features", map(str, count()))


def tree_of_timm_numbers(config: DenseNetConfig) -> nn.Module:
    """The same of timm's features, whose norms hold their ReLU.

    Source: ``DenseNet`` in ``timm/models/densenet.py`` of timm 1.0.31.
    """
    names = chain(("0", "1", "relu0"), map(str, count(2)))
    return _hung_as(tree_of_today(config), config, "features", names)


def _hung_as(network: nn.Module, config: DenseNetConfig, place: str, names: Iterable[str]) -> nn.Module:
    """The modules of ``features`` under other names, and the last ReLU behind them."""
    steps = dict(zip(names, network.get_submodule("features").children(), strict=False))
    last = {"relu": nn.ReLU()} if config.final_relu else {}
    return _NetworkOf(network, place, HEAD, {**steps, **last})
