"""The folder's network as what a graph is held against, in the graph's precision and in float64."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNet

from ...errors import ValueRangeError
from ..inputs import Shape, draw
from ..tolerance import logits_of
from .steps import Step, run_steps, steps_of


class Reference:
    """The network in a graph's precision, beside itself in float64.

    Args:
        weights: the precision to which they are rounded before; by default the same.

    Attributes:
        config: its hyperparameters.
        dtype: the graph's precision.
        first: name of the input.
        steps: its operations, in the order in which they run.
    """

    def __init__(self, network: DenseNet, dtype: torch.dtype, weights: torch.dtype | None = None) -> None:
        self.config, self.dtype = network.config, dtype
        self._own = in_eval(network).to(weights or dtype).to(dtype)
        self._exact = deepcopy(self._own).double()
        self.first, self.steps = steps_of(self._own)
        self._in_double = {step.value: step for step in steps_of(self._exact)[1]}
        self._logits: dict[tuple[Shape, int], tuple[list[Tensor], Tensor, Tensor]] = {}

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors of the network, by name."""
        return self._own.state_dict()

    def draw(self, shape: Shape, seed: int) -> Tensor:
        """Returns an input, ``[N, C, H, W]``."""
        return draw(shape, seed=seed).to(self.dtype)

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """Returns every value of the network, by name."""
        return run_steps(self.first, self.steps, x)

    def exact(self, steps: Sequence[Step]) -> list[Step]:
        """Returns the same operations in float64."""
        return [self._in_double[step.value] for step in steps]

    def logits(self, shape: Shape, count: int) -> tuple[list[Tensor], Tensor, Tensor]:
        """Returns inputs, and of all of them the logits and those in float64, ``[count N, classes]``.

        Raises:
            ValueRangeError: they are not finite.
        """
        if (shape, count) not in self._logits:
            inputs = [self.draw(shape, seed) for seed in range(count)]
            own = torch.cat([logits_of(self._own, x) for x in inputs])
            if not own.isfinite().all():
                name = str(self.dtype).removeprefix("torch.")
                raise ValueRangeError(
                    f"The network's output is not finite in {name}, on {list(shape)}. Export it in float32."
                )
            exact = torch.cat([logits_of(self._exact, x.double()) for x in inputs])
            self._logits[shape, count] = inputs, own, exact
        return self._logits[shape, count]


def in_eval(network: DenseNet) -> DenseNet:
    """Returns a copy whose operations can be listed: what is computed twice in training is not in eval."""
    copied = deepcopy(network).eval()
    for module in copied.modules():
        if hasattr(module, "memory_efficient"):
            setattr(module, "memory_efficient", False)  # noqa: B010 (a field that not every module has)
    return copied
