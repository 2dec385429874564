"""A graph that can be followed and run, of whichever runtime: a node by ONNX's name of its operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from ...errors import quoted
from .runtime import Way
from .steps import Step

# What a layer that is run alone takes is called PREFIX, number of the unit, dot, position.
PREFIX = "alone."


@dataclass(frozen=True, eq=False)
class Node:
    """One node of the graph.

    Attributes:
        op: the operator's name.
        name: the node's own name, or its first output's where it has none.
        inputs, outputs: names of values; of an input that is left out an empty one.
        attributes: by name.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.op} {quoted(self.name)}"


@dataclass(frozen=True)
class Unit:
    """Layers of the network, and the nodes that compute them.

    Attributes:
        steps: operations, each of which takes what the one before it returns.
        nodes: of the graph.
        inputs: values that enter, as the graph names them.
        result: value that leaves.
        changes: what the exporter did to them; nothing where each layer is an operator.
    """

    steps: tuple[Step, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    result: str
    changes: tuple[str, ...] = ()

    @property
    def layer(self) -> str:
        """Name of the layer, or of the first of those that became one."""
        return self.steps[0].layer


class About(NamedTuple):
    """A runtime, and the file that it runs.

    Attributes:
        runtime: its name and version.
        format: version of the file's format.
        versions: of the packages.
    """

    runtime: str
    format: str
    versions: Mapping[str, str]


class Session(Protocol):
    """A graph that is ready to run.

    Attributes:
        runs_there: whether it runs where that was asked for.
    """

    runs_there: bool

    def run(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Returns every output, in the graph's order."""


class Cut(Protocol):
    """A graph whose units take inputs of their own."""

    def run(self, inputs: Mapping[str, Tensor], way: Way) -> Iterable[Tensor]:
        """Returns what each unit gives."""


class Graph(Protocol):
    """A graph that can be followed from its input to its output, and run.

    Attributes:
        nodes: in the order in which they run.
        input: name of the input.
        outputs: names of the outputs.
        shape: sides of the input; None where a side is free.
        widens: whether weights in float16 are cast to float32 where they are taken.
    """

    nodes: list[Node]
    input: str
    outputs: list[str]
    shape: tuple[int | None, ...]
    widens: bool

    def root(self, value: str) -> str:
        """Returns the value that another one is, behind nodes that change nothing."""

    def users(self, value: str) -> list[Node]:
        """Returns the nodes that take a value, in the order in which they run."""

    def constant(self, value: str) -> np.ndarray[Any, Any] | None:
        """Returns a value that depends on no input; None where it does."""

    def about(self) -> About:
        """Returns what runs it."""

    def ways(self) -> Iterator[Way]:
        """Yields every way to run it that is there."""

    def session(self, way: Way) -> Session:
        """Returns what runs it."""

    def cut(self, units: Sequence[Unit]) -> Cut:
        """Returns what runs each unit alone."""
