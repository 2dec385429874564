"""Every layer of a graph in ONNX's format as a graph of its own, all of them in one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import ParityError, is_out_of_memory, quoted
from .align import ADVICE
from .followed import PREFIX, Graph, Unit
from .runtime import Session, Way, onnx_and_runtime

if TYPE_CHECKING:
    from onnx import ModelProto


class OnnxCut:
    """A model in which every unit takes inputs of its own."""

    def __init__(self, graph: Graph, model: ModelProto, precision: int, units: Sequence[Unit]) -> None:
        self.graph, self.units = graph, units
        self.model = _cut(graph, model, precision, units)

    def run(self, inputs: Mapping[str, Tensor], way: Way) -> Iterable[Tensor]:
        """Returns what each unit gives; where they do not run together, of one after the other.

        Raises:
            ParityError: one of them does not run.
        """
        there = {one.name for one in self.model.graph.input}
        fed = {name: value for name, value in inputs.items() if name in there}
        try:
            return Session(self.model, way).run(fed)
        except Exception as error:  # the runtime's own have no common kind
            if is_out_of_memory(error):
                raise
            return self._run_singly(fed, way)

    def _run_singly(self, fed: dict[str, Tensor], way: Way) -> Iterator[Tensor]:
        onnx, _ = onnx_and_runtime()
        extractor = onnx.utils.Extractor(self.model)
        for number, unit in enumerate(self.units):
            own = (f"{PREFIX}{number}.", self.graph.input)
            given = [name for name in fed if name.startswith(own)]
            try:
                alone = extractor.extract_model(given, [unit.result])
                yield Session(alone, way).run({name: fed[name] for name in given})[0]
            except Exception as error:
                raise does_not_run(unit, error) from error


def does_not_run(unit: Unit, error: Exception) -> ParityError:
    """Returns what says that a unit can't be run."""
    reason = quoted(" ".join(str(error).split()))
    return ParityError(
        f"{unit.nodes[0]} does not run: {reason}.", where=unit.layer, largest=float("inf"), advice=ADVICE
    )


def _cut(graph: Graph, whole: ModelProto, precision: int, units: Sequence[Unit]) -> Any:
    """Returns a model in which every unit takes inputs of its own, and gives what it returns."""
    onnx, _ = onnx_and_runtime()
    model = onnx.ModelProto()
    model.CopyFrom(whole)
    nodes = {one.output[0]: one for one in model.graph.node}
    known = {one.name: one for one in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    entering, results = [], []
    for number, unit in enumerate(units):
        for position, value in enumerate(unit.inputs):
            taken = _rewire(graph, nodes, unit, value, f"{PREFIX}{number}.{position}")
            # Nothing infers the type behind a runtime's own operators, which keep the weights'.
            kind = known[taken].type.tensor_type.elem_type if taken in known else precision
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
