"""One attempt to tell which network a source holds, by the options that the user gives.

Needs no torch: it looks at names, shapes and what a file declares of its layers, and at no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from densenet_convert.densenet import ARCHITECTURES

from ..errors import ArchitectureError, LayoutError, quoted
from ..layout import Reading
from ..records import Identified, Options
from . import known_layouts
from .architecture import Shape, choose_config
from .assumptions import assumptions_of, end_is_known, head_is_alone
from .declared_layers import Declared, read_declared
from .identify import identify_layout, whole_networks
from .no_output import check_losses
from .prepare import RESHAPED, Held, Prepared, prepare, prepare_head, settle
from .rename import absent_counters
from .surroundings import Surroundings, ask_for_relu, judge_surroundings, refuse_unknown


def identify_once(
    held: Held,
    options: Options,
    norm_eps: float | None = None,
    networks: Sequence[Reading] | None = None,
) -> Identified:
    """Returns which network a source holds, or refuses it, without advice.

    Args:
        held: the source's names, shapes and declared layers.
        options: what the user says of them.
        norm_eps: the epsilon that is known from beside the source, where it declares no layers.
        networks: what ``whole_networks`` finds in the source, where that is known already.

    Raises:
        LayoutError: no layout explains its names, more than one does, or which function it is stays open.
        ArchitectureError: the tensors, or the declared layers, are those of another network.
    """
    source = prepare(held)
    reading = identify_layout(
        source.tensors,
        known_layouts(),
        layout=options.layout,
        prefix=options.prefix,
        only=options.only,
        head=options.head,
    )
    architecture = None if options.arch is None else architecture_name(options.arch)
    prepared, reading = prepare_head(source, reading)
    declared = _declared(prepared, reading, options.final_relu)
    network = _network(prepared, reading, declared, norm_eps, architecture, options.final_relu)
    check_losses(source.source, source.dropped, network.config.num_classes, network.config.num_features)
    if reading.only:
        if networks is None:
            networks = whole_networks(source.tensors, known_layouts())
        around = Surroundings(source.tensors, reading, network.config.num_features, networks)
        known = declared.tree is not None and declared.tree.keras
        if options.reference is None:
            judge_surroundings(around, head_is_named=options.head is not None, order_is_known=known)
        elif options.head is None and around.candidates:
            around.ask_for_head()
    if options.reference is not None:  # the owner's own network settles the rest
        return replace(network, assumptions=())
    _require_known_end(reading, network, declared, options)
    return network


def _require_known_end(reading: Reading, network: Identified, declared: Declared, options: Options) -> None:
    """Raises UnclearError if only the owner knows what runs behind the last norm."""
    if network.config.num_classes:
        refuse_unknown(declared.unknown)
    if network.config.num_classes and (declared.tree is None or not end_is_known(declared.tree)):
        alone = declared.tree is None or head_is_alone(declared.tree)
        if options.final_relu is None and not (alone and reading.head_is_beside_features):
            ask_for_relu(reading)


def network_of(
    held: Held, reading: Reading, norm_eps: float | None = None, final_relu: bool | None = None
) -> Identified:
    """Returns which network a source holds, once it is known how its names are read.

    Args:
        held: as ``identify_once`` takes it.
        reading: of the names that ``prepare`` gives, with its explanation.
        norm_eps: as there.
        final_relu: whether a ReLU stands behind the last norm; None where nobody says it.

    Raises:
        LayoutError: the reading does not explain every name, or a tensor has other axes than it says.
        ArchitectureError: as there.
    """
    prepared, reading = prepare_head(prepare(held), reading)
    declared = _declared(prepared, reading, final_relu)
    return _network(prepared, reading, declared, norm_eps, None, final_relu)


def _declared(held: Prepared, reading: Reading, final_relu: bool | None) -> Declared:
    kernel = any(step.name == RESHAPED for step in held.rewrites)
    return read_declared(
        held.layers, held.format, reading, final_relu=final_relu is not False, head_is_kernel=kernel
    )


def _network(
    held: Prepared,
    reading: Reading,
    declared: Declared,
    norm_eps: float | None,
    architecture: str | None,
    final_relu: bool | None,
) -> Identified:
    """Returns the network; ``architecture`` is the one that it must be, such as ``"densenet169"``."""
    norm_eps = declared.norm_eps if held.layers else norm_eps
    implied = dict(reading.layout.overrides)
    if norm_eps is not None:
        implied["norm_eps"] = norm_eps
    if final_relu is not None:
        implied["final_relu"] = final_relu
    sources = {target: name for name, target in reading.explanation.targets.items()}
    config = choose_config(
        _canonical_shapes(held.tensors, reading),
        implied=implied,
        architecture=architecture,
        source_names=sources,
    )
    assumptions = assumptions_of(
        reading, config, declared.tree, final_relu=final_relu, norm_eps=norm_eps, rewrites=held.rewrites
    )
    problem_type = declared.problem_type or reading.layout.problem_type
    steps, settled = settle(held, reading)
    return Identified(settled, config, problem_type, norm_eps, assumptions, steps)


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
