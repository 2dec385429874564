"""Runs every layer of a graph alone, each on what the reference gives it, so that errors do not add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...errors import ParityError
from ...results import LayerError
from ..tolerance import largest_error, typical_bound, typical_error
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

    def check(self, reference: Reference, inputs: Sequence[Tensor], way: Way) -> LayerError:
        """Runs all layers.

        Args:
            inputs: ``[N, C, H, W]`` in the network's dtype; the errors on all of them are judged as one.

        Returns:
            The layer that is nearest to its bound.

        Raises:
            ParityError: an error exceeds it; of several the first layer is named.
        """
        each = [reference.values(x) for x in inputs]
        results = zip(*(self.cut.run(self._feed(one), way) for one in each), strict=True)
        values = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        worst = LayerError("", "", 0.0, 0.0)
        for unit, result in zip(self.alignment.units, results, strict=True):
            found = self._error(unit, reference, values, torch.cat(result))
            if not found.error <= found.bound:
                raise _beyond(unit, found, way, len(values[reference.first]))
            worst = max(worst, found, key=lambda one: one.share)
        return worst

    def _feed(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns what enters each layer, and the image, from which a shape may be taken."""
        fed = {self.graph.input: values[self.alignment.pieces[self.graph.root(self.graph.input)][0]]}
        for number, unit in enumerate(self.alignment.units):
            for position, value in enumerate(unit.inputs):
                pieces = [values[name] for name in self.alignment.pieces[value]]
                fed[f"{PREFIX}{number}.{position}"] = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
        return fed

    def _error(
        self, unit: Unit, reference: Reference, values: Mapping[str, Tensor], result: Tensor
    ) -> LayerError:
        operator = " and ".join(str(node) for node in unit.nodes)
        own = values[unit.steps[-1].value]
        if {step.kind for step in unit.steps} <= EXACT:
            return LayerError(unit.layer, operator, largest_error(result, own.double()), 0.0)
        entering = [values[name] for name in unit.steps[0].inputs]
        exact = run_chain(reference.exact(unit.steps), [one.double() for one in entering])
        allowed = typical_bound(typical_error(own, exact), exact, own.dtype)
        return LayerError(unit.layer, operator, typical_error(result, exact), allowed)


def _beyond(unit: Unit, found: LayerError, way: Way, images: int) -> ParityError:
    layers = " and ".join(step.layer for step in unit.steps)
    return ParityError(
        f"The error of {found.operator}, which stands for {layers}, is {found.error:.3g} against float64, "
        f"and the bound is {found.bound:.3g} ({way}, images: {images}).",
        where=unit.layer,
        largest=found.error,
        advice=ADVICE,
    )
