"""The network as a list of operations, each of which can be run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.padding import _ConstantPadNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from densenet_convert.densenet.model import LAYERS

# The operation of each module, by its name in ONNX.
MODULES: dict[str, tuple[type[nn.Module], ...]] = {
    "Conv": (_ConvNd,),
    "BatchNormalization": (_BatchNorm,),
    "Relu": (nn.ReLU,),
    "MaxPool": (_MaxPoolNd,),
    "AveragePool": (_AvgPoolNd,),
    "Pad": (_ConstantPadNd,),
    "Gemm": (nn.Linear,),
}
# The same of each function that runs between modules, and what it is called.
FUNCTIONS: dict[object, tuple[str, str]] = {
    torch.cat: ("Concat", "concat"),
    F.relu: ("Relu", "relu"),
    **{layers.average: ("GlobalAveragePool", "pool") for layers in LAYERS.values()},
    "flatten": ("Flatten", "flatten"),
}


@dataclass(frozen=True)
class Step:
    """One operation of the network.

    Attributes:
        layer: the module's name, or that of the module that runs it with the operation behind.
        kind: name of the operation in ONNX.
        value: name of the result.
        inputs: names of the values that it takes.
        module: what runs it; None for a function.
        run: computes the result; leaves what it takes as it is.
    """

    layer: str
    kind: str
    value: str
    inputs: tuple[str, ...]
    module: nn.Module | None
    run: Callable[[Sequence[Tensor]], Tensor]


def steps_of(network: nn.Module) -> tuple[str, list[Step]]:
    """Returns the name of the input, and every operation of a network in eval mode, in the order they run."""
    traced = fx.symbolic_trace(network)
    same: dict[str, str] = {}
    steps = []
    first = ""
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            first = node.name
        elif _does_nothing(traced, node):
            same[node.name] = _root(same, node.all_input_nodes[0].name)
        elif node.op != "output":
            steps.append(_step(traced, node, tuple(_root(same, one.name) for one in node.all_input_nodes)))
    return first, steps


def _root(same: Mapping[str, str], name: str) -> str:
    return same.get(name, name)


def _does_nothing(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether it is a dropout, which eval mode leaves out, or the head of a network without one."""
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), nn.Identity)
    return node.target is F.dropout


def _step(traced: fx.GraphModule, node: fx.Node, inputs: tuple[str, ...]) -> Step:
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        kind = next(kind for kind, types in MODULES.items() if isinstance(module, types))
        return Step(str(node.target), kind, node.name, inputs, module, _run_module(module))
    kind, name = FUNCTIONS[node.target]
    # The names of the modules around a function, of which the last is the innermost.
    owner = [str(name) for name, _ in node.meta.get("nn_module_stack", {}).values()][-1:]
    run = _averaging(node.target) if kind == "GlobalAveragePool" else _RUN[kind]
    return Step(".".join([*owner, name]), kind, node.name, inputs, None, run)


def _run_module(module: nn.Module) -> Callable[[Sequence[Tensor]], Tensor]:
    in_place = getattr(module, "inplace", False)

    def run(inputs: Sequence[Tensor]) -> Tensor:
        (x,) = inputs
        result: Tensor = module(x.clone() if in_place else x)
        return result

    return run


def _averaging(average: Any) -> Callable[[Sequence[Tensor]], Tensor]:
    return lambda inputs: average(inputs[0], 1)


_RUN: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "Concat": lambda inputs: torch.cat(list(inputs), 1),
    "Relu": lambda inputs: F.relu(inputs[0]),
    "Flatten": lambda inputs: inputs[0].flatten(1),
}


def run_steps(first: str, steps: Sequence[Step], x: Tensor) -> dict[str, Tensor]:
    """Returns every value of the network for an input ``[N, C, H, W]``, by name."""
    values = {first: x}
    with torch.no_grad():
        for step in steps:
            values[step.value] = step.run([values[name] for name in step.inputs])
    return values


def run_chain(chain: Sequence[Step], inputs: Sequence[Tensor]) -> Tensor:
    """Returns what steps make of an input, each of which takes what the one before it returns."""
    with torch.no_grad():
        result = chain[0].run(inputs)
        for step in chain[1:]:
            result = step.run([result])
    return result
