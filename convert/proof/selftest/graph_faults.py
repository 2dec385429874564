"""Faults of an exported network, each done to a copy of a sound one: what exporters got wrong in public."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..exported.runtime import onnx_and_runtime
from .faults import IN_GRAPH, Draw, Fault

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

CONV1 = r".*\.conv1|.*transition\d+\.conv"
CONV2 = r".*\.conv2"
NORM = r".*\.norm\d?"
RELU = r".*\.relu\d?|relu"
# Layers that have a node of another name, or the one before them.
ALSO = {"logits": ("classifier",), "flatten": ("pool",)}
FOLLOWED = r"features\.conv0|.*denselayer\d+\.conv1"


class Kind(NamedTuple):
    """One kind of fault.

    Attributes:
        name: under which it is counted.
        layers: matches the layers that can have it.
        spoil: changes a model at the node of a layer.
    """

    name: str
    layers: str
    spoil: Callable[[Copy, NodeProto], None]


class Copy:
    """A copy of a sound model, which a fault changes."""

    def __init__(self, model: ModelProto) -> None:
        self.onnx, _ = onnx_and_runtime()
        self.model = self.onnx.ModelProto()
        self.model.CopyFrom(model)
        self.nodes = {node.name: node for node in self.model.graph.node}
        self.weights = {one.name: one for one in self.model.graph.initializer}

    def value(self, name: str) -> np.ndarray[Any, Any]:
        """Returns a weight, which may be written to."""
        return np.array(self.onnx.numpy_helper.to_array(self.weights[name]))

    def put(self, name: str, value: np.ndarray[Any, Any]) -> None:
        """Replaces a weight."""
        self.weights[name].CopyFrom(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))

    def add_weight(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self.model.graph.initializer.append(self.onnx.numpy_helper.from_array(value, name))
        return name

    def tell(self, node: NodeProto, **settings: object) -> None:
        """Gives a node other settings."""
        kept = [one for one in node.attribute if one.name not in settings]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(
            self.onnx.helper.make_attribute(name, value) for name, value in settings.items()
        )

    def leave_out(self, node: NodeProto) -> None:
        """Gives what takes a node's output what the node takes."""
        for other in self.model.graph.node:
            other.input[:] = [node.input[0] if one == node.output[0] else one for one in other.input]
        self.model.graph.node.remove(node)

    def insert(self, op: str, value: str, **settings: object) -> str:
        """Has a new node take a value, and everything that took it the new node's."""
        added = self.onnx.helper.make_node(op, [value], [f"{value}.{op}"], name=f"{value}.{op}", **settings)
        place = 0
        for i, node in enumerate(self.model.graph.node):
            place = i + 1 if value in node.output else place
            node.input[:] = [added.output[0] if one == value else one for one in node.input]
        self.model.graph.node.insert(place, added)
        return str(added.output[0])


def graph_faults(model: ModelProto, draw: Draw) -> Iterator[Fault]:
    """Yields the catalogue for one model, whose nodes are named after their layers."""
    for kind in KINDS:
        layers = [node.name for node in model.graph.node if re.fullmatch(kind.layers, node.name)]
        for layer in draw.places(layers):
            yield Fault(kind.name, IN_GRAPH, _injecting(kind, layer), frozenset(_where(layer)))


def _where(layer: str) -> Iterator[str]:
    """Yields what locates a fault: the layer, and the norm that can be folded into it."""
    yield layer
    yield from ALSO.get(layer, ())
    if re.fullmatch(FOLLOWED, layer):
        yield layer.replace("conv0", "norm0").replace("conv1", "norm2")


def _injecting(kind: Kind, layer: str) -> Callable[[ModelProto], ModelProto]:
    def inject(model: ModelProto) -> ModelProto:
        copy = Copy(model)
        kind.spoil(copy, copy.nodes[layer])
        spoiled: ModelProto = copy.model
        return spoiled

    return inject


