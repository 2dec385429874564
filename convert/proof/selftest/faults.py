"""A catalogue of faults, each injected where it would happen.

A fault of the table or of a transform leaves a checkpoint that loads strictly and is
another function; a fault of the network leaves every tensor as it was; a fault of the files
comes after the proof.  Each is drawn from a seed, and says by what names it is located: the
tensors and layers that it touches, or the first layer that reads what they compute.

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
import torch.nn.functional as F
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet

from ...layout import Drop, Layout, Reading, Rule
from ...layouts.explain import explain
from ...records import Loaded
from ...tensors import same_bits

TABLE, TENSORS, NETWORK, IN_FILES = "table", "tensors", "network", "files"

# Of a kind of fault that fits at many places of a network, so many are drawn.
SITES = 24


@dataclass(frozen=True)
class Fault:
    """One injection.

    Attributes:
        name: the kind of fault, under which it is counted.
        place: ``TABLE``, ``TENSORS``, ``NETWORK`` or ``IN_FILES``: what ``inject`` takes.
        inject: takes the reading and returns a faulty layout; or the canonical tensors, and returns those that
            it replaces; or a copy of the network, or of the folder, which it changes.
        where: names of tensors, layers, files or their fields, any of which locates it.
        nothing: whether it changes nothing.
    """

    name: str
    place: str
    inject: Callable[[Any], Any]
    where: frozenset[str]
    nothing: bool = False


def all_faults(clean: Loaded, pairs: int | None, seed: int = 0) -> list[Fault]:
    """The catalogue for one network.

    Args:
        clean: a sound conversion, into which the faults go.
        pairs: number of pairs of one shape to exchange beside those inside a layer; None for all of them.
        seed: what places and values are drawn from.
    """
    random = Random(seed)
    generators = (_exchanges(clean, pairs, random), _accounting(clean, random))
    transforms = (_transforms(clean, random), _values(clean, random))
    return [fault for found in (*generators, *transforms, _network(clean, random)) for fault in found]


def _some(items: Sequence[Any], random: Random, most: int | None = None) -> list[Any]:
    return random.sample(list(items), min(SITES if most is None else most, len(items)))


def _at(*names: str) -> frozenset[str]:
    """The tensors and their layers."""
    return frozenset({*names, *(name.rpartition(".")[0] for name in names)})


# The table of renames.


def _exchanges(clean: Loaded, pairs: int | None, random: Random) -> Iterator[Fault]:
    renamed = clean.renamed
    named = [trace.name for trace in renamed.trail if trace.source_name]
    shapes = {name: tuple(renamed.tensors[name].shape) for name in named}
    alike = [(a, b) for a, b in combinations(named, 2) if shapes[a] == shapes[b]]
    elsewhere = []
    for a, b in alike:
        if a.rpartition(".")[0] == b.rpartition(".")[0]:
            yield _exchange("two fields of a batch norm exchanged", {a: b, b: a}, clean)
        elif _dense_layer(a) and _dense_layer(a) == _dense_layer(b):
            yield _exchange("two tensors of a dense layer exchanged", {a: b, b: a}, clean)
        else:
            elsewhere.append((a, b))
    for a, b in elsewhere if pairs is None else _some(elsewhere, random, pairs):
        yield _exchange("two tensors of one shape exchanged", {a: b, b: a}, clean)
    for a, b in _some([pair for pair in elsewhere if pair[0].endswith(".running_mean")], random):
        fields = [
            f".{name.rpartition('.')[2]}" for name in named if name.startswith(a.rpartition(".")[0] + ".")
        ]
        norms = [name.rpartition(".")[0] for name in (a, b)]
        if b.endswith(".running_mean"):
            swap = {x + f: y + f for f in fields for x, y in (norms, norms[::-1])}
            yield _exchange("two batch norms exchanged", swap, clean)


def _dense_layer(name: str) -> str:
    match = re.match(r"features\.denseblock\d+\.denselayer\d+\.", name)
    return match[0] if match else ""


def _exchange(name: str, targets: Mapping[str, str], clean: Loaded) -> Fault:
    """The table with other targets: what should become the key becomes the value."""
    sources = {target: source for target, source in clean.renamed.source_names.items() if source}
    given = {sources[right]: wrong for right, wrong in targets.items()}
    tensors = clean.renamed.tensors
    nothing = all(same_bits(tensors[a], tensors[b]) for a, b in targets.items())
    return Fault(name, TABLE, lambda reading: _with_targets(reading, given), _at(*targets, *given), nothing)


def _with_targets(reading: Reading, given: Mapping[str, str]) -> Layout:
    """Returns the layout with literal rules for some source names, which its own rules no longer match."""
    axes = explain(reading, given, whole=False).explanation.axes
    literal = [
        Rule(re.escape(str(reading.own_name(name))), target, axes.get(name)) for name, target in given.items()
    ]
    return replace(reading.layout, rules=(*_but_not(reading, given), *literal))


def _but_not(reading: Reading, names: Iterable[str]) -> tuple[Rule, ...]:
    """Returns the layout's rules, which no longer match these source names."""
    others = "|".join(re.escape(str(reading.own_name(name))) for name in names)
    rules = reading.layout.rules
    return tuple(replace(rule, pattern=rf"(?!(?:{others})\Z)(?:{rule.pattern})") for rule in rules)


