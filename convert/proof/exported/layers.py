"""Runs every layer of a graph alone, each on what the reference gives it, so that errors do not add up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import ParityError, is_out_of_memory, quoted
from ...results import LayerError
from ..tolerance import bound, largest_error
from .align import ADVICE, Alignment, Unit
from .graph import Graph
from .reference import Reference
from .runtime import Session, Way, onnx_and_runtime
from .steps import run_chain

# They choose and round nothing, so that nothing may differ.
EXACT = {"Concat", "MaxPool", "Pad", "Relu"}
PREFIX = "alone."


class Alone:
    """Every layer of a graph as a graph of its own, all of them in one model."""

    def __init__(self, graph: Graph, alignment: Alignment) -> None:
        self.graph, self.alignment = graph, alignment
        self.model = _cut(graph, alignment.units)

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
        results = zip(*(self._run(self._feed(one), way) for one in each), strict=True)
        values = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        worst = LayerError("", "", 0.0, 0.0)
        for unit, result in zip(self.alignment.units, results, strict=True):
            found = self._error(unit, reference, values, torch.cat(result))
            if not found.error <= found.bound:
                raise _beyond(unit, found, way, len(values[reference.first]))
            worst = max(worst, found, key=lambda one: one.share)
        return worst

    def _run(self, fed: dict[str, Tensor], way: Way) -> Iterable[Tensor]:
        """Returns what each layer gives; where they do not run together, of one after the other."""
        try:
            return Session(self.model, way).run(fed)
        except Exception as error:  # the runtime's own have no common kind
            if is_out_of_memory(error):
                raise
            return self._run_singly(fed, way)

    def _run_singly(self, fed: dict[str, Tensor], way: Way) -> Iterator[Tensor]:
        onnx, _ = onnx_and_runtime()
        extractor = onnx.utils.Extractor(self.model)
        for number, unit in enumerate(self.alignment.units):
            own = (f"{PREFIX}{number}.", self.graph.input)
            given = [name for name in fed if name.startswith(own)]
            try:
                alone = extractor.extract_model(given, [unit.result])
                yield Session(alone, way).run({name: fed[name] for name in given})[0]
            except Exception as error:
                raise _does_not_run(unit, error) from error

    def _feed(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns what enters each layer, and the image where a shape is taken from it."""
        fed = {}
        for number, unit in enumerate(self.alignment.units):
            for position, value in enumerate(unit.inputs):
                pieces = [values[name] for name in self.alignment.pieces[value]]
                fed[f"{PREFIX}{number}.{position}"] = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
        if any(one.name == self.graph.input for one in self.model.graph.input):
            fed[self.graph.input] = values[self.alignment.pieces[self.graph.input][0]]
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
        allowed = bound(largest_error(own, exact), exact, own.dtype)
        return LayerError(unit.layer, operator, largest_error(result, exact), allowed)


def _cut(graph: Graph, units: Sequence[Unit]) -> Any:
    """Returns a model in which every unit takes inputs of its own, and gives what it returns."""
    onnx, _ = onnx_and_runtime()
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = {one.output[0]: one for one in model.graph.node}
    known = {one.name: one for one in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    entering, results = [], []
    for number, unit in enumerate(units):
        for position, value in enumerate(unit.inputs):
            taken = _rewire(graph, nodes, unit, value, f"{PREFIX}{number}.{position}")
            # Nothing infers the type behind a runtime's own operators, which keep the weights'.
            kind = known[taken].type.tensor_type.elem_type if taken in known else graph.precision
            entering.append(onnx.helper.make_tensor_value_info(f"{PREFIX}{number}.{position}", kind, None))
        results.append(unit.result)
    del model.graph.output[:]
    model.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in results)
    model.graph.input.extend(entering)
    # What no layer takes, such as the operators behind the logits, goes.
    extractor = onnx.utils.Extractor(model)
    taken_inputs = [one.name for one in entering]
    return extractor.extract_model([graph.input, *taken_inputs], results)


def _rewire(graph: Graph, nodes: dict[str, Any], unit: Unit, value: str, name: str) -> str:
    """Has the first node of a unit take another value; returns the one that it took."""
    node = nodes[unit.nodes[0].outputs[0]]
    place = next(i for i, one in enumerate(node.input) if graph.root(one) == graph.root(value))
    taken = str(node.input[place])
    node.input[place] = name
    return taken


def _does_not_run(unit: Unit, error: Exception) -> ParityError:
    reason = quoted(" ".join(str(error).split()))
    return ParityError(
        f"{unit.nodes[0]} does not run: {reason}.", where=unit.layer, largest=float("inf"), advice=ADVICE
    )


def _beyond(unit: Unit, found: LayerError, way: Way, images: int) -> ParityError:
    layers = " and ".join(step.layer for step in unit.steps)
    return ParityError(
        f"The error of {found.operator}, which stands for {layers}, is {found.error:.3g} against float64, "
        f"and the bound is {found.bound:.3g} ({way}, images: {images}).",
        where=unit.layer,
        largest=found.error,
        advice=ADVICE,
    )
