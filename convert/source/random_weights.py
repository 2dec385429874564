"""Random weights that stand in for a download: torchvision's file of 2017, from a seed.

A network whose running statistics are merely drawn is dead behind a third of its ReLUs,
and a fault there can't be seen.  So the statistics are measured by a forward pass.

The file is the same on every machine: ``torch.rand``, one multiplication and one
addition give the same bits with every instruction set, which ``randn`` and ``uniform_``
do not; the forward pass runs in float64, and rounding to bfloat16 hides what differs.
"""

from __future__ import annotations

from io import BytesIO
from math import sqrt
from typing import TYPE_CHECKING

from ..formats.torch_legacy import Elements, write_legacy
from ..tensors import tensor_bytes

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from densenet_convert.densenet import DenseNet, DenseNetConfig

# Inputs that the running statistics are measured on, and each side of them by their number.
SAMPLES, SIDES = 4, {1: 64, 2: 64, 3: 40}


def random_checkpoint(config: DenseNetConfig, seed: int) -> bytes:
    """A checkpoint of random weights, in torchvision's form of 2017.

    Legacy format, dotted names, float32, no ``num_batches_tracked``.
    """
    network = random_network(config, seed)
    file = BytesIO()
    write_legacy(
        {
            _name_of_2017(name): Elements("float32", tuple(tensor.shape), tensor_bytes(tensor))
            for name, tensor in network.state_dict().items()
            if not name.endswith("num_batches_tracked")
        },
        file,
    )
    return file.getvalue()


def random_network(config: DenseNetConfig, seed: int) -> DenseNet:
    """A float32 network in eval mode, of which nearly every element matters to the output."""
    import torch

    from densenet_convert.densenet import DenseNet
    from densenet_convert.densenet.blank import SkipInit

    generator = torch.Generator().manual_seed(seed)
    with SkipInit():
        network = DenseNet(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(_draw(name, parameter, generator))
        sides = [SIDES[config.spatial_dims]] * config.spatial_dims
        shape = (SAMPLES, config.in_channels, *sides)
        sample = _uniform(shape, -2, 2, generator)
        _measure_statistics(network, sample)
    return network


def _draw(name: str, parameter: Tensor, generator: Generator) -> Tensor:
    if parameter.ndim > 2:
        # He's variance (arXiv 1502.01852), 2 / fan_in, is that of U(-b, b) with b = sqrt(6 / fan_in).
        bound = sqrt(6 / parameter[0].numel())
    elif name.startswith("classifier."):
        bound = 0.05
    elif name.endswith(".weight"):
        return _uniform(parameter.shape, 0.5, 1.5, generator)
    else:
        bound = 0.5
    return _uniform(parameter.shape, -bound, bound, generator)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    import torch

    return torch.rand(shape, generator=generator, dtype=torch.float32).mul_(high - low).add_(low)


def _measure_statistics(network: DenseNet, sample: Tensor) -> None:
    """Sets the running statistics of the float32 network to those of ``sample``, in bfloat16's precision."""
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0  # the running statistics become those of the one batch
    network.double().train()(sample.double())
    network.float().eval()
    for norm in norms:
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None  # they are tracked by default
            statistic.copy_(statistic.bfloat16())


def _name_of_2017(name: str) -> str:
    """``denselayer1.norm1.weight`` becomes ``denselayer1.norm.1.weight``."""
    head, layer, tail = name.partition(".denselayer")
    for part in ("norm", "conv"):
        tail = tail.replace(f".{part}", f".{part}.")
    return head + layer + tail
