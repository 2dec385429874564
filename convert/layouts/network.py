"""Which network is this?  One answer for what converts, inspects, skips and tests itself.

Where an attempt fails, others are tried that the user could ask for.  Only what gets through is advised:
a whole call on a line of its own, which the command line says as a command.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import Field, fields, replace
from typing import Any, NamedTuple

from ..errors import ArchitectureError, LayoutError
from ..layout import Reading
from ..records import ORIGIN_MEMORY, Identified, Options
from . import known_layouts
from .attempt import identify_once
from .declared_layers import XRAY
from .identify import whole_networks
from .prepare import Held, Prepared, StateDict, prepare
from .remedies import remedies
from .strangers import refuse_strangers
from .surroundings import Surroundings, UnclearError
from .tables.monai import MONAI_0_3

# Options that say nothing of the network, or of what is written of it.
UNSAID = ("device", "force", "golden")
CALL = "dc.convert("


class Attempt(NamedTuple):
    """The result of trying a command before it is advised.

    Attributes:
        options: its own.
        network: what it would convert.
    """

    options: Options
    network: Identified


def identify_network(
    held: Held, options: Options, norm_eps: float | None = None, *, source: str | None = "FILE"
) -> Identified:
    """Returns which network a source holds.

    Args:
        held: the source's names, shapes and declared layers.
        options: what the user says of them.
        norm_eps: the epsilon that is known from beside the source, where it declares no layers.
        source: what the user calls it, for the calls that a message advises; None for what is in memory.

    Raises:
        LayoutError: no layout explains its names, more than one does, or they leave open which function it
            is; the message ends with the calls that get through, one a line.
        ArchitectureError: the tensors, or the declared layers, are those of another network; likewise.
    """
    prepared = prepare(held)
    try:
        return identify_once(prepared, options, norm_eps)
    except LayoutError as error:
        raise LayoutError(_advised(error, prepared, options, norm_eps, source)) from error
    except ArchitectureError as error:
        raise ArchitectureError(_advised(error, prepared, options, norm_eps, source)) from error


def identify_tensors(held: Held, norm_eps: float | None = None, layout: str | None = None) -> Identified:
    """Returns which network a source's tensors are of, whatever they leave open of its function.

    Args:
        held, norm_eps: as ``identify_network`` takes them.
        layout: that it must be in.

    Raises:
        LayoutError: no layout explains its names, even if all but one network in it is left out.
        ArchitectureError: the tensors are those of another network.
    """
    prepared = prepare(held)
    options = Options(reference=ORIGIN_MEMORY, layout=layout)
    try:
        return identify_once(prepared, options, norm_eps)
    except (LayoutError, ArchitectureError):
        networks = whole_networks(prepared.tensors, known_layouts())
        if len(networks) != 1:
            raise
        ways = _ways_to(networks[0], networks, prepared, options)
        if not (found := _first_through(ways, prepared, norm_eps, networks)):
            raise
        return found[0].network


def _advised(
    error: LayoutError | ArchitectureError,
    held: Prepared,
    options: Options,
    norm_eps: float | None,
    source: str | None,
) -> str:
    """Returns the error's message, with what gets through, or why nothing does.

    Raises:
        ArchitectureError: the tensors are for certain those of a network that can't be converted.
    """
    for remedy in remedies(held.source, source or ""):
        ended = None if remedy.tensors is None else prepare(StateDict(held.format, remedy.tensors))
        if ended is None or _first_through([options], ended, norm_eps):
            return remedy.text
    try:
        networks = whole_networks(held.tensors, known_layouts())
    except LayoutError:  # there are too many to try
        return str(error)
    if found := _under_other_names(held, options, norm_eps, source, bool(networks)):
        return found
    through = _first_through(_other_settings(error, held, options), held, norm_eps, networks)
    refusals: list[str] = []
    asked = None if options.only is None else options.only.rstrip("./")
    for network in [] if through else networks:
        if asked in (None, network.prefix.rstrip("./")) or len(networks) == 1:
            ways = [way for way in _ways_to(network, networks, held, options) if way != options]
            through += _first_through(ways, held, norm_eps, networks, refusals)
    said = [str(error)]
    if refusals and refusals[0] != str(error) and (len(networks) == 1 or not through):
        said.append(refusals[0])
    if not networks and isinstance(error, LayoutError):
        said.append("Is this a DenseNet, and the whole of it?")
    calls = [line for one in through if (line := call_for(source, _fitting(one)))]
    if calls:
        said.append(_introduction(through))
    return "\n".join([" ".join(said), *calls])


def _under_other_names(
    held: Prepared, options: Options, norm_eps: float | None, source: str | None, holds_densenet: bool
) -> str | None:
    """Returns the message on a network under names of MONAI that are torchvision's as well; None for others.

    Raises:
        ArchitectureError: the tensors are for certain those of a network that can't be converted.
    """
    named = options.layout is not None
    try:
        refuse_strangers(held.tensors, holds_densenet=holds_densenet, layout_is_named=named)
    except ArchitectureError as error:
        through = _first_through([] if named else [replace(options, layout=MONAI_0_3.name)], held, norm_eps)
        if not through or (call := call_for(source, through[0].options)) is None:
            raise
        why = "MONAI 0.1 to 0.3 called all but the head so. If one of these wrote it, this converts it:"
        return f"{error} {why}\n{call}"
    return None


def _fitting(one: Attempt) -> Options:
    """Returns the options of an attempt without those that a network without a head can't have."""
    if one.network.config.num_classes:
        return one.options
    return replace(one.options, labels=None, multi_label=False)


