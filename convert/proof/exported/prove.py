"""The proof of an exported network: weights by their bytes, each layer alone, and then end to end."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densenet_convert.densenet import DenseNet, DenseNetConfig

from ...errors import ParityError, ReadError, is_out_of_memory, quoted
from ...results import ExportProof, LayerError, Measured
from ..determinism import deterministic, environment
from ..inputs import FEWEST_LOGITS, INPUTS, Shape
from ..layers import OUTPUT
from ..tolerance import bound, largest_error
from .align import ADVICE, BEHIND, DECOMPOSED, FOLDED, Alignment, align
from .followed import About, Graph, Session
from .layers import Alone
from .reference import Reference
from .runtime import Way
from .settings import check_settings
from .weights import check_weights

phases = logging.getLogger("densenet_convert.phases")

# Images and their sides where each layer runs alone, by the number of dimensions: odd sides, and enough of
# them behind the last pooling.
LAYERS_ON = {1: (24, 155), 2: (2, 155, 163), 3: (2, 65, 71, 67)}
DTYPES = (torch.float32, torch.float16)


def prove_graph(
    graph: Graph, network: DenseNet | Reference, chosen: Iterable[Way] | None = None
) -> ExportProof:
    """Shows that a graph computes a network's function, as far as rounding allows.

    Args:
        graph: what was exported.
        network: on the CPU, left as it was; or the same as a reference in the graph's precision.
        chosen: ways to run it; by default every provider that is there, at each level of optimisation.

    Raises:
        ParityError: a tensor is another one, or an error is beyond its bound; the first layer is named.
        ReadError: the graph's input is not this network's.
        ValueRangeError: the network overflows in the graph's precision.
    """
    every_way = list(graph.ways() if chosen is None else chosen)
    require_input(graph.input, graph.shape, network.config)
    with deterministic(torch.device("cpu")):
        dtype = _dtype_of(graph)
        phases.info("comparing %d nodes with the network", len(graph.nodes))
        reference, alignment = _align(graph, network, dtype)
        tensors = 0
        for unit in alignment.units:
            check_settings(unit)
            tensors += check_weights(graph, unit)
        phases.info("running every layer alone")
        nearest = _run_layers(graph, alignment, reference, every_way)
        phases.info("running it end to end")
        shapes = list(shapes_of(graph.shape, network.config))
        measured = [one for way in every_way for one in _run_all(graph, alignment, reference, shapes, way)]
        about = graph.about()
        return ExportProof(
            runtime=about.runtime,
            format=about.format,
            dtype=str(dtype).removeprefix("torch."),
            tensors=tensors,
            layers=len(alignment.units),
            changes=_changes(alignment),
            nearest=nearest,
            inputs=tuple(shape for shape, _ in shapes),
            measured=tuple(measured),
            environment=_environment(about),
        )


def _environment(about: About) -> dict[str, Any]:
    known = environment(torch.device("cpu"))
    return {**known, "versions": {**known["versions"], **about.versions}}


def require_input(name: str, shape: tuple[int | None, ...], config: DenseNetConfig) -> None:
    """Raises where a graph's input is not that of a network."""
    fits = len(shape) == config.spatial_dims + 2
    if not fits or shape[1] not in (None, config.in_channels):
        sides = ", ".join("DHW"[-config.spatial_dims :])
        raise ReadError(
            f"The graph's input {name!r} is {_sides(shape)}, and this network takes "
            f"[N, {config.in_channels}, {sides}]. Export it with channels first, and name the folder that it "
            "is of."
        )


def _align(graph: Graph, network: DenseNet | Reference, weights: torch.dtype) -> tuple[Reference, Alignment]:
    if isinstance(network, Reference):
        return network, align(graph, network.first, network.steps)
    reference = Reference(network, torch.float32 if graph.widens else weights, weights)
    alignment = align(graph, reference.first, reference.steps)
    if reference.dtype != weights and {FOLDED, DECOMPOSED} & _changes(alignment).keys():
        # What folding makes was rounded, and not what it is made of: its layers are as far off as in float16.
        reference = Reference(network, weights)
        alignment = align(graph, reference.first, reference.steps)
    return reference, alignment


def _sides(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('?' if side is None else str(side) for side in shape)}]"