def _scaled(copy: Copy, node: NodeProto) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns what the norm behind a convolution multiplies by, and what it adds."""
    norm = next(one for one in copy.model.graph.node if node.output[0] in one.input)
    weight, bias, mean, variance = (copy.value(name) for name in norm.input[1:])
    scale = weight / np.sqrt(variance + 1e-5)
    return scale, bias - scale * mean


def _fold_and_keep(copy: Copy, node: NodeProto) -> None:
    scale, shift = _scaled(copy, node)
    kernel = copy.value(node.input[1])
    copy.put(node.input[1], (kernel.T * scale).T.astype(np.float32))
    node.input.append(copy.add_weight(f"{node.name}.bias", shift.astype(np.float32)))


def _fold_without_epsilon(copy: Copy, node: NodeProto) -> None:
    norm = next(one for one in copy.model.graph.node if node.output[0] in one.input)
    variance = copy.value(norm.input[4])
    copy.put(norm.input[4], variance - np.float32(1e-3) * variance)
    _fold_and_keep(copy, node)
    copy.leave_out(norm)


def _lose_the_shift(copy: Copy, node: NodeProto) -> None:
    _fold_and_keep(copy, node)
    copy.leave_out(next(one for one in copy.model.graph.node if node.output[0] in one.input))
    del node.input[2]


def _exchange(first: int, second: int) -> Callable[[Copy, NodeProto], None]:
    def spoil(_: Copy, node: NodeProto) -> None:
        node.input[first], node.input[second] = node.input[second], node.input[first]

    return spoil


def _telling(**settings: object) -> Callable[[Copy, NodeProto], None]:
    return lambda copy, node: copy.tell(node, **settings)


def _for_each_side(**settings: int) -> Callable[[Copy, NodeProto], None]:
    def spoil(copy: Copy, node: NodeProto) -> None:
        sides = copy.value(node.input[1]).ndim - 2
        given = {name: [value] * sides * (1 + (name == "pads")) for name, value in settings.items()}
        copy.tell(node, **given)

    return spoil


def _shifting_pads(copy: Copy, node: NodeProto) -> None:
    sides = copy.value(node.input[1]).ndim - 2
    copy.tell(node, pads=[2] * sides + [0] * sides)


def _one_weight(copy: Copy, node: NodeProto) -> None:
    value = copy.value(node.input[1])
    value.flat[value.size // 2] = np.nextafter(value.flat[value.size // 2], np.float32(np.inf))
    copy.put(node.input[1], value)


def _in_half(copy: Copy, node: NodeProto) -> None:
    for name in node.input[1:]:
        copy.put(name, copy.value(name).astype(np.float16).astype(np.float32))


def _through_half(copy: Copy, node: NodeProto) -> None:
    copy.insert("Cast", copy.insert("Cast", node.input[0], to=10), to=1)


def _transpose_head(copy: Copy, node: NodeProto) -> None:
    value = copy.value(node.input[1])
    copy.put(node.input[1], value.T.reshape(value.shape))


def _add_a_bias(copy: Copy, node: NodeProto) -> None:
    count = copy.value(node.input[1]).shape[0]
    node.input.append(copy.add_weight(f"{node.name}.bias", np.full(count, 1e-3, np.float32)))


def _reverse(_: Copy, node: NodeProto) -> None:
    node.input[:] = reversed(list(node.input))


def _as_max(copy: Copy, node: NodeProto) -> None:
    node.op_type = "MaxPool"
    copy.tell(node, count_include_pad=0)
    node.attribute.remove(next(one for one in node.attribute if one.name == "count_include_pad"))


def _in_training(copy: Copy, node: NodeProto) -> None:
    node.output.extend([f"{node.name}.mean", f"{node.name}.variance"])
    copy.tell(node, training_mode=1)


def _pool_one_axis(copy: Copy, _: NodeProto) -> None:
    pool = next(one for one in copy.model.graph.node if one.op_type == "ReduceMean")
    pool.input[1] = copy.add_weight("axes", np.array([-1], np.int64))


def _flatten_into_one(copy: Copy, node: NodeProto) -> None:
    node.input[1] = copy.add_weight("sides", np.array([1, -1], np.int64))


KINDS = (
    Kind("paddings exchanged in a graph", CONV2, _shifting_pads),
    Kind("dilation in a graph", CONV2, _for_each_side(dilations=2, pads=2)),
    Kind("stride in a graph", CONV1, _for_each_side(strides=2)),
    Kind("epsilon in a graph", NORM, _telling(epsilon=1.001e-5)),
    Kind("training mode in a graph", NORM, _in_training),
    Kind("mean and variance exchanged in a graph", NORM, _exchange(3, 4)),
    Kind("scale and shift exchanged in a graph", NORM, _exchange(1, 2)),
    Kind("a norm's tensors through float16", NORM, _in_half),
    Kind("a norm's input through float16", NORM, _through_half),
    Kind("a norm dropped from a graph", NORM, Copy.leave_out),
    Kind("a norm folded and kept", FOLLOWED, _fold_and_keep),
    Kind("a norm folded with another variance", FOLLOWED, _fold_without_epsilon),
    Kind("a norm folded without its shift", FOLLOWED, _lose_the_shift),
    Kind("a ReLU dropped from a graph", RELU, Copy.leave_out),
    Kind("ceil_mode in a graph", r".*\.pool0?", _telling(ceil_mode=1)),
    Kind("max for average in a graph", r".*transition\d+\.pool", _as_max),
    Kind("concatenation reversed in a graph", r".*\.concat", _reverse),
    Kind("a bias in a graph", CONV2, _add_a_bias),
    Kind("one weight in a graph", rf"{CONV1}|{CONV2}", _one_weight),
    Kind("one axis pooled in a graph", "flatten", _pool_one_axis),
    Kind("axes of a flatten in a graph", "flatten", _flatten_into_one),
    Kind("head transposed in a graph", "logits", _transpose_head),
)
