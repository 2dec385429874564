"""An ONNX file as a graph that can be followed, read without running it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FolderError, ReadError, first_few, quoted
from .cut import OnnxCut
from .followed import About, Node, Unit
from .runtime import Session as OnnxSession
from .runtime import Way, onnx_and_runtime, ways

if TYPE_CHECKING:
    from onnx import ModelProto

# What a DenseNet is made of in ONNX, and what exporters put between.
LAYERS = {
    "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "FusedConv", "Gemm", "GlobalAveragePool",
    "MatMul", "MaxPool", "Pad", "ReduceMean", "Relu",
}  # fmt: skip
BETWEEN = {
    "Add", "Cast", "CastLike", "Constant", "ConstantOfShape", "Div", "Dropout", "Expand", "Flatten", "Gather",
    "Identity", "Mul", "Range", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Squeeze", "Sub",
    "Transpose", "Unsqueeze",
}  # fmt: skip
# They return what they take, in another precision at most.
SAME = {"Identity", "Dropout"}
FLOAT = 1  # ONNX's number of float32
# FusedConv, as onnxruntime saves what it fused.
DOMAINS = {"", "ai.onnx", "com.microsoft"}


class OnnxGraph:
    """A model that can be followed from its input to its output.

    Attributes:
        model: as it was read.
        nodes: in the order in which they run.
        input: name of the input.
        outputs: names of the outputs.
        shape: sides of the input; None where a side is free.
        precision: ONNX's number of the weights' dtype.
    """

    def __init__(self, model: ModelProto) -> None:
        onnx, _ = onnx_and_runtime()
        self.model = model
        attribute = onnx.helper.get_attribute_value
        self.nodes = [
            Node(
                one.op_type,
                one.name or one.output[0],
                tuple(one.input),
                tuple(one.output),
                {item.name: attribute(item) for item in one.attribute},
            )
            for one in model.graph.node
        ]
        self._precisions = {one.data_type for one in model.graph.initializer if one.dims}
        self.precision = FLOAT if FLOAT in self._precisions else max(self._precisions, default=FLOAT)
        self._constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
        self.input, self.shape = self._find_input()
        self.widens = False
        self.outputs: list[str] = [one.name for one in model.graph.output]
        self.producers = {value: node for node in self.nodes for value in node.outputs}
        self._roots: dict[str, str] = {}
        for node in self.nodes:
            if self._is_same(node) and node.inputs[0] not in self._constants:
                self._roots[node.outputs[0]] = self.root(node.inputs[0])
        self._add_computed_constants()
        self._users: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.outputs[0] not in self._roots:
                for value in dict.fromkeys(map(self.root, node.inputs)):
                    self._users.setdefault(value, []).append(node)

    def _find_input(self) -> tuple[str, tuple[int | None, ...]]:
        inputs = [one for one in self.model.graph.input if one.name not in self._constants]
        if len(inputs) != 1:
            names = first_few([one.name for one in inputs]) or "none"
            raise ReadError(
                f"A DenseNet takes one input, and this graph {len(inputs)}: {names}. Name another file."
            )
        dimensions = inputs[0].type.tensor_type.shape.dim
        return inputs[0].name, tuple(one.dim_value or None for one in dimensions)

    def _is_same(self, node: Node) -> bool:
        """Whether a node returns what it takes; a cast to less than the weights' precision does not."""
        if node.op == "Cast":
            return node.attributes["to"] == FLOAT or node.attributes["to"] in self._precisions
        return node.op in SAME or (node.op == "Concat" and len(node.inputs) == 1)

    def root(self, value: str) -> str:
        """Returns the value that another one is, behind nodes that change nothing."""
        return self._roots.get(value, value)

    def users(self, value: str) -> list[Node]:
        """Returns the nodes that take a value, in the order in which they run."""
        return self._users.get(self.root(value), [])

    def constant(self, value: str) -> np.ndarray[Any, Any] | None:
        """Returns a value that depends on no input; None where it does."""
        return self._constants.get(value)

    def about(self) -> About:
        """Returns what runs it."""
        onnx, runtime = onnx_and_runtime()
        versions = {"onnx": onnx.__version__, "onnxruntime": runtime.__version__}
        return About(f"onnxruntime {runtime.__version__}", f"opset {opset_of(self.model)}", versions)

    def ways(self) -> Iterator[Way]:
        """Yields every provider that is there, at each level of optimisation."""
        return ways()

    def session(self, way: Way) -> OnnxSession:
        """Returns what runs it."""
        return OnnxSession(self.model, way)

    def cut(self, units: Sequence[Unit]) -> OnnxCut:
        """Returns what runs each unit alone."""
        return OnnxCut(self, self.model, self.precision, units)

    def _add_computed_constants(self) -> None:
        """Has the runtime compute what nodes make of constants, such as a bias of zeros."""
        fixed = set(self._constants)
        computed = []
        for node in self.nodes:
            if all(value in fixed or not value for value in node.inputs):
                fixed.update(node.outputs)
                computed += [value for value in node.outputs if value]
        taken = {value for node in self.nodes if node.outputs[0] not in fixed for value in node.inputs}
        wanted = [value for value in computed if value in taken]
        if wanted:
            self._constants.update(zip(wanted, _compute(self.model, wanted), strict=True))


