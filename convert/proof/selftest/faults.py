"""Faults of the table and of values, each injected where it would happen, and what a fault is.

A fault of the table or of a transform leaves a checkpoint that loads strictly and is
another function.  Each is drawn from a seed, and says by what names it is located: the
tensors and layers that it touches.

A fault that changes nothing, such as an exchange of two tensors that are equal to the
bit, is marked, and never counted as one that was missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import Any

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNet

from ...layout import Drop, Layout, Reading, Rule
from ...layouts.explain import explain
from ...records import Loaded, Renamed
from ...tensors import same_bits

TABLE, TENSORS, NETWORK, IN_FILES, IN_GRAPH = "table", "tensors", "network", "files", "graph"

# The name of an exchange of two tensors of different layers.
ELSEWHERE = "two tensors of one shape exchanged"


@dataclass(frozen=True)
class Fault:
    """One injection.

    Attributes:
        name: the kind of fault, under which it is counted.
        place: ``TABLE``, ``TENSORS``, ``NETWORK``, ``IN_FILES`` or ``IN_GRAPH``: what ``inject`` takes.
        inject: takes the reading and returns a faulty layout; or the canonical tensors, and returns those
            that it replaces; or a copy of the network, or of the folder, which it changes; or an exported
            model, and returns a faulty copy.
        where: names of tensors, layers, files or their fields, any of which locates it.
        nothing: whether it changes nothing.
    """

    name: str
    place: str
    inject: Callable[[Any], Any]
    where: frozenset[str]
    nothing: bool = False


@dataclass(frozen=True)
class Draw:
    """Draws where faults go, and with which values.

    Attributes:
        random: what is drawn from.
        sites: of a kind of fault that fits at many places, so many are drawn.
    """

    random: Random
    sites: int

    def places(self, items: Sequence[Any], most: int | None = None) -> list[Any]:
        """Draws some of the places that a kind of fault fits at; ``sites`` of them by default."""
        return self.random.sample(list(items), min(self.sites if most is None else most, len(items)))


def at(*names: str) -> frozenset[str]:
    """The tensors and their layers."""
    return frozenset({*names, *(name.rpartition(".")[0] for name in names)})


# The table of renames.


def pairs_of_one_shape(renamed: Renamed) -> Iterator[tuple[str, str]]:
    """Yields the canonical names of every two tensors of one shape and dtype that the source has."""
    kinds: dict[tuple[Any, ...], list[str]] = {}
    for trace in renamed.trail:
        if trace.source_name:
            tensor = renamed.tensors[trace.name]
            kinds.setdefault((tuple(tensor.shape), tensor.dtype), []).append(trace.name)
    for names in kinds.values():
        yield from combinations(names, 2)


def exchanges(clean: Loaded, draw: Draw) -> Iterator[Fault]:
    """Yields tables in which two tensors are exchanged, or two batch norms.

    These are drawn, for every check to judge; names judge all of them (``exchanges.py``).
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for a, b in pairs_of_one_shape(clean.renamed):
        kinds.setdefault(_kind_of_exchange(a, b), []).append((a, b))
    for kind, pairs in kinds.items():
        for a, b in draw.places(pairs):
            yield exchange(kind, {a: b, b: a}, clean)
    means = [pair for pair in kinds.get(ELSEWHERE, []) if all(n.endswith(".running_mean") for n in pair)]
    for a, b in draw.places(means):
        norms = [name.rpartition(".")[0] for name in (a, b)]
        fields = [name.removeprefix(norms[0]) for name in clean.renamed.source_names if at(name) & {norms[0]}]
        fields = [field for field in fields if clean.renamed.source_names[norms[0] + field]]
        swap = {x + field: y + field for field in fields for x, y in (norms, norms[::-1])}
        yield exchange("two batch norms exchanged", swap, clean)


def _kind_of_exchange(a: str, b: str) -> str:
    if a.rpartition(".")[0] == b.rpartition(".")[0]:
        return "two fields of a batch norm exchanged"
    if _dense_layer(a) and _dense_layer(a) == _dense_layer(b):
        return "two tensors of a dense layer exchanged"
    return ELSEWHERE


def _dense_layer(name: str) -> str:
    match = re.match(r"features\.denseblock\d+\.denselayer\d+\.", name)
    return match[0] if match else ""


def exchange(name: str, targets: Mapping[str, str], clean: Loaded) -> Fault:
    """The table with other targets: what should become the key becomes the value."""
    sources = {target: source for target, source in clean.renamed.source_names.items() if source}
    given = {sources[right]: wrong for right, wrong in targets.items()}
    tensors = clean.renamed.tensors
    nothing = all(same_bits(tensors[a], tensors[b]) for a, b in targets.items())
    return Fault(name, TABLE, lambda reading: with_targets(reading, given), at(*targets, *given), nothing)


def with_targets(reading: Reading, given: Mapping[str, str]) -> Layout:
    """Returns the layout with literal rules for some source names, which its own rules no longer match."""
    axes = explain(reading, given, expect_drops=False).explanation.axes
    literal = [
        Rule(re.escape(str(reading.own_name(name))), target, axes=axes.get(name))
        for name, target in given.items()
    ]
    return replace(reading.layout, rules=(*_but_not(reading, given), *literal))