def _other_settings(error: Exception, held: Held, options: Options) -> Iterator[Options]:
    """Yields what would be asked for where the source declares layers that another setting has."""
    if isinstance(error, ArchitectureError) and held.layers:
        yield replace(options, layout=XRAY)
        if options.final_relu is None:
            yield replace(options, final_relu=False)


def _ways_to(
    network: Reading, networks: Sequence[Reading], held: Held, options: Options
) -> Iterator[Options]:
    only = replace(options, only=network.prefix, prefix=None)
    around = Surroundings(held.tensors, network, _width_of(network, held), networks)
    if options.head is None:
        if layer := around.single_layer():
            yield replace(options, head=layer, only=None)
        if len(around.candidates) == 1:
            (head,) = around.candidates
            # One that is called as a head is found without being named.
            yield only if around.is_called_as_head(head.layer) else replace(only, head=head.layer)
    yield only
    features = network.layout.features
    if not network.inside and network.layout.first_conv.startswith(features):
        yield replace(only, only=f"{network.prefix}{features}", head=None)
    else:
        yield replace(only, head="")


def _width_of(network: Reading, held: Held) -> int:
    """Returns the width of the features, as their last norm has it."""
    targets = network.explanation.targets.items()
    last = next(name for name, ours in targets if ours == "features.norm5.weight")
    return int(held.tensors[last].shape[0])


def _first_through(
    ways: Iterable[Options],
    held: Held,
    norm_eps: float | None,
    networks: Sequence[Reading] | None = None,
    refusals: list[str] | None = None,
) -> list[Attempt]:
    """Returns the first way that gets through, if there is one; adds what else is unclear to ``refusals``."""
    for way in ways:
        try:
            return [Attempt(way, identify_once(held, way, norm_eps, networks))]
        except UnclearError as error:
            if refusals is not None:
                refusals.append(str(error))
        except (LayoutError, ArchitectureError) as error:
            if refusals is None:  # these are the other settings of a way
                continue
            if found := _first_through(_other_settings(error, held, way), held, norm_eps, networks):
                return found
    return []


def _introduction(through: Sequence[Attempt]) -> str:
    """Returns the sentence that stands before the calls."""
    if len(through) > 1:
        return f"It holds {len(through)} DenseNets, and each of these converts one:"
    (attempt,) = through
    if not attempt.network.config.num_classes:
        return "This converts the features alone:"
    if attempt.options.only is not None:
        return "This converts the DenseNet in it, and leaves out the rest:"
    return "This converts it:"


def call_for(source: str | None, options: Options) -> str | None:
    """Returns the whole call; None if a stranger's name in it can't be printed."""
    said = {one.name: _plain(getattr(options, one.name)) for one in fields(options) if _is_said(options, one)}
    place = "SOURCE, OUTPUT" if source is None else repr(source)
    call = f"{CALL}{', '.join([place, *(f'{name}={value!r}' for name, value in said.items())])})"
    return call if "".join(map(str, (source, *said.values()))).isprintable() else None


def _is_said(options: Options, one: Field[Any]) -> bool:
    value = getattr(options, one.name)
    return one.name not in UNSAID and value not in (one.default, ORIGIN_MEMORY)


def _plain(value: Any) -> Any:
    """Returns a value as a call states it: a path as text."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
