"""Which network is this?  One answer for what converts, verifies, inspects, skips and tests itself.

Needs no torch: it looks at names, shapes and what a file declares of its layers, and at no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from densenet_convert.densenet import ARCHITECTURES

from ..errors import ArchitectureError, LayoutError, quoted
from ..formats.modules import Layer
from ..layout import Reading
from ..records import Identified, Options
from . import known_layouts
from .architecture import Shape, choose_config
from .declared_layers import read_declared
from .identify import identify_layout
from .rename import absent_counters


class Held(Protocol):
    """What a source holds: a ``Checkpoint``, or the content of a file that was not copied."""

    @property
    def format(self) -> str:
        """How the bytes were turned into tensors."""

    @property
    def tensors(self) -> Mapping[str, Any]:
        """The tensors, each with a ``shape``, under the source's names."""

    @property
    def layers(self) -> Mapping[str, Layer]:
        """What the source declares of its layers; empty for a state dict."""


def identify_network(held: Held, options: Options, norm_eps: float | None = None) -> Identified:
    """Returns which network a source holds.

    Args:
        held: the source's names, shapes and declared layers.
        options: what the user says of them.
        norm_eps: the epsilon that is known from beside the source, where it declares no layers.

    Raises:
        LayoutError: no layout explains its names, or more than one does.
        ArchitectureError: the tensors, or the declared layers, are those of another network.
    """
    reading = identify_layout(
        held.tensors,
        known_layouts(),
        layout=options.layout,
        prefix=options.prefix,
        only=options.only,
        head=options.head,
    )
    architecture = None if options.arch is None else architecture_name(options.arch)
    return network_of(held, reading, norm_eps, architecture)


def network_of(
    held: Held, reading: Reading, norm_eps: float | None = None, architecture: str | None = None
) -> Identified:
    """Returns which network a source holds, once it is known how its names are read.

    Args:
        held: as ``identify_network`` takes it.
        reading: with its explanation of these names.
        norm_eps: as there.
        architecture: the one that it must be, such as ``"densenet169"``.

    Raises:
        LayoutError: the reading does not explain every name, or a tensor has other axes than it says.
        ArchitectureError: as there.
    """
    declared_eps, problem_type = read_declared(held.layers, held.format, reading)
    norm_eps = declared_eps if held.layers else norm_eps
    implied = dict(reading.layout.overrides)
    if norm_eps is not None:
        implied["norm_eps"] = norm_eps
    sources = {target: name for name, target in reading.explanation.targets.items()}
    config = choose_config(
        _canonical_shapes(held.tensors, reading),
        implied=implied,
        architecture=architecture,
        source_names=sources,
    )
    return Identified(reading, config, problem_type or reading.layout.problem_type, norm_eps)


def architecture_name(arch: str | int) -> str:
    """Returns ``"densenet169"`` for 169, ``"169"`` and ``"densenet169"``.

    Raises:
        ArchitectureError: there is no such architecture.
    """
    name = f"densenet{str(arch).removeprefix('densenet')}"
    if name not in ARCHITECTURES:
        raise ArchitectureError(f"There is no {name}, expected one of {', '.join(ARCHITECTURES)}.")
    return name


def _canonical_shapes(tensors: Mapping[str, Any], reading: Reading) -> dict[str, Shape]:
    """Returns the shapes by canonical name, with the counters that files of 2017 lack."""
    shapes: dict[str, Shape] = {}
    for name, target in reading.explanation.targets.items():
        shape, axes = tuple(tensors[name].shape), reading.explanation.axes.get(name)
        if axes is not None and len(axes) != len(shape):
            raise LayoutError(
                f"{quoted(name)} has shape {list(shape)}, expected {len(axes)} dimensions in "
                f"{reading.layout.name}."
            )
        shapes[target] = shape if axes is None else tuple(shape[axis] for axis in axes)
    return shapes | dict.fromkeys(absent_counters(shapes), ())
