"""Networks as their owners write them, around torchvision's features; ``--reference`` names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from checkpoints import SMALL
from torch import Tensor, nn
from torch.nn.utils import prune
from torchvision.models.densenet import DenseNet


def plain(classes: int = 5) -> DenseNet:
    return DenseNet(
        SMALL.growth_rate, SMALL.block_config, SMALL.num_init_features, SMALL.bn_size, num_classes=classes
    )


class Own(nn.Module):
    """torchvision's features and a head ``fc``; what is missing is the way between them."""

    def __init__(self) -> None:
        super().__init__()
        network = plain()
        self.features, self.fc = network.features, nn.Linear(network.classifier.in_features, 5)

    def pooled(self, x: Tensor) -> Tensor:
        return F.relu(self.features(x)).mean([2, 3])

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.pooled(x))


class WithoutRelu(Own):
    def pooled(self, x: Tensor) -> Tensor:
        return self.features(x).mean([2, 3])


class WithDropout(Own):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.pooled(x), 0.5, self.training))


class AlwaysDropping(Own):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.pooled(x), 0.5, training=True))


class WithSigmoid(Own):
    def __init__(self) -> None:
        super().__init__()
        self.squash = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(super().forward(x))


class WithNestedHead(Own):
    """Its head stands within two containers, beside a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        layer = self.fc
        del self.fc
        self.head = nn.Sequential(nn.Sequential(nn.Identity(), layer), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pooled(x))


class WithSoftmax(Own):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Normalizing(nn.Module):
    """Takes images of 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plain()

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / 0.2)


class Resizing(Own):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, size=64))


class Doubling(Own):
    def pooled(self, x: Tensor) -> Tensor:
        return super().pooled(x) * 2


class WithMaximum(Own):
    def pooled(self, x: Tensor) -> Tensor:
        return F.relu(self.features(x)).amax([2, 3])


class WithEpsilon(Own):
    def __init__(self) -> None:
        super().__init__()
        self.features.norm0.eps = 1e-3


class PoolingOfOneSize(Own):
    """torchvision's own forward before 0.3, for an input of 64 pixels a side."""

    def pooled(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(self.features(x)), 2).flatten(1)


class TakingOneSize(Own):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (96, 64):
            raise ValueError(f"images of 96 x 64, not {list(x.shape[2:])}")
        return super().forward(x)


class InTuple(Own):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.pooled(x)
        return pooled, self.fc(pooled)


@dataclass
class Output:
    logits: Tensor
    features: Tensor


class InDataclass(Own):
    def forward(self, x: Tensor) -> Output:
        pooled = self.pooled(x)
        return Output(self.fc(pooled), pooled)


class OfTwoHeads(Own):
    def __init__(self) -> None:
        super().__init__()
        self.view = nn.Linear(self.fc.in_features, 5)

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        pooled = self.pooled(x)
        return {"heads": [self.fc(pooled), self.view(pooled)]}


class OtherMomentum(Own):
    """Running statistics move more slowly, as segmentation libraries have it; in eval nothing changes."""

    def __init__(self) -> None:
        super().__init__()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.01


def frozen() -> Own:
    return Own().requires_grad_(False)


def pruned() -> nn.Module:
    network = Own()
    prune.l1_unstructured(network.fc, "weight", 0.5)
    return network


def parallel() -> nn.Module:
    return nn.DataParallel(Own())


def in_sequence() -> nn.Module:
    network = plain()
    return nn.Sequential(
        network.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.classifier
    )


def maps() -> nn.Module:
    """The features and the ReLU behind them, without a head."""
    return nn.Sequential(plain().features, nn.ReLU(inplace=True))


def failing() -> nn.Module:
    raise FileNotFoundError("labels.csv")


def no_network() -> int:
    return 3


def of_other_classes() -> nn.Module:
    return plain(7)
