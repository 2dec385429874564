"""Runs every layer of a graph alone, each on what the reference gives it, so that errors do not add up."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ...errors import ParityError
from ...results import LayerError
from ..tolerance import bound, largest_error
from .align import ADVICE, Alignment
from .followed import PREFIX, Graph, Unit
from .reference import Reference
from .runtime import Way
from .steps import run_chain

# They choose and round nothing, so that nothing may differ.
EXACT = {"Concat", "MaxPool", "Pad", "Relu"}


class Alone:
    """Every layer of a graph, each with inputs of its own."""

    def __init__(self, graph: Graph, alignment: Alignment) -> None:
        self.graph, self.alignment = graph, alignment
        self.cut = graph.cut(alignment.units)

    def check(self, reference: Reference, x: Tensor, way: Way) -> LayerError:
        """Runs all layers.

        Args:
            x: ``[N, C, H, W]`` in the network's dtype.

        Returns:
            The layer that is nearest to its bound.

        Raises:
            ParityError: an error exceeds it; of several the first layer is named.
        """
        values = reference.values(x)
        results = self.cut.run({**dict(self._feed(values)), self.graph.input: x}, way)
        worst = LayerError("", "", 0.0, 0.0)
        for unit, result in zip(self.alignment.units, results, strict=True):
            found = self._error(unit, reference, values, result)
            if not found.error <= found.bound:
                raise _beyond(unit, found, way, x)
            worst = max(worst, found, key=lambda one: one.share)
        return worst

    def _feed(self, values: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for number, unit in enumerate(self.alignment.units):
            for position, value in enumerate(unit.inputs):
                yield f"{PREFIX}{number}.{position}", self._value(values, value)

    def _value(self, values: dict[str, Tensor], value: str) -> Tensor:
        return values[self.alignment.values[value]]

    def _error(
        self, unit: Unit, reference: Reference, values: dict[str, Tensor], result: Tensor
    ) -> LayerError:
        operator = " and ".join(str(node) for node in unit.nodes)
        own = values[unit.steps[-1].value]
        if {step.kind for step in unit.steps} <= EXACT:
            return LayerError(unit.layer, operator, largest_error(result, own.double()), 0.0)
        entering = [values[name] for name in unit.steps[0].inputs]
        exact = run_chain(reference.exact(unit.steps), [one.double() for one in entering])
        allowed = bound(largest_error(own, exact), exact, own.dtype)
        return LayerError(unit.layer, operator, largest_error(result, exact), allowed)


def _beyond(unit: Unit, found: LayerError, way: Way, x: Tensor) -> ParityError:
    layers = " and ".join(step.layer for step in unit.steps)
    return ParityError(
        f"The error of {found.operator}, which stands for {layers}, is {found.error:.3g} against float64, "
        f"and the bound is {found.bound:.3g}, on {list(x.shape)} ({way}).",
        where=unit.layer,
        largest=found.error,
        advice=ADVICE,
    )
