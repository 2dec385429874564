"""Writes a network in ONNX's format: every tensor as it is, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch

from densenet_convert.densenet import DenseNet

from .align import Alignment, align
from .by_torch import example, quietly, require_exporter
from .graph import OnnxGraph, with_types
from .reference import in_eval
from .runtime import onnx_and_runtime
from .steps import steps_of

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

# The exporter's own, to which no operator has to be converted.
OPSET = 18
INPUT, OUTPUT = "input", "logits"
SIDES = ("depth", "height", "width")
# The first that goes with the opset, so that older runtimes read it as well.
IR_VERSION = 8
# Key of a node's metadata.
LAYER = "densenet_convert.layer"


def onnx_model(
    network: DenseNet, dtype: torch.dtype, sides: tuple[int, ...] | None, properties: Mapping[str, str]
) -> bytes:
    """Returns a network as a file in ONNX's format, whose batch is free.

    Args:
        network: on the CPU; it is left as it was.
        dtype: of the weights, the input and the logits.
        sides: height and width of the input, or as many as it has; None leaves them free.
        properties: metadata of the model.
    """
    network = in_eval(network).to(dtype)
    model = with_types(_by_torch(network, dtype, sides))
    _leave_out_zero_biases(model)
    model = _what_is_run(model)
    cleaned = _clean(model, align(OnnxGraph(model), *steps_of(network)), properties)
    data: bytes = cleaned.SerializeToString(deterministic=True)
    return data


def _by_torch(network: DenseNet, dtype: torch.dtype, sides: tuple[int, ...] | None) -> ModelProto:
    onnx_and_runtime()  # the exporter's own message names one package alone
    require_exporter()
    x, free = example(network.config, dtype, sides)
    with quietly():
        program: Any = torch.onnx.export(
            network,
            (x,),
            dynamo=True,
            external_data=False,
            optimize=False,
            opset_version=OPSET,
            dynamic_shapes=(free,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    model: ModelProto = program.model_proto
    return model


def _leave_out_zero_biases(model: ModelProto) -> None:
    """Removes the bias of zeros that the exporter gives a convolution without one."""
    graph = OnnxGraph(model)
    for node in model.graph.node:
        bias = graph.constant(node.input[2]) if node.op_type == "Conv" and len(node.input) > 2 else None
        if bias is not None and node.input[2] not in {one.name for one in model.graph.initializer}:
            assert not bias.any()
            del node.input[2]


def _what_is_run(model: ModelProto) -> Any:
    """Returns the model without the nodes that nothing takes."""
    onnx, _ = onnx_and_runtime()
    return onnx.utils.Extractor(model).extract_model([INPUT], [OUTPUT])


def _clean(model: ModelProto, alignment: Alignment, properties: Mapping[str, str]) -> Any:
    """Returns the same graph under the layers' names, without what the exporter leaves of its machine."""
    onnx, _ = onnx_and_runtime()
    layers = {node.outputs[0]: unit.steps[-1].layer for unit in alignment.units for node in unit.nodes[-1:]}
    names = dict(_names(model, layers))
    nodes = []
    for one in model.graph.node:
        inputs, outputs = (
            [names.get(value, value) for value in values] for values in (one.input, one.output)
        )
        node = onnx.helper.make_node(one.op_type, inputs, outputs, name=outputs[0])
        node.attribute.extend(sorted(one.attribute, key=lambda attribute: attribute.name))
        if one.output[0] in layers:
            onnx.helper.set_model_props(node, {LAYER: layers[one.output[0]]})
        nodes.append(node)
    dimensions = len(model.graph.input[0].type.tensor_type.shape.dim) - 2
    ends = [
        _end(model.graph.input[0], ("batch", None, *SIDES[-dimensions:])),
        _end(model.graph.output[0], ("batch",)),
    ]
    weights = sorted(model.graph.initializer, key=lambda weight: weight.name)
    graph = onnx.helper.make_graph(nodes, "DenseNet", ends[:1], ends[1:], [_plain(one) for one in weights])
    made = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="densenet-convert",
        producer_version=version("densenet-convert"),
    )
    onnx.helper.set_model_props(made, dict(sorted(properties.items())))
    onnx.checker.check_model(made, full_check=True)
    return made


def _names(model: ModelProto, layers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields the new name of each value: that of its layer, or of what makes it, with a number."""
    kept = {INPUT, OUTPUT, *(one.name for one in model.graph.initializer)}
    for number, node in enumerate(model.graph.node):
        for place, value in enumerate(node.output):
            if value not in kept:
                yield value, layers.get(value, f"{node.op_type.lower()}.{number}.{place}")


def _end(value: ValueInfoProto, free: Sequence[str | None]) -> Any:
    """Returns an input or an output of the graph, with plain names of its free sides."""
    onnx, _ = onnx_and_runtime()
    kind = value.type.tensor_type
    sides = [one.dim_value or name for one, name in zip_longest(kind.shape.dim, free)]
    return onnx.helper.make_tensor_value_info(value.name, kind.elem_type, sides)


def _plain(weight: TensorProto) -> Any:
    onnx, _ = onnx_and_runtime()
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), weight.name)
