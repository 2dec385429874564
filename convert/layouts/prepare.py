"""Plans what is rewritten between reading and layout, by names, shapes and dtypes alone.

A rewrite is a named step that changes how a tensor is written and no output, and rounds no weight: what it
takes and what it gives is in the receipt with digests.  ``rewrite.py`` carries the steps out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple, Protocol

from ..formats.modules import Layer
from ..layout import HEAD, Reading
from ..records import Rewrite
from .no_output import find_dropped

COUNTER = "num_batches_tracked"
# The steps, as receipts call them.
ROUNDED, MASKED, SCALED = "count-as-integer", "weight-times-mask", "scale-as-norm"
RESHAPED, ZEROED = "convolution-as-linear", "bias-of-zeros"
# torch.nn.utils.prune and torch.ao.pruning: what is masked, its mask, and what the product is called.
MASKS = (
    (re.compile(r"(.+)_orig", re.ASCII), r"\1_mask", r"\1"),
    (
        re.compile(r"(.+\.)?parametrizations\.(\w+)\.original", re.ASCII),
        r"\1parametrizations.\2.0.mask",
        r"\1\2",
    ),
)
# A layer of Caffe and of early ports of it holds what a batch norm's own weight and bias are elsewhere.
SCALE, NORM = "_scale", "_bn"
SCALE_FIELDS = ("gamma", "beta", "weight", "bias")


class Form(NamedTuple):
    """The shape and dtype of a tensor, without its values."""

    shape: tuple[int, ...]
    dtype: str


class Held(Protocol):
    """The content of a source: a ``Checkpoint``, or the content of a file that was not copied."""

    @property
    def format(self) -> str:
        """How the bytes were turned into tensors."""

    @property
    def tensors(self) -> Mapping[str, Any]:
        """The tensors, each with a ``shape`` and a ``dtype``, under the source's names."""

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The layers that the source declares; empty for a state dict."""


class StateDict(NamedTuple):
    """The content of a source that declares no layers."""

    format: str
    tensors: Mapping[str, Any]
    layers: Mapping[str, Layer] = {}


@dataclass(frozen=True)
class Prepared:
    """The content of a source, as a layout sees it.

    Attributes:
        format, layers: the source's own.
        tensors: without what is left out by a rule, and rewritten.
        rewrites: the steps that lead there, in their order.
        dropped: why each name that is left out by a rule changes no output.
        source: the forms of all tensors of the source.
    """

    format: str
    layers: Mapping[str, Layer]
    tensors: Mapping[str, Any]
    rewrites: tuple[Rewrite, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)


def prepare(held: Held) -> Prepared:
    """Returns what a source holds once every step was taken that needs no layout."""
    if isinstance(held, Prepared):
        return held
    dropped = find_dropped(held.tensors)
    tensors = {name: tensor for name, tensor in held.tensors.items() if name not in dropped}
    steps = (*_rounded(tensors), *_masked(tensors), *_scaled(tensors))
    return Prepared(held.format, held.layers, _applied(steps, tensors), steps, dropped, held.tensors)


def prepare_head(prepared: Prepared, reading: Reading) -> tuple[Prepared, Reading]:
    """Returns both with a head that is a linear layer with a bias.

    Args:
        prepared: what ``prepare`` gives.
        reading: of its names.
    """
    sources = {ours: name for name, ours in reading.explanation.targets.items()}
    weight, norm = sources.get(f"{HEAD}.weight"), sources.get("features.norm5.weight")
    steps: list[Rewrite] = []
    targets = dict(reading.explanation.targets)
    if weight is not None and norm is not None:
        if _is_convolution(weight, prepared.tensors[weight].shape, prepared.tensors[norm].shape):
            steps.append(Rewrite(RESHAPED, (weight,), weight))
        if f"{HEAD}.bias" not in sources:
            bias = f"{weight.rpartition(reading.layout.separator)[0]}{reading.layout.separator}bias"
            steps.append(Rewrite(ZEROED, (), bias, weight))
            targets[bias] = f"{HEAD}.bias"
    tensors = _applied(steps, prepared.tensors)
    found = replace(reading.explanation, targets=targets)
    return (
        replace(prepared, tensors=tensors, rewrites=(*prepared.rewrites, *steps)),
        replace(reading, explanation=found),
    )


def settle(prepared: Prepared, reading: Reading) -> tuple[tuple[Rewrite, ...], Reading]:
    """Returns the steps whose results are kept, and the reading with all that is left out.

    What the user leaves out need not be rewritten, and is called as in the source.
    """
    steps = tuple(step for step in prepared.rewrites if step.target in reading.explanation.targets)
    sources = {step.target: step.sources for step in prepared.rewrites}
    asked = reading.explanation.dropped.items()
    dropped = {name: why for target, why in asked for name in sources.get(target, (target,))}
    found = replace(reading.explanation, dropped={**dropped, **prepared.dropped})
    return steps, replace(reading, explanation=found)


def _applied(steps: Sequence[Rewrite], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the forms that the steps give, each in the place of the first that it takes."""
    firsts = {step.sources[0]: step for step in steps if step.sources}
    others = {name for step in steps for name in step.sources[1:]}
    made: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if name in firsts:
            made[firsts[name].target] = _form(firsts[name], tensor)
        elif name not in others:
            made[name] = tensor
    filled = [step for step in steps if not step.sources]
    return made | {step.target: _form(step, made[step.like]) for step in filled}


