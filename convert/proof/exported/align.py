"""Follows a graph beside the network, and says which nodes compute which layers.

Names play no part: exporters lose them.  A value of the graph is known by where it comes from, and a
concatenation by what it joins, in which order.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from torch.nn.modules.conv import _ConvNd

from ...errors import ParityError, first_few
from .followed import Graph, Node, Unit
from .steps import Step

if TYPE_CHECKING:
    from torch import Tensor

# What an exporter may have done to a layer.
FOLDED = "norms folded into convolutions"
FUSED = "operators fused with what follows them"
DECOMPOSED = "norms written as a product and a sum"
PADDED = "paddings moved into the convolution"
BEHIND = "operators behind the logits"

ADVICE = "Export the network again, and look at what the exporter was told of this layer."
# What may stand between the last ReLU and the classifier.
POOLING = {"AveragePool", "Flatten", "GlobalAveragePool", "ReduceMean", "Reshape", "Squeeze", "Unsqueeze"}
HEADS = {"Gemm", "MatMul"}
LAST = {"Sigmoid", "Softmax"}


@dataclass(frozen=True)
class Alignment:
    """A graph beside the network.

    Attributes:
        units: in the order in which they run.
        pieces: what each value of the graph joins, by the network's names.
        output: position of the logits among the graph's outputs, or of what is made of them.
        behind: what is made of the logits; None where nothing is.
    """

    units: tuple[Unit, ...]
    pieces: dict[str, tuple[str, ...]]
    output: int
    behind: Node | None

    def finish(self, logits: Tensor) -> Tensor:
        """Returns what the graph makes of logits, ``[N, classes]``."""
        if self.behind is None:
            return logits
        return logits.sigmoid() if self.behind.op == "Sigmoid" else logits.softmax(1)


def align(graph: Graph, first: str, steps: Sequence[Step]) -> Alignment:
    """Finds the nodes of every layer.

    Args:
        first: the network's name of its input.
        steps: its operations, in the order in which they run.

    Raises:
        ParityError: the graph runs another operator where the network runs a layer.
    """
    return _Walk(graph, first, steps).walk()


class _Walk:
    """The way from the input to the logits."""

    def __init__(self, graph: Graph, first: str, steps: Sequence[Step]) -> None:
        self.graph, self.steps = graph, steps
        self.at = {first: graph.root(graph.input)}
        self.pieces: dict[str, tuple[str, ...]] = {self.at[first]: (first,)}
        # Every concatenation by what it joins, which is known once these values were met.
        self.joins = [node for node in graph.nodes if node.op == "Concat"]
        self.units: list[Unit] = []

    def walk(self) -> Alignment:
        position = 0
        while position < len(self.steps):
            steps = self.steps[position:]
            unit = self._concatenation(steps) if steps[0].kind == "Concat" else self._unit(steps)
            self.at[unit.steps[-1].value] = self.graph.root(unit.result)
            self.pieces.setdefault(self.at[unit.steps[-1].value], (unit.steps[-1].value,))
            self.units += [unit] if unit.nodes else []
            position += len(unit.steps)
        return Alignment(tuple(self.units), self.pieces, *self._end())

    def _concatenation(self, steps: Sequence[Step]) -> Unit:
        step = steps[0]
        entering = tuple(self.at[name] for name in step.inputs)
        if len(entering) == 1:
            return Unit((step,), (), entering, entering[0])
        wanted = self._joined(entering)
        for node in self.joins:
            inputs = tuple(map(self.graph.root, node.inputs))
            if node.attributes.get("axis") in (1, -3) and self._joined(inputs) == wanted:
                self.pieces[node.outputs[0]] = wanted
                return Unit((step,), (node,), inputs, node.outputs[0])
        raise _unlike(step, f"no Concat joins its {len(entering)} inputs, channels in this order")

    def _joined(self, values: Sequence[str]) -> tuple[str, ...]:
        """Returns what values are made of; one that was not met yet is a piece of its own."""
        return tuple(piece for value in values for piece in self.pieces.get(value, (value,)))

    def _unit(self, steps: Sequence[Step]) -> Unit:
        step = steps[0]
        value = self.at[step.inputs[0]]
        match step.kind:
            case "Pad" if not self._next(value, {"Pad"}):
                node = self._expect(steps[1], value, {"Conv", "FusedConv"})
                return self._convolution(steps, node, value, [PADDED])
            case "Conv":
                node = self._expect(step, value, {"Conv", "FusedConv"})
                return self._convolution(steps, node, value, [])
            case "BatchNormalization" if not self._next(value, {"BatchNormalization"}):
                return self._product_and_sum(step, value)
            case "Relu":
                node = self._expect(step, value, {"Relu", "Clip"})
                return Unit((step,), (node,), (value,), node.outputs[0])
            case "GlobalAveragePool":
                return self._pooling(steps[:2], value)
            case "Gemm":
                return self._head(step, value)
        node = self._expect(step, value, {step.kind})
        return Unit((step,), (node,), (value,), node.outputs[0])

    def _convolution(self, steps: Sequence[Step], node: Node, value: str, changes: list[str]) -> Unit:
        """The convolution, with the norm that was folded into it and the ReLU that was fused with it."""
        count = 2 if steps[0].kind == "Pad" else 1
        result = node.outputs[0]
        follows = _kind(steps, count) == "BatchNormalization" and not self._runs_norm(result)
        if follows and not self._has_kernel_of(node, steps[count - 1]):
            count += 1
            changes.append(FOLDED)
        if node.op == "FusedConv":
            if _kind(steps, count) != "Relu" or node.attributes.get("activation") != b"Relu":
                raise _unlike(steps[count - 1], f"{node} has an activation of its own")
            count += 1
            changes.append(FUSED)
        return Unit(tuple(steps[:count]), (node,), (value,), result, tuple(changes))

    def _runs_norm(self, value: str) -> bool:
        return bool(self._next(value, {"BatchNormalization"}) or self._next(value, {"Mul"}))

    def _has_kernel_of(self, node: Node, step: Step) -> bool:
        """Whether a convolution is as the network has it, so that a norm that does not follow is missing."""
        kernel, own = self.graph.constant(node.inputs[1]), cast(_ConvNd, step.module).weight
        return kernel is not None and np.array_equal(kernel, own.detach().numpy())

    def _product_and_sum(self, step: Step, value: str) -> Unit:
        product = self._expect(step, value, {"BatchNormalization", "Mul"})
        # Some leave out a sum with nothing but zeros, as it is in a network that was never trained.
        nodes = (product, *self._next(product.outputs[0], {"Add"})[:1])
        return Unit((step,), nodes, (value,), nodes[-1].outputs[0], (DECOMPOSED,))

    def _pooling(self, steps: Sequence[Step], value: str) -> Unit:
        """Everything between the last ReLU and the classifier, or the end of a network without one."""
        nodes = [self._expect(steps[0], value, POOLING)]
        while following := self._next(nodes[-1].outputs[0], POOLING):
            nodes.append(following[0])
        return Unit(tuple(steps), tuple(nodes), (value,), nodes[-1].outputs[0])

    def _head(self, step: Step, value: str) -> Unit:
        node = self._expect(step, value, HEADS)
        if node.op == "Gemm":
            return Unit((step,), (node,), (value,), node.outputs[0])
        nodes = (node, *self._next(node.outputs[0], {"Add"})[:1])
        return Unit((step,), nodes, (value,), nodes[-1].outputs[0])

    def _end(self) -> tuple[int, Node | None]:
        """Returns where the logits are given, or what a known function makes of them, and that function."""
        outputs = [self.graph.root(name) for name in self.graph.outputs]
        logits = self.at[self.steps[-1].value]
        if logits in outputs:
            return outputs.index(logits), None
        for last in self._next(logits, LAST):
            if last.outputs[0] in outputs and last.attributes.get("axis", 1) in (1, -1):
                return outputs.index(last.outputs[0]), last
        found = first_few([str(node) for node in self.graph.users(logits)]) or "nothing"
        raise _unlike(self.steps[-1], f"its result is no output of the graph, which runs {found} behind it")

    def _next(self, value: str, kinds: Collection[str]) -> list[Node]:
        return [node for node in self.graph.users(value) if node.op in kinds]

    def _expect(self, step: Step, value: str, kinds: Collection[str]) -> Node:
        found = self._next(value, kinds)
        if len(found) == 1:
            return found[0]
        there = first_few([str(node) for node in self.graph.users(value)]) or "nothing"
        raise _unlike(step, f"expected {' or '.join(sorted(kinds))}, and the graph runs {there}")


def _kind(steps: Sequence[Step], position: int) -> str | None:
    return steps[position].kind if position < len(steps) else None


def _unlike(step: Step, what: str) -> ParityError:
    return ParityError(
        f"The graph is not this network: {what}.", where=step.layer, largest=float("inf"), advice=ADVICE
    )
