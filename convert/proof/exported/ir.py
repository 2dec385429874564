"""OpenVINO's IR as a graph that can be followed, read without running it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FolderError, ReadError, first_few, quoted
from .followed import About, Node, Unit
from .ir_run import IrCut, IrSession, IrWay, openvino
from .runtime import Way

# ONNX's names of what a DenseNet is made of.
LAYERS = {
    "Add": "Add", "AvgPool": "AveragePool", "BatchNormInference": "BatchNormalization", "Clamp": "Clip",
    "Concat": "Concat", "Convert": "Cast", "Convolution": "Conv", "MatMul": "MatMul", "MaxPool": "MaxPool",
    "Multiply": "Mul", "Pad": "Pad", "ReduceMean": "ReduceMean", "Relu": "Relu", "Reshape": "Reshape",
    "Sigmoid": "Sigmoid", "Softmax": "Softmax", "Squeeze": "Squeeze",
}  # fmt: skip
BETWEEN = {
    "Broadcast", "Constant", "Divide", "Gather", "Identity", "Parameter", "Range", "Result", "ShapeOf",
    "Slice", "StridedSlice", "Subtract", "Transpose", "Unsqueeze",
}  # fmt: skip
NAMES = {
    "strides": "strides", "dilations": "dilations", "kernel_shape": "kernel", "axis": "axis",
    "transpose_b": "transpose_b",
}  # fmt: skip
PADDING = {"same_upper": b"SAME_UPPER", "same_lower": b"SAME_LOWER"}


class IrGraph:
    """A model of OpenVINO that can be followed from its input to its output.

    A convolution takes the bias that is added behind it.

    Attributes:
        model: as it was read.
        nodes: in the order in which they run.
        input: name of the input.
        outputs: names of the outputs.
        shape: sides of the input; None where a side is free.
        widens: whether weights in float16 are cast to float32 where they are taken.
    """

    def __init__(self, model: Any, version: str) -> None:
        self.model, self._version = model, version
        self._ops = {op.get_name(): op for op in model.get_ordered_ops()}
        self._constants: dict[str, np.ndarray[Any, Any]] = {}
        self._roots: dict[str, str] = {}
        self.input, self.shape = self._find_input()
        self.widens = _precision(self.model) == "f32"
        for op in self._ops.values():
            self._read(op)
        self._takers: dict[Node, Any] = {}
        self.nodes = [self._node(op) for op in self._ops.values() if self._is_node(op)]
        self._users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                self._users.setdefault(value, []).append(node)
        self._add_biases()
        self.outputs = [self.root(_taken(one.get_node(), 0)) for one in model.outputs]

    def _find_input(self) -> tuple[str, tuple[int | None, ...]]:
        inputs = self.model.inputs
        if len(inputs) != 1 or inputs[0].partial_shape.rank.is_dynamic:
            raise ReadError(
                f"A DenseNet takes one input of known rank, and this graph {len(inputs)}. Name another file."
            )
        sides = inputs[0].partial_shape
        found = tuple(side.get_length() if side.is_static else None for side in sides)
        return _value(inputs[0]), found

    def _read(self, op: Any) -> None:
        """Keeps what is constant, and what returns what it takes."""
        kind, result = op.get_type_name(), _value(op.output(0)) if op.get_output_size() else ""
        if kind == "Constant":
            self._constants[result] = op.data
        elif kind in ("Convert", "Reshape") and (held := self.constant(_taken(op, 0))) is not None:
            # Weights in float16 are cast where they are taken.
            self._constants[result] = held.reshape(op.output(0).shape)
        elif (same := self._same(op)) is not None:
            self._roots[result] = self.root(same)

    def _same(self, op: Any) -> str | None:
        """Returns the value that an operator gives again, if it changes nothing."""
        kind, inputs = op.get_type_name(), [_taken(op, i) for i in range(op.get_input_size())]
        if kind == "Identity" or (kind == "Concat" and len(inputs) == 1):
            return inputs[0]
        if kind == "Convert" and op.get_attributes()["destination_type"] in ("f32", _precision(self.model)):
            return inputs[0]
        if kind == "Multiply":
            for one, other in (inputs, inputs[::-1]):
                factor = self.constant(one)
                if factor is not None and factor.size == 1 and factor.item() == 1:
                    return other
        return None

    def _is_node(self, op: Any) -> bool:
        if op.get_type_name() not in LAYERS:
            return False
        result = _value(op.output(0))
        return result not in self._roots and result not in self._constants

    def _node(self, op: Any) -> Node:
        inputs = tuple(self.root(_taken(op, i)) for i in range(op.get_input_size()))
        attributes = dict(_attributes(op))
        if op.get_type_name() == "Convolution" and (kernel := self.constant(inputs[1])) is not None:
            attributes["kernel_shape"] = list(kernel.shape[2:])
        weights = self.constant(inputs[1]) if op.get_type_name() == "MatMul" else None
        if weights is not None and attributes["transpose_b"]:
            inputs = (inputs[0], f"{inputs[1]}.T")
            self._constants[inputs[1]] = weights.T
        result = (_value(op.output(0)),)
        node = Node(LAYERS[op.get_type_name()], op.get_friendly_name(), inputs, result, attributes)
        self._takers[node] = op
        return node

    def _add_biases(self) -> None:
        """Gives a convolution the constant that is added to what it returns."""
        for position, node in enumerate(self.nodes):
            total = next(iter(self.users(node.outputs[0])), node)
            bias = self._bias(node, total)
            if bias is not None:
                name = f"{total.outputs[0]}.bias"
                self._constants[name] = bias
                whole = Node(node.op, node.name, (*node.inputs, name), total.outputs, node.attributes)
                self.nodes[position], self._takers[whole] = whole, self._takers[node]
                users = self._users[node.inputs[0]]
                users[users.index(node)] = whole

    def _bias(self, node: Node, total: Node) -> np.ndarray[Any, Any] | None:
        if (node.op, total.op) != ("Conv", "Add") or (kernel := self.constant(node.inputs[1])) is None:
            return None
        added = next((one for one in map(self.constant, total.inputs) if one is not None), None)
        return added.reshape(-1) if added is not None and added.shape[-3:] == (len(kernel), 1, 1) else None

    def root(self, value: str) -> str:
        """Returns the value that another one is, behind nodes that change nothing."""
        return self._roots.get(value, value)

    def users(self, value: str) -> list[Node]:
        """Returns the nodes that take a value, in the order in which they run."""
        return self._users.get(self.root(value), [])

    def constant(self, value: str) -> np.ndarray[Any, Any] | None:
        """Returns a value that depends on no input; None where it does."""
        return self._constants.get(self.root(value))

    def about(self) -> About:
        """Returns what runs it."""
        version = str(openvino().__version__)
        return About(f"OpenVINO {version.partition('-')[0]}", f"IR {self._version}", {"openvino": version})

    def ways(self) -> Iterator[IrWay]:
        """Yields the CPU with one thread, and with every one."""
        yield from (IrWay(threads=1), IrWay())

    def session(self, way: Way) -> IrSession:
        """Returns what runs it."""
        return IrSession(self.model, way, [self.input])

    def cut(self, units: Sequence[Unit]) -> IrCut:
        """Returns what runs each unit alone."""
        results = [self._ops[unit.result.rpartition(":")[0]].output(0) for unit in units]
        return IrCut(self.model, [self._ports(unit) for unit in units], results, units, self.input)

    def _ports(self, unit: Unit) -> list[Any]:
        """Returns where the first operator of a unit takes its inputs."""
        op = self._takers[unit.nodes[0]]
        left = list(range(op.get_input_size()))
        found = []
        for value in unit.inputs:
            place = next(i for i in left if self.root(_taken(op, i)) == self.root(value))
            left.remove(place)
            found.append(op.input(place))
        return found


def _precision(model: Any) -> str:
    return str(model.inputs[0].element_type.get_type_name())


def _value(output: Any) -> str:
    return f"{output.get_node().get_name()}:{output.get_index()}"


def _taken(op: Any, place: int) -> str:
    return _value(op.input(place).get_source_output())


def _attributes(op: Any) -> Iterator[tuple[str, Any]]:
    """Yields an operator's settings by ONNX's names."""
    stated = op.get_attributes()
    for ours, name in NAMES.items():
        if name in stated:
            yield ours, stated[name]
    if "pads_begin" in stated:
        yield "pads", [*stated["pads_begin"], *stated["pads_end"]]
        yield "auto_pad", PADDING.get(stated["auto_pad"])
    if "rounding_type" in stated:
        yield "ceil_mode", int(stated["rounding_type"] != "floor")
    if "epsilon" in stated:
        yield "epsilon", float(np.float32(stated["epsilon"]))


def read_ir(path: Path) -> IrGraph:
    """Reads a model of OpenVINO, whose weights lie beside it.

    Raises:
        ReadError: it is no such model, is not whole, or holds an operator that no rule knows.
        FolderError: one of both files is not there.
        LayoutError: openvino is not installed.
    """
    for file in (path, path.with_suffix(".bin")):
        if not file.is_file():
            raise FolderError(f"{file} is no file. A model of OpenVINO is two files, NAME.xml and NAME.bin.")
    return ir_of(path.read_bytes(), path.with_suffix(".bin").read_bytes(), path)


def ir_of(text: bytes, weights: bytes, path: Path | str) -> IrGraph:
    """Returns the graph of two files that were read, or just made."""
    module = openvino()
    try:
        model = module.Core().read_model(text, weights)
        version = model.get_rt_info()["version"].value
        _require_known_operators(model, path)
        return IrGraph(model, str(version))
    except (FolderError, ReadError):
        raise
    except Exception as error:  # the reader's own have no kind but RuntimeError
        reason = quoted(" ".join(str(error).split()))
        raise ReadError(f"{path} can't be read as a model of OpenVINO: {reason}. Export it again.") from error


def _require_known_operators(model: Any, path: Path | str) -> None:
    found = {op.get_type_name() for op in model.get_ordered_ops()}
    unknown = sorted(found - LAYERS.keys() - BETWEEN)
    if unknown:
        raise ReadError(
            f"{path} runs {first_few(unknown)}, which no rule of a DenseNet knows. Export the network "
            "itself, without quantisation."
        )
