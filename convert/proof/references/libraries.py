"""Other libraries' own networks, on the meta device and in eval mode, each with its description.

Each function raises ImportError where its library is not installed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from densenet_convert.densenet.blank import SkipInit

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig


def monai_network(config: DenseNetConfig) -> tuple[nn.Module, str]:
    """``monai.networks.nets.DenseNet``, in one, two or three dimensions."""
    import monai
    from monai.networks.nets.densenet import DenseNet

    with torch.device("meta"), SkipInit():
        network: nn.Module = DenseNet(
            spatial_dims=config.spatial_dims,
            in_channels=config.in_channels,
            out_channels=config.num_classes or 1,
            init_features=config.num_init_features,
            growth_rate=config.growth_rate,
            block_config=config.block_config,
            bn_size=config.bn_size,
            dropout_prob=config.drop_rate,
        )
    if not config.num_classes:
        network.get_submodule("class_layers").out = nn.Identity()
    return network, f"MONAI's own network, MONAI {monai.__version__}"


def monai_network_of_0_3(config: DenseNetConfig) -> tuple[nn.Module, str]:
    """The same, its modules under the names that MONAI 0.1 to 0.3 gave them.

    Source: ``monai/networks/nets/densenet.py`` of MONAI 0.3.0, whose dense layers are themselves sequences.
    """
    network, description = monai_network(config)
    for block in network.get_submodule("features").children():
        for name, layer in list(block.named_children()):
            if name.startswith("denselayer"):
                parts = OrderedDict(layer.get_submodule("layers").named_children())
                block._modules[name] = _LayerOfMonai03(parts)
    head = network.get_submodule("class_layers")
    head._modules = {name.replace("out", "class"): module for name, module in head._modules.items()}
    return network, description.replace("own network", "own network under its names of 0.3")


class _LayerOfMonai03(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        new: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return torch.cat([x, new], 1)


def torchxrayvision_network(config: DenseNetConfig) -> tuple[nn.Module, str]:
    """``torchxrayvision.models.DenseNet`` without thresholds, which gives logits."""
    import torchxrayvision  # type: ignore[import-untyped, unused-ignore]

    with torch.device("meta"), SkipInit():
        network: nn.Module = torchxrayvision.models.DenseNet(
            growth_rate=config.growth_rate,
            block_config=config.block_config,
            num_init_features=config.num_init_features,
            bn_size=config.bn_size,
            drop_rate=config.drop_rate,
            num_classes=config.num_classes or 1,
            in_channels=config.in_channels,
        )
    if not config.num_classes:
        network.classifier = nn.Identity()
    return network, f"torchxrayvision's own network, torchxrayvision {torchxrayvision.__version__}"


def pytorchcv_network(config: DenseNetConfig) -> tuple[nn.Module, str]:
    """``pytorchcv.models.densenet.DenseNet``, whose last pooling averages maps of any size.

    pytorchcv pools by 7x7, for images of 224x224 alone; there the two are the same.
    """
    import pytorchcv  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from pytorchcv.models.densenet import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        DenseNet,
    )

    if config.bn_size != 4:
        raise ImportError("pytorchcv makes bottlenecks of 4 times the growth alone")
    channels, width = [], config.num_init_features
    for layers in config.block_config:
        channels.append([width + config.growth_rate * (layer + 1) for layer in range(layers)])
        width = channels[-1][-1] // 2
    with torch.device("meta"), SkipInit():
        network: nn.Module = DenseNet(
            channels=channels,
            init_block_channels=config.num_init_features,
            dropout_rate=config.drop_rate,
            in_channels=config.in_channels,
            num_classes=config.num_classes or 1,
        )
    network.get_submodule("features").final_pool = nn.AdaptiveAvgPool2d(1)
    if not config.num_classes:
        network.output = nn.Identity()
    return network, f"pytorchcv's own network, pytorchcv {pytorchcv.__version__}"