def _but_not(reading: Reading, names: Iterable[str]) -> tuple[Rule, ...]:
    """Returns the layout's rules, which no longer match these source names."""
    own = [str(reading.own_name(name)) for name in names]
    others = "|".join(map(re.escape, own))
    return tuple(
        replace(rule, pattern=rf"(?!(?:{others})\Z)(?:{rule.pattern})")
        if any(re.fullmatch(rule.pattern, name, re.ASCII) for name in own)
        else rule
        for rule in reading.layout.rules
    )


def accounting(clean: Loaded, draw: Draw) -> Iterator[Fault]:
    """Yields tables that forget, drop or double a name."""
    sources = {source: target for target, source in clean.renamed.source_names.items() if source}
    for source in draw.places(list(sources)):
        where = at(source, sources[source])

        def forgotten(reading: Reading, source: str = source) -> Layout:
            return replace(reading.layout, rules=_but_not(reading, [source]))

        def dropped(reading: Reading, source: str = source) -> Layout:
            drop = Drop(re.escape(str(reading.own_name(source))), "a fault")
            return replace(forgotten(reading, source), drops=(*reading.layout.drops, drop))

        yield Fault("a name that no rule takes", TABLE, forgotten, where)
        nothing = source.endswith("num_batches_tracked") and not clean.renamed.tensors[sources[source]].any()
        yield Fault("a name dropped", TABLE, dropped, where, nothing)
    for one, other in draw.places(list(combinations(draw.places(list(sources)), 2))):

        def doubled(reading: Reading, one: str = one, other: str = other) -> Layout:
            return with_targets(reading, {one: sources[other]})

        yield Fault("two names to one target", TABLE, doubled, at(one, other, sources[one], sources[other]))


# Faults of a table's transforms, and of values on the way.


def _replacing(name: str, changed: Mapping[str, Tensor], clean: Loaded) -> Fault:
    nothing = all(same_bits(tensor, clean.renamed.tensors[n]) for n, tensor in changed.items())
    return Fault(name, TENSORS, lambda _: changed, at(*changed), nothing)


def transforms(clean: Loaded, draw: Draw) -> Iterator[Fault]:
    """Yields axes permuted, colours exchanged, and rows of the classifier in another order."""
    tensors = clean.renamed.tensors
    for name, tensor in draw.places([i for i in tensors.items() if i[1].ndim > 2]):
        *others, before, last = range(tensor.ndim)
        for axes in ((*others, last, before), (1, 0, *range(2, tensor.ndim))):
            turned = tensor.permute(axes)
            if turned.shape == tensor.shape and (axes[0] or tensor.shape[2] > 1):
                yield _replacing("axes permuted", {name: turned.contiguous()}, clean)
    stem = "features.conv0.weight"
    yield _replacing("RGB and BGR exchanged", {stem: tensors[stem].flip(1)}, clean)
    weight, bias = "classifier.weight", "classifier.bias"
    if weight not in tensors:
        return
    classes = len(tensors[bias])
    for _ in range(draw.sites // 2):
        order = torch.tensor(draw.random.sample(range(classes), classes))
        one, other = draw.random.choices(range(classes), k=2)
        two = torch.arange(classes)
        two[[one, other]] = two[[other, one]]
        for rows in (order, two):
            both = {weight: tensors[weight][rows], bias: tensors[bias][rows]}
            yield _replacing("classifier rows permuted", both, clean)


def values(clean: Loaded, draw: Draw) -> Iterator[Fault]:
    """Yields values that changed on the way: rounded, flipped, or left as they were drawn."""
    tensors = {name: t for name, t in clean.renamed.tensors.items() if t.is_floating_point()}
    initial = DenseNet(clean.config).state_dict()
    for name, tensor in draw.places(list(tensors.items())):
        i = draw.random.randrange(tensor.numel())
        yield _replacing("an element moved by 1 ulp", {name: _nudged(tensor, i)}, clean)
        yield _replacing("a bit flipped", {name: _flipped(tensor, i, draw.random)}, clean)
        yield _replacing("a tensor left at its initial value", {name: initial[name].to(tensor.dtype)}, clean)
        for dtype in (torch.float16, torch.bfloat16):
            label = f"a round trip through {str(dtype).removeprefix('torch.')}"
            yield _replacing(label, {name: tensor.to(dtype).to(tensor.dtype)}, clean)
    for dtype in (torch.float16, torch.bfloat16):
        label = f"all through {str(dtype).removeprefix('torch.')} and back"
        yield _replacing(label, {name: t.to(dtype).to(t.dtype) for name, t in tensors.items()}, clean)
    counters = [name for name in clean.renamed.tensors if name.endswith("num_batches_tracked")]
    for name in draw.places(counters):
        yield _replacing("wrong num_batches_tracked", {name: clean.renamed.tensors[name] + 1}, clean)


def _nudged(tensor: Tensor, i: int) -> Tensor:
    flat = tensor.flatten().clone()
    flat[i] = torch.nextafter(flat[i], torch.full_like(flat[i], torch.inf))
    return flat.view(tensor.shape)


def _flipped(tensor: Tensor, i: int, random: Random) -> Tensor:
    octets = tensor.flatten().clone().view(torch.uint8)
    size = tensor.element_size()
    # A bit of the fraction's lowest byte: a flipped exponent is large, and no challenge.
    octets[i * size] ^= 1 << random.randrange(8)
    return octets.view(tensor.dtype).view(tensor.shape)