def _accounting(clean: Loaded, random: Random) -> Iterator[Fault]:
    sources = {source: target for target, source in clean.renamed.source_names.items() if source}
    for source in _some(list(sources), random):
        where = _at(source, sources[source])

        def forgotten(reading: Reading, source: str = source) -> Layout:
            return replace(reading.layout, rules=_but_not(reading, [source]))

        def dropped(reading: Reading, source: str = source) -> Layout:
            drop = Drop(re.escape(str(reading.own_name(source))), "a fault")
            return replace(forgotten(reading, source), drops=(*reading.layout.drops, drop))

        yield Fault("a name that no rule takes", TABLE, forgotten, where)
        nothing = source.endswith("num_batches_tracked") and not clean.renamed.tensors[sources[source]].any()
        yield Fault("a name dropped", TABLE, dropped, where, nothing)
    for one, other in _some(list(combinations(_some(list(sources), random), 2)), random):

        def doubled(reading: Reading, one: str = one, other: str = other) -> Layout:
            return _with_targets(reading, {one: sources[other]})

        yield Fault("two names to one target", TABLE, doubled, _at(one, other, sources[one], sources[other]))


# What a table's transforms do, and what happens to values on the way.


def _replacing(name: str, changed: Mapping[str, Tensor], clean: Loaded) -> Fault:
    nothing = all(same_bits(tensor, clean.renamed.tensors[n]) for n, tensor in changed.items())
    return Fault(name, TENSORS, lambda _: changed, _at(*changed), nothing)