def _compute(model: ModelProto, wanted: list[str]) -> Iterator[np.ndarray[Any, Any]]:
    onnx, runtime = onnx_and_runtime()
    constants = onnx.ModelProto()
    constants.CopyFrom(model)
    del constants.graph.output[:], constants.graph.value_info[:]
    constants.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    part = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(constants)).extract_model([], wanted)
    session = runtime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    yield from session.run(None, {})


def read_graph(path: Path) -> OnnxGraph:
    """Reads an ONNX file; weights that lie beside it are read as well.

    Raises:
        ReadError: it is no ONNX file, is not whole, or holds an operator that no rule knows.
        FolderError: it is not there.
    """
    onnx, _ = onnx_and_runtime()
    if not path.is_file():
        raise FolderError(f"{path} is no file. Name a model in ONNX's format.")
    try:
        model = onnx.load(path, load_external_data=False)
        _require_known_opset(model, path)
        onnx.load_external_data_for_model(model, str(path.parent))
        model = onnx.inliner.inline_local_functions(model)
        _require_known_operators(model, path)
        onnx.checker.check_model(model)
        return OnnxGraph(with_types(model))
    except (FolderError, ReadError):
        raise
    except Exception as error:  # protobuf's, the checker's and the runtime's own have no common kind
        reason = quoted(" ".join(str(error).split()))
        raise ReadError(f"{path} can't be read as an ONNX model: {reason}. Export it again.") from error


def graph_of(data: bytes) -> OnnxGraph:
    """Returns the graph of a file that was just made."""
    onnx, _ = onnx_and_runtime()
    return OnnxGraph(with_types(onnx.load_model_from_string(data)))


def with_types(model: ModelProto) -> ModelProto:
    """Returns a model with the type of every value, and no cast that depends on another value's type."""
    onnx, _ = onnx_and_runtime()
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {one.name: one.type.tensor_type.elem_type for one in values}
    types.update({one.name: one.data_type for one in graph.initializer})
    for node in graph.node:
        if node.op_type == "CastLike" and types.get(node.input[1]):
            node.op_type = "Cast"
            node.attribute.append(onnx.helper.make_attribute("to", types[node.input[1]]))
            del node.input[1:]
    return model


def opset_of(model: ModelProto) -> int:
    """Returns the version of ONNX's own operators; 0 where none is stated."""
    return next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)


def _require_known_opset(model: ModelProto, path: Path) -> None:
    onnx, _ = onnx_and_runtime()
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if not 7 <= opset <= newest:
        raise ReadError(
            f"{path} has opset {opset or 'none'}, and onnx {onnx.__version__} knows 7 to {newest}. Export it "
            "with one of these, or install a newer onnx and onnxruntime."
        )


def _require_known_operators(model: ModelProto, path: Path) -> None:
    nodes = model.graph.node
    names = [name for one in nodes for name in (one.op_type, one.domain, one.name, *one.input, *one.output)]
    if not all(isinstance(name, str) for name in names):  # protobuf gives what is no UTF-8 as bytes
        raise ReadError(f"{path} has names that are no text: it is damaged. Export it again.")
    found = {one.op_type if one.domain in DOMAINS else f"{one.domain}.{one.op_type}" for one in nodes}
    unknown = sorted(found - LAYERS - BETWEEN)
    if unknown:
        raise ReadError(
            f"{path} runs {first_few(unknown)}, which no rule of a DenseNet knows. Export the network "
            "itself, without quantisation and without a runtime's own formats."
        )
