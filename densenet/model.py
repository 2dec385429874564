"""The network, from the bottom up: dense layer, dense block, transition, DenseNet.

Modules, names, order of construction and order of operations are torchvision's, so
that names, initial values and results agree to the bit.  Shapes stand beside the
lines: N batch, C channels that enter, k growth rate, H and W the sides there, of
which a network of one dimension has one and of three dimensions three.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import ARCHITECTURES, DenseNetConfig
from .config_file import Claimed


class Layers(NamedTuple):
    """torch's layers for inputs of so many dimensions."""

    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    max_pool: Callable[..., nn.Module]
    avg_pool: Callable[..., nn.Module]
    zero_pad: Callable[..., nn.Module]
    average: Callable[..., Tensor]


LAYERS = {
    1: Layers(nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d, nn.ZeroPad1d, F.adaptive_avg_pool1d),
    2: Layers(nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.ZeroPad2d, F.adaptive_avg_pool2d),
    3: Layers(nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AvgPool3d, nn.ZeroPad3d, F.adaptive_avg_pool3d),
}


class DenseLayer(nn.Module):
    """Bottleneck and 3x3 convolution; takes all earlier features, returns k new channels."""

    def __init__(self, width: int, config: DenseNetConfig) -> None:
        super().__init__()
        layers, bottleneck = LAYERS[config.spatial_dims], config.bn_size * config.growth_rate
        self.norm1 = layers.norm(width, eps=config.norm_eps)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = layers.conv(width, bottleneck, kernel_size=1, bias=False)
        self.norm2 = layers.norm(bottleneck, eps=config.norm_eps)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = layers.conv(bottleneck, config.growth_rate, kernel_size=3, padding=1, bias=False)
        self.drop_rate = config.drop_rate
        self.memory_efficient = config.memory_efficient

    def bottleneck(self, *features: Tensor) -> Tensor:
        concatenated = torch.cat(features, 1)  # [N, C, H, W]
        return cast(Tensor, self.conv1(self.relu1(self.norm1(concatenated))))  # [N, bn_size * k, H, W]

    def forward(self, features: list[Tensor]) -> Tensor:
        if self.memory_efficient and any(f.requires_grad for f in features):
            narrow = checkpoint(self.bottleneck, *features, use_reentrant=False)
        else:
            narrow = self.bottleneck(*features)  # [N, bn_size * k, H, W]
        new = cast(Tensor, self.conv2(self.relu2(self.norm2(narrow))))  # [N, k, H, W]
        if self.drop_rate > 0:
            new = F.dropout(new, p=self.drop_rate, training=self.training)
        return new


class DenseBlock(nn.Module):
    """Dense layers, each of which sees the input and what every layer before it added."""

    def __init__(self, layers: int, width: int, config: DenseNetConfig) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(width + i * config.growth_rate, config))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]  # [N, C, H, W]
        for layer in self.children():
            features.append(layer(features))  # [N, k, H, W]
        return torch.cat(features, 1)  # [N, C + layers * k, H, W]