def _transforms(clean: Loaded, random: Random) -> Iterator[Fault]:
    tensors = clean.renamed.tensors
    for name, tensor in _some([i for i in tensors.items() if i[1].ndim == 4], random, 2 * SITES):
        for axes in ((0, 1, 3, 2), (1, 0, 2, 3)):
            turned = tensor.permute(axes)
            if turned.shape == tensor.shape and (axes[0] or tensor.shape[2] > 1):
                yield _replacing("axes permuted", {name: turned.contiguous()}, clean)
    stem = "features.conv0.weight"
    yield _replacing("RGB and BGR exchanged", {stem: tensors[stem].flip(1)}, clean)
    weight, bias = "classifier.weight", "classifier.bias"
    if weight not in tensors:
        return
    classes = len(tensors[bias])
    for _ in range(SITES // 2):
        order = torch.tensor(random.sample(range(classes), classes))
        one, other = random.choices(range(classes), k=2)
        two = torch.arange(classes)
        two[[one, other]] = two[[other, one]]
        for rows in (order, two):
            both = {weight: tensors[weight][rows], bias: tensors[bias][rows]}
            yield _replacing("classifier rows permuted", both, clean)


def _values(clean: Loaded, random: Random) -> Iterator[Fault]:
    tensors = {name: t for name, t in clean.renamed.tensors.items() if t.is_floating_point()}
    initial = DenseNet(clean.config).state_dict()
    for name, tensor in _some(list(tensors.items()), random, 4 * SITES):
        i = random.randrange(tensor.numel())
        yield _replacing("an element moved by 1 ulp", {name: _nudged(tensor, i)}, clean)
        yield _replacing("a bit flipped", {name: _flipped(tensor, i, random)}, clean)
        yield _replacing("a tensor left at its initial value", {name: initial[name].to(tensor.dtype)}, clean)
        for dtype in (torch.float16, torch.bfloat16):
            label = f"a round trip through {str(dtype).removeprefix('torch.')}"
            yield _replacing(label, {name: tensor.to(dtype).to(tensor.dtype)}, clean)
    for dtype in (torch.float16, torch.bfloat16):
        label = f"all through {str(dtype).removeprefix('torch.')} and back"
        yield _replacing(label, {name: t.to(dtype).to(t.dtype) for name, t in tensors.items()}, clean)
    counters = [name for name in clean.renamed.tensors if name.endswith("num_batches_tracked")]
    for name in _some(counters, random):
        yield _replacing("wrong num_batches_tracked", {name: clean.renamed.tensors[name] + 1}, clean)


def _nudged(tensor: Tensor, i: int) -> Tensor:
    flat = tensor.flatten().clone()
    flat[i] = torch.nextafter(flat[i], torch.full_like(flat[i], torch.inf))
    return flat.view(tensor.shape)


def _flipped(tensor: Tensor, i: int, random: Random) -> Tensor:
    octets = tensor.flatten().clone().view(torch.uint8)
    size = tensor.element_size()
    # Of the fraction's lowest byte: a flipped exponent is large, and no challenge.
    octets[i * size] ^= 1 << random.randrange(8)
    return octets.view(tensor.dtype).view(tensor.shape)


# The network.


def _network(clean: Loaded, random: Random) -> Iterator[Fault]:
    names = {name: module for name, module in clean.model.named_modules() if name}
    norms = [name for name, module in names.items() if isinstance(module, nn.BatchNorm2d)]
    # Keras' in place of torchvision's, or the other way round.
    other = "1e-5" if clean.config.norm_eps == 1.001e-5 else "1.001e-5"
    yield _changing(f"epsilon of {other}", _set_all(norms, "eps", float(other)), *norms)
    for name in _some(norms, random):
        yield _changing("a batch norm left in training", _set_all([name], "training", True), name)
        yield _changing("another momentum", _set_all([name], "momentum", 0.2), name, f"{name}.running_mean")
    yield from _pooling(names)
    yield from _padding(names, random)
    yield from _activations(names, random)
    yield from _blocks(clean, random)


def _changing(name: str, change: Callable[[DenseNet], None], *where: str, nothing: bool = False) -> Fault:
    return Fault(name, NETWORK, change, frozenset(where), nothing)


def _set_all(names: Sequence[str], field: str, value: object) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        for name in names:
            setattr(model.get_submodule(name), field, value)

    return change


def _put(name: str, module: Callable[[nn.Module], nn.Module]) -> Callable[[DenseNet], None]:
    """Puts another module in the place of one."""

    def change(model: DenseNet) -> None:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module(model.get_submodule(name)))

    return change


def _pooling(names: Mapping[str, nn.Module]) -> Iterator[Fault]:
    for name, module in names.items():
        if isinstance(module, nn.AvgPool2d):
            yield _changing("max for average pooling", _put(name, lambda _: nn.MaxPool2d(2, 2)), name)
        if isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
            yield _changing("ceil_mode", _set_all([name], "ceil_mode", True), name)


