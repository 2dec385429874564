"""How much of the network the comparisons can see.

An element is seen when changing it would change a value that is compared.  Every layer's
output is compared, so that is a matter of the layer's own input x:

- convolution or linear layer, y = sum of w x: where the x that the element multiplies is not 0;
- batch norm, y = (x - mean) / sqrt(var + eps) * weight + bias: the bias always; the weight where
  some x differs from the mean; the mean where the weight is not 0; the variance where both hold
  (in training, mean and variance are the batch's, and the running ones are not looked at).

What no input reaches stays unseen: a channel that is 0 behind its ReLU is dead to whatever reads it.

The stricter, end-to-end measure is taken of parameters as well: a non-zero gradient of the
logits.  It leaves out what is computed, and compared, but does not get through to a logit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..results import Coverage
from .comparisons import cotangent


class CoverageMeter:
    """Collects, over several inputs, which elements of a network were seen."""

    def __init__(self, network: nn.Module) -> None:
        self._names = {module: name for name, module in network.named_modules()}
        self._parameters = dict(network.named_parameters())
        # For a convolution, [C, kernel height, kernel width]: the same for every output channel.
        self._seen: dict[str, Tensor] = {}
        self._reaching: dict[str, Tensor] = {}
        self._done: set[str] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks at what enters each layer, while the network runs."""
        handles = [
            module.register_forward_pre_hook(self._look)
            for module in self._names
            if isinstance(module, _BatchNorm | _ConvNd | nn.Linear)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def backward(self, logits: Tensor) -> None:
        """Takes the gradient of ``logits``, ``[N, classes]``, and frees their graph."""
        handles = [
            parameter.register_post_accumulate_grad_hook(partial(self._reach, name))  # type: ignore[no-untyped-call]
            for name, parameter in self._parameters.items()
        ]
        try:
            torch.autograd.backward(logits, cotangent(logits))
        finally:
            for handle in handles:
                handle.remove()

    def parameters(self) -> Coverage:
        """Share of the parameters' elements that change a compared value."""
        return self._coverage({name: self._seen[name] for name in self._parameters})

    def statistics(self) -> Coverage:
        """The same of the running means and variances."""
        return self._coverage({n: mask for n, mask in self._seen.items() if n not in self._parameters})

    def reaching(self) -> Coverage:
        """Share of the parameters' elements that change a logit."""
        return self._coverage({name: self._reaching[name] for name in self._parameters})

    def dead_channels(self) -> dict[str, tuple[int, ...]]:
        """Channels of which no element was seen, by the tensor that has or reads them."""
        channels = {
            name: (~mask.flatten(1).any(1) if mask.ndim > 1 else ~mask).nonzero().flatten().tolist()
            for name, mask in self._seen.items()
        }
        return {name: tuple(found) for name, found in channels.items() if found}

    def _look(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        name = self._names[module]
        if name in self._done:
            return
        look = _seen_in_norm if isinstance(module, _BatchNorm) else _seen_in_product
        masks = look(module, inputs[0].detach())
        for field, mask in masks.items():
            self._add(self._seen, f"{name}.{field}", mask)
        if not module.training and all(self._seen[f"{name}.{field}"].all() for field in masks):
            self._done.add(name)

    def _reach(self, name: str, parameter: Tensor) -> None:
        """Takes a gradient as soon as it is there, and lets go of it."""
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None  # it was just accumulated
        self._add(self._reaching, name, (gradient != 0) & gradient.isfinite())

    def _coverage(self, masks: Mapping[str, Tensor]) -> Coverage:
        seen = {name: int(torch.count_nonzero(mask)) / mask.numel() for name, mask in masks.items()}
        sizes = {
            name: self._parameters[name].numel() if name in self._parameters else mask.numel()
            for name, mask in masks.items()
        }
        elements = sum(sizes.values())
        return Coverage(seen, sum(seen[name] * sizes[name] for name in seen) / elements)

    @staticmethod
    def _add(seen: dict[str, Tensor], name: str, now: Tensor) -> None:
        seen[name] = now | seen[name].to(now.device) if name in seen else now


def _seen_in_norm(norm: Any, x: Tensor) -> dict[str, Tensor]:
    others = (0, *range(2, x.ndim))
    low, high = x.amin(others), x.amax(others)
    if norm.training:  # by statistics of the batch
        return {"weight": low != high}
    varied = (low != norm.running_mean) | (high != norm.running_mean)
    passing = norm.weight.detach() != 0
    return {
        "weight": varied,
        "bias": torch.ones_like(varied),
        "running_mean": passing,
        "running_var": varied & passing,
    }


def _seen_in_product(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Returns masks: ``[C]`` for a linear weight's row, ``[C, kh, kw]`` for a kernel's output channel."""
    present = (x != 0).any(0)  # [C, H, W], or [C]
    bias = getattr(layer, "bias", None)
    masks = {} if bias is None else {"bias": torch.ones_like(bias, dtype=torch.bool)}
    if not isinstance(layer, _ConvNd):
        return {"weight": present, **masks}
    if set(layer.kernel_size) == {1}:  # without padding, here
        channels = present.flatten(1).any(1)
        return {"weight": channels.view(-1, *layer.kernel_size), **masks}
    return {"weight": _under_kernel(layer, present), **masks}


def _under_kernel(layer: _ConvNd, present: Tensor) -> Tensor:
    """Which elements of the kernel ever lie over a pixel of ``present``, ``[C, H, W]``."""
    padding = cast("tuple[int, ...]", layer.padding)
    # From the last side to the first, before and after each.
    windows = F.pad(present, [width for width in reversed(padding) for _ in range(2)])
    for axis, (size, stride) in enumerate(zip(layer.kernel_size, layer.stride, strict=True), start=1):
        windows = windows.unfold(axis, size, stride)
    sides = len(padding)
    return windows.flatten(1, sides).any(1)  # [C, rows, columns, kh, kw] to [C, kh, kw]