def _form(step: Rewrite, first: Any) -> Form:
    """Returns what a step gives for the first tensor that it takes, or that it fills up."""
    shape, dtype = tuple(first.shape), str(first.dtype).removeprefix("torch.")
    if step.name == ROUNDED:
        return Form((), "int64")
    if step.name == RESHAPED:
        return Form(matrix_sides(step, shape), dtype)
    if step.name == ZEROED:
        return Form((classes_of(step, shape),), dtype)
    return Form(shape, dtype)


def matrix_sides(step: Rewrite, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the sides of a 1x1 kernel without those of the window, which Keras has first."""
    return shape[2:] if step.target.endswith("/kernel") else shape[:2]


def classes_of(step: Rewrite, shape: tuple[int, ...]) -> int:
    """Returns for how many classes a head's weight of that shape is, which Keras has last."""
    return shape[-1 if step.like.endswith("/kernel") else 0]


def _is_convolution(weight: str, shape: Any, width: Any) -> bool:
    """Whether a head is a 1x1 convolution that reads as many channels as the features have.

    Keras' kernels have the window first.
    """
    sides = tuple(shape)
    if weight.endswith("/kernel"):
        return len(sides) == 4 and sides[:3] == (1, 1, *width)
    return len(sides) == 4 and sides[1:] == (*width, 1, 1)


def _rounded(tensors: Mapping[str, Any]) -> Iterator[Rewrite]:
    """Yields a step for each count of batches that is one number, but no plain int64."""
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        odd = tuple(tensor.shape) != () or dtype != "int64"
        if name.endswith(COUNTER) and prod(tensor.shape) == 1 and odd and not dtype.startswith("complex"):
            yield Rewrite(ROUNDED, (name,), name)


def _masked(tensors: Mapping[str, Any]) -> Iterator[Rewrite]:
    """Yields a step for each pruned tensor, of which the weight is the product."""
    for name in filter(re.compile(r"_orig$|\.original$", re.ASCII).search, tensors):
        tensor = tensors[name]
        for pattern, mask, target in MASKS:
            if (match := pattern.fullmatch(name)) is None:
                continue
            other, product = match.expand(mask), match.expand(target)
            if other in tensors and product not in tensors and tensors[other].shape == tensor.shape:
                yield Rewrite(MASKED, (name, other), product)


def _scaled(tensors: Mapping[str, Any]) -> Iterator[Rewrite]:
    """Yields a step for each Scale layer behind a norm whose own weight and bias must be 1 and 0."""
    for name in [name for name in tensors if SCALE in name]:
        place = max(name.rfind("."), name.rfind("/"), 0)
        layer, field = name[:place], name[place + 1 :].rpartition(f"{SCALE}_")[2]
        norm = f"{layer.removesuffix(SCALE)}{NORM}{name[place]}{field}"
        known = layer.endswith(SCALE) and field in SCALE_FIELDS and norm in tensors
        if known and tensors[norm].shape == tensors[name].shape:
            yield Rewrite(SCALED, (norm, name), norm)