class Transition(nn.Sequential):
    """Halves the channels by a 1x1 convolution and the sides by 2x2 pooling."""

    def __init__(self, width: int, config: DenseNetConfig) -> None:
        layers = LAYERS[config.spatial_dims]
        pool = layers.avg_pool if config.transition_pool == "avg" else layers.max_pool
        super().__init__(
            OrderedDict(
                norm=layers.norm(width, eps=config.norm_eps),
                relu=nn.ReLU(inplace=True),
                conv=layers.conv(width, width // 2, kernel_size=1, bias=False),  # [N, C / 2, H, W]
                pool=pool(kernel_size=2, stride=2),  # [N, C / 2, H // 2, W // 2]
            )
        )


class DenseNet(nn.Module):
    """DenseNet-BC (arXiv 1608.06993) with torchvision's names and initial values.

    Args:
        config: the hyperparameters; DenseNet-121 by default.

    The input is ``[N, in_channels, H, W]``, or has ``spatial_dims`` other sides, each of at least 29 for four
    blocks.
    The output is ``[N, num_classes]`` logits, or with ``num_classes=0`` the pooled
    features, ``[N, num_features]``.  Both have the dtype of the weights.

    Examples:
        >>> DenseNet(DenseNetConfig(in_channels=1, num_classes=14))(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 14])
    """

    # What the config.json that it was loaded from says beside the network.
    _claimed: Claimed | None = None

    def __init__(self, config: DenseNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DenseNetConfig()
        self.features = nn.Sequential(_stem(config))
        last_block = len(config.block_config)
        for block, (width, grown) in enumerate(config.block_widths(), start=1):
            layers = config.block_config[block - 1]
            self.features.add_module(f"denseblock{block}", DenseBlock(layers, width, config))
            if block < last_block:
                self.features.add_module(f"transition{block}", Transition(grown, config))
        # torchvision numbers the last norm 5 whatever the number of blocks is.
        norm = LAYERS[config.spatial_dims].norm
        self.features.add_module("norm5", norm(config.num_features, eps=config.norm_eps))
        self.classifier = (
            nn.Linear(config.num_features, config.num_classes) if config.num_classes else nn.Identity()
        )
        self._initialise()

    def _initialise(self) -> None:
        # He's initialisation for convolutions (arXiv 1502.01852), as torchvision does;
        # a batch norm starts as 1 and 0, and a linear layer's weight as torch draws it.
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *, revision: str | None = None, token: str | bool | None = None
    ) -> DenseNet:
        """Builds the network that config.json describes and loads model.safetensors strictly.

        Args:
            source: a folder, or the name of a repository on the Hub, ``"USER/NAME"``; what is a folder here
                is not looked for there.
            revision: branch, tag or commit of the repository.
            token: for a private repository; by default the environment's, or that of the login.

        Returns:
            The network in eval mode on the CPU, of the dtype that the file has.  Its weights are the file
            itself until they are trained: to write to that file, save another and rename it.

        Raises:
            FileNotFoundError: a file is missing, or ``source`` is neither a folder nor a repository's name.
            ValueError: config.json describes no DenseNet.
            RuntimeError: a tensor is missing, unexpected or of another shape.
            huggingface_hub.errors.HfHubHTTPError: the Hub refuses; the exception says why.

        Examples:
            >>> model = DenseNet.from_pretrained("densenet121")
            >>> model.training, model.config.num_classes
            (False, 1000)
        """
        from .hub import from_pretrained

        model, claimed = from_pretrained(cls, source, revision=revision, token=token)
        model._claimed = claimed
        return model

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json and model.safetensors, which ``from_pretrained`` loads.

        timm and transformers load them too, of a network for images.

        Labels and pre-processing of what ``from_pretrained`` loaded are kept: the labels unless the
        classifier has another width now, the pre-processing unless the input has other channels.
        Nothing is proven of what is written: densenet-convert converts and proves checkpoints.

        Args:
            folder: is created, with its parents; files of these names are replaced.

        Raises:
            ValueError: a layer was exchanged, and ``config`` does not say so: of a new classifier
                ``model.config = dataclasses.replace(model.config, num_classes=7)``.
        """
        from .hub import save_pretrained

        save_pretrained(self, self.config, self._claimed, folder)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)  # [N, num_features, H // 32, W // 32]
        if self.config.final_relu:
            features = F.relu(features, inplace=True)
        average = LAYERS[self.config.spatial_dims].average
        pooled = average(features, 1).flatten(1)  # [N, num_features]
        return cast(Tensor, self.classifier(pooled))  # [N, num_classes]


def _stem(config: DenseNetConfig) -> OrderedDict[str, nn.Module]:
    layers, (before, after) = LAYERS[config.spatial_dims], config.stem_padding
    stem: OrderedDict[str, nn.Module] = OrderedDict()
    if before != after:
        stem["pad0"] = layers.zero_pad((before, after) * config.spatial_dims)
    stem["conv0"] = layers.conv(
        config.in_channels,
        config.num_init_features,
        kernel_size=7,
        stride=2,
        padding=before if before == after else 0,
        bias=config.stem_bias,
    )  # [N, num_init_features, H / 2, W / 2]
    stem["norm0"] = layers.norm(config.num_init_features, eps=config.norm_eps)
    stem["relu0"] = nn.ReLU(inplace=True)
    stem["pool0"] = layers.max_pool(kernel_size=3, stride=2, padding=1)  # [N, ..., H / 4, W / 4]
    return stem


def densenet121(num_classes: int = 1000, **hyperparameters: Any) -> DenseNet:
    """DenseNet-121 with random weights; ``hyperparameters`` are those of DenseNetConfig."""
    return _build("densenet121", num_classes, hyperparameters)


def densenet161(num_classes: int = 1000, **hyperparameters: Any) -> DenseNet:
    """DenseNet-161 with random weights; ``hyperparameters`` are those of DenseNetConfig."""
    return _build("densenet161", num_classes, hyperparameters)


def densenet169(num_classes: int = 1000, **hyperparameters: Any) -> DenseNet:
    """DenseNet-169 with random weights; ``hyperparameters`` are those of DenseNetConfig."""
    return _build("densenet169", num_classes, hyperparameters)


def densenet201(num_classes: int = 1000, **hyperparameters: Any) -> DenseNet:
    """DenseNet-201 with random weights; ``hyperparameters`` are those of DenseNetConfig."""
    return _build("densenet201", num_classes, hyperparameters)


def _build(name: str, num_classes: int, hyperparameters: dict[str, Any]) -> DenseNet:
    return DenseNet(replace(ARCHITECTURES[name], num_classes=num_classes, **hyperparameters))