def _padding(names: Mapping[str, nn.Module], random: Random) -> Iterator[Fault]:
    padded = [n for n, m in names.items() if isinstance(m, nn.Conv2d) and m.padding != (0, 0)]
    for name in ["features.conv0", *_some([n for n in padded if n != "features.conv0"], random)]:

        def change(model: DenseNet, name: str = name) -> None:
            layer: Any = model.get_submodule(name)
            width = layer.padding[0]
            layer.padding = (0, 0)
            sides = (width - 1, width + 1) * 2
            layer.register_forward_pre_hook(lambda _, inputs: (F.pad(inputs[0], sides),))

        yield _changing("asymmetric padding", change, name)


def _activations(names: Mapping[str, nn.Module], random: Random) -> Iterator[Fault]:
    relus = [name for name, module in names.items() if isinstance(module, nn.ReLU)]
    for name in _some(relus, random):
        reader, norm = _around(name)
        yield _changing("a ReLU missing", _put(name, lambda _: nn.Identity()), reader)

        def moved(model: DenseNet, name: str = name, norm: str = norm) -> None:
            _put(name, lambda _: nn.Identity())(model)
            model.get_submodule(norm).register_forward_pre_hook(lambda _, inputs: (inputs[0].relu(),))

        yield _changing("a ReLU moved before its norm", moved, norm, reader)

    def last(model: DenseNet) -> None:
        def forward(x: Tensor) -> Any:
            return model.classifier(F.adaptive_avg_pool2d(model.features(x), 1).flatten(1))

        model.forward = forward  # type: ignore[method-assign]

    yield _changing("a ReLU missing", last, "classifier", "the output")


def _around(relu: str) -> tuple[str, str]:
    """The layer that reads a ReLU's output, and the norm before it."""
    parent, _, name = relu.rpartition(".")
    number = name.removeprefix("relu")
    if parent == "features":
        return "features.pool0", "features.norm0"
    return f"{parent}.conv{number}", f"{parent}.norm{number}"


def _blocks(clean: Loaded, random: Random) -> Iterator[Fault]:
    for block, layers in enumerate(clean.config.block_config, start=1):
        name = f"features.denseblock{block}"
        after = _reader(clean, block, layers)
        yield _changing("concatenation reversed", _reversed_block(name), after)
        for layer in _some(range(1, layers + 1), random, SITES // len(clean.config.block_config) or 1):
            path, reader = f"{name}.denselayer{layer}", _reader(clean, block, layer)
            if layer > 1:
                yield _changing("concatenation reversed", _reversed_layer(path), f"{path}.norm1")
            yield _changing("dropout left in training", _dropout(path, 0.2, training=True), reader)
            yield _changing("dropout added", _dropout(path, 0.2, training=False), reader)
            yield _changing(
                "dropout left in training", _dropout(path, 0.0, training=True), reader, nothing=True
            )


def _reader(clean: Loaded, block: int, layer: int) -> str:
    """The first layer that reads the output of a dense layer."""
    if layer < clean.config.block_config[block - 1]:
        return f"features.denseblock{block}.denselayer{layer + 1}.norm1"
    last = block == len(clean.config.block_config)
    return "features.norm5" if last else f"features.transition{block}.norm"


def _reversed_block(name: str) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        block = model.get_submodule(name)

        def forward(x: Tensor) -> Tensor:
            features = [x]
            for layer in block.children():
                features.append(layer(features))
            return torch.cat(features[::-1], 1)

        block.forward = forward

    return change


def _reversed_layer(name: str) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        layer = model.get_submodule(name)
        forward = layer.forward
        layer.forward = lambda features: forward(features[::-1])

    return change


def _dropout(name: str, rate: float, *, training: bool) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        layer: Any = model.get_submodule(name)
        layer.drop_rate, layer.training = rate, training

    return change
