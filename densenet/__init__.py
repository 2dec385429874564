"""DenseNet in plain PyTorch, with torchvision's names, values and defaults.

The network of Huang et al., "Densely Connected Convolutional Networks"
(arXiv 1608.06993), as torchvision builds it: DenseNet-BC, with bottlenecks and
compression one half.  ``DenseNetConfig`` and ``infer_config`` need no torch, so
they are imported at once; the network is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import ARCHITECTURES, DenseNetConfig, architecture_of, infer_config

if TYPE_CHECKING:
    from .model import DenseNet, densenet121, densenet161, densenet169, densenet201

__all__ = [
    "ARCHITECTURES",
    "DenseNet",
    "DenseNetConfig",
    "architecture_of",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "infer_config",
]


if not TYPE_CHECKING:  # a checker would take any name for one that is there

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import model

        return getattr(model, name)


def __dir__() -> list[str]:
    return sorted(__all__)
