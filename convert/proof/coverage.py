"""How much of the network the comparisons can see.

An element is seen when changing it would change a value that is compared.  For
parameters the stricter, end-to-end measure is taken: a non-zero gradient of the logits
in eval mode.  Running statistics have no gradient; the outputs of their norm, which are
compared, tell: y = (x - mean) / sqrt(var + eps) * weight + bias depends on the mean where
the weight is not 0, and on the variance where, besides, some x differs from the mean,
which is where some y differs from the bias.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..records import Coverage
from .comparisons import cotangent


class Sight:
    """Collects, over several inputs, which elements of a network were seen."""

    def __init__(self, network: nn.Module) -> None:
        self._names = {module: name for name, module in network.named_modules()}
        self._parameters = dict(network.named_parameters())
        self._seen: dict[str, Tensor] = {}
        self._statistics: dict[str, Tensor] = {}

    def observe(self, module: nn.Module, output: Tensor) -> None:
        """Takes the output of a layer, before a ReLU in place overwrites it."""
        if not isinstance(module, _BatchNorm):
            return
        name, weight, bias = self._names[module], module.weight.detach(), module.bias.detach()
        output = output.detach()
        varied = (output.amax((0, 2, 3)) != bias) | (output.amin((0, 2, 3)) != bias)
        self._add(self._statistics, f"{name}.running_mean", weight != 0)
        self._add(self._statistics, f"{name}.running_var", varied)

    def backward(self, logits: Tensor) -> None:
        """Takes the gradient of ``logits``, ``[N, classes]``, and frees their graph."""
        handles = [
            parameter.register_post_accumulate_grad_hook(partial(self._see, name))  # type: ignore[no-untyped-call]
            for name, parameter in self._parameters.items()
        ]
        try:
            torch.autograd.backward(logits, cotangent(logits))
        finally:
            for handle in handles:
                handle.remove()

    def _see(self, name: str, parameter: Tensor) -> None:
        """Takes a gradient as soon as it is there, and lets go of it."""
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None  # it was just accumulated
        self._add(self._seen, name, (gradient != 0) & gradient.isfinite())

    def parameters(self) -> Coverage:
        """Coverage of the parameters, on all inputs so far."""
        return _coverage(self._seen)

    def statistics(self) -> Coverage:
        """Coverage of the running means and variances, on all inputs so far."""
        return _coverage(self._statistics)

    @staticmethod
    def _add(seen: dict[str, Tensor], name: str, now: Tensor) -> None:
        seen[name] = now | seen[name] if name in seen else now


def _coverage(seen: dict[str, Tensor]) -> Coverage:
    counts = {name: int(torch.count_nonzero(mask)) for name, mask in seen.items()}
    elements = sum(mask.numel() for mask in seen.values())
    shares = {name: counts[name] / mask.numel() for name, mask in seen.items()}
    return Coverage(shares, sum(counts.values()) / elements)