def _dtype_of(graph: Graph) -> torch.dtype:
    """Returns the dtype of the first weights, which is that of all of them."""
    first = next((node for node in graph.nodes if node.op in ("Conv", "FusedConv")), None)
    kernel = None if first is None else graph.constant(first.inputs[1])
    found = None if kernel is None else torch.from_numpy(np.array(kernel)).dtype
    if found not in DTYPES:
        raise ReadError(
            "The graph has no convolution whose weights are float32 or float16. Export a DenseNet of one."
        )
    return found


def _run_layers(
    graph: Graph, alignment: Alignment, reference: Reference, every_way: Iterable[Way]
) -> LayerError:
    """Runs every layer alone, on several images and enough pixels: the error of few values tells little."""
    alone = Alone(graph, alignment)
    few, *usual = LAYERS_ON[reference.config.spatial_dims]
    _, channels, *sides = _with_sides(graph.shape, reference.config, 1, usual)
    images = max(2, ceil(few * prod(usual) / prod(sides)))
    batch = graph.shape[0] or images
    inputs = [reference.draw((batch, channels, *sides), seed) for seed in range(ceil(images / batch))]
    ran = dict.fromkeys(way.without_levels for way in every_way)
    return max((alone.check(reference, inputs, way) for way in ran), key=lambda one: one.share)


def _with_sides(
    shape: tuple[int | None, ...], config: DenseNetConfig, images: int, sides: Iterable[int]
) -> Shape:
    fixed = [own or side for own, side in zip(shape[2:], sides, strict=True)]
    return images, config.in_channels, *fixed


def shapes_of(shape: tuple[int | None, ...], config: DenseNetConfig) -> Iterator[tuple[Shape, int]]:
    """Yields each shape that the graph takes, and how many of them make enough logits to compare."""
    usual = INPUTS[config.spatial_dims]
    found = {_with_sides(shape, config, shape[0] or n, sides): None for _, (n, *sides) in usual}
    for one in found:
        logits = one[0] * (config.num_classes or config.num_features)
        yield one, ceil(FEWEST_LOGITS / logits)


def _run_all(
    graph: Graph, alignment: Alignment, reference: Reference, shapes: list[tuple[Shape, int]], way: Way
) -> Iterator[Measured]:
    """Yields the errors of the logits on every input; nothing where the provider is not really there."""
    session = graph.session(way)
    for shape, count in shapes if session.runs_there else ():
        inputs, own, exact = reference.logits(shape, count)
        own, exact = alignment.finish(own), alignment.finish(exact)
        found = _output(session, graph, alignment, inputs, way)
        error, limit = largest_error(found, exact), bound(largest_error(own, exact), exact, own.dtype)
        spread = exact.std(correction=0).item()
        one = Measured(f"{way}, {list(shape)}", error, largest_error(own, exact), limit, spread)
        if not one.holds:
            raise ParityError(
                f"Every layer alone is within its bound, and the output is not: its error against float64 is "
                f"{error:.3g}, and the bound is {limit:.3g} ({one.setting}).",
                where=OUTPUT,
                largest=error,
                advice="Something between the layers differs, or this level of optimisation does. "
                "Export the network again, or report it with this message.",
            )
        yield one


def _output(session: Session, graph: Graph, alignment: Alignment, inputs: list[Tensor], way: Way) -> Tensor:
    try:
        return torch.cat([session.run({graph.input: x})[alignment.output] for x in inputs])
    except Exception as error:  # the runtime's own have no common kind
        if is_out_of_memory(error):
            raise
        reason = quoted(" ".join(str(error).split()))
        raise ParityError(
            f"Every layer runs alone, and the whole does not on {list(inputs[0].shape)} ({way}): {reason}.",
            where=OUTPUT,
            largest=float("inf"),
            advice=ADVICE,
        ) from error


def _changes(alignment: Alignment) -> dict[str, tuple[str, ...]]:
    changes: dict[str, tuple[str, ...]] = {}
    for unit in alignment.units:
        for change in unit.changes:
            changes[change] = (*changes.get(change, ()), unit.layer)
    if alignment.behind is not None:
        changes[BEHIND] = (alignment.behind.op,)
    return changes
