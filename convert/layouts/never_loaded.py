"""Which layers are as an initialiser leaves them: was this network ever loaded?

Three things are looked for, each certain enough to be said of a stranger's file:

- layers that nothing changed: the batch norm has weight 1 and bias 0, and the convolution is as drawn;
- layers that were trained less than the rest: the dense layers, or all features, which well-known mismatches
  of names leave out;
- a head within the bounds that torch draws it in, which no training respects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum, sqrt
from operator import mul
from typing import NamedTuple

from ..layout import HEAD
from .initialisers import ROUNDING, TORCH, UNIFORM_VARIANCE, fitting
from .samples import Kernel, Samples

# Of the layers that a mismatch of names leaves out so many are as drawn.
MOST_OF_THEM = 0.9
# By what factor the norms of the rest must be farther from 1 and 0.  Trained from scratch, it was 2 in small
# networks and 3.4 with 42 dense layers, each of which has a small part of the gradient.
FARTHER = 8.0
# By what factor a head is ahead of the features, and by what factor its deviation must have grown for that.
AHEAD, LEAST_GROWTH = 4.0, 1.0
SMALLEST = 1e-12
DENSE, FIRST, LAST = "denselayer", "features.conv0", "features.norm5"


class Norm(NamedTuple):
    """A batch norm.

    Attributes:
        untrained: weight 1 and bias 0, all of them.
        unused: mean 0 and variance 1 as well, and no batch counted.
        batches: how many it counts; None where the source doesn't tell.
        weight, bias: one for each channel.
    """

    untrained: bool
    unused: bool
    batches: float | None
    weight: list[float]
    bias: list[float]

    @property
    def dead(self) -> int:
        """Channels whose weight is 0."""
        return self.weight.count(0.0)

    @property
    def moved(self) -> float:
        """Root of the mean square of what weight and bias are from 1 and 0."""
        apart = [value - 1.0 for value in self.weight] + self.bias
        return sqrt(fsum(map(mul, apart, apart)) / max(len(apart), 1))


@dataclass(frozen=True)
class Layers:
    """A network's layers by their canonical names, each without ``.weight``.

    Attributes:
        norms: batch norms.
        kernels: convolutions.
        head: the classifier; None where there is none.
        head_is_drawn: whether weight and bias are as an initialiser leaves them.
    """

    norms: dict[str, Norm]
    kernels: dict[str, Kernel]
    head: Kernel | None
    head_is_drawn: bool

    @cached_property
    def fits(self) -> tuple[str, frozenset[str]]:
        """The initialiser that fits most convolutions, empty where none does, and their names.

        A network is drawn by one of them.
        """
        fits = {name: fitting(kernel.moments, kernel.shape) for name, kernel in self.kernels.items()}
        counts = Counter(initialiser for names in fits.values() for initialiser in sorted(names))
        if not counts:
            return "", frozenset()
        best = max(sorted(counts), key=lambda name: counts[name])
        return best, frozenset(name for name, names in fits.items() if best in names)

    @property
    def drawn(self) -> frozenset[str]:
        """Names of the convolutions that this initialiser may have drawn."""
        return self.fits[1]


class Finding(NamedTuple):
    """The layers that were probably never loaded.

    Attributes:
        kernels: convolutions that are as drawn, or little more.
        norms: batch norms that go with them, or that are as initialised.
        trained: whether the network was trained since.
        because: what tells it, if not the values alone.
    """

    kernels: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    trained: bool = False
    because: str = ""


def layers_of(samples: Samples) -> Layers:
    """Returns what is known of each layer; one of which a tensor is missing is left out."""
    names = [name.removesuffix(".weight") for name in samples.shapes if name.endswith(".weight")]
    norms = {name: _norm_of(name, samples) for name in names if _is_norm(name, samples)}
    convolutions = [name for name in names if len(samples.shapes[f"{name}.weight"]) > 2]
    kernels = {name: samples.kernel(f"{name}.weight") for name in convolutions}
    has_head = len(samples.shapes.get(f"{HEAD}.weight", ())) == 2
    head = samples.kernel(f"{HEAD}.weight") if has_head else None
    return Layers(norms, kernels, head, head is not None and _is_drawn(head, samples))


def _is_norm(name: str, samples: Samples) -> bool:
    fields = ("weight", "bias", "running_mean", "running_var")
    return all(len(samples.shapes.get(f"{name}.{field}", ())) == 1 for field in fields)


def _norm_of(name: str, samples: Samples) -> Norm:
    weight, bias = samples.numbers(f"{name}.weight"), samples.numbers(f"{name}.bias")
    counter = f"{name}.num_batches_tracked"
    batches = samples.numbers(counter)[0] if samples.shapes.get(counter) == () else None
    untrained = _all(weight, 1.0) and _all(bias, 0.0)
    unused = untrained and not batches and _is_unused(name, samples)
    return Norm(untrained, unused, batches, weight, bias)


def _is_unused(name: str, samples: Samples) -> bool:
    mean, variance = samples.numbers(f"{name}.running_mean"), samples.numbers(f"{name}.running_var")
    return _all(mean, 0.0) and _all(variance, 1.0)


def _all(values: Sequence[float], expected: float) -> bool:
    return values.count(expected) == len(values)


def _is_drawn(head: Kernel, samples: Samples) -> bool:
    """Whether a head is as drawn: its bias, too, is 0 or within the bounds of torch's own layers."""
    fits = fitting(head.moments, head.shape)
    bias = samples.numbers(f"{HEAD}.bias") if f"{HEAD}.bias" in samples.shapes else []
    largest, bound = max(map(abs, bias), default=0.0), 1 / sqrt(head.shape[1])
    if largest == 0:
        return bool(fits)
    # Torch alone draws a bias; one that began as 0 and was trained a little is smaller.
    return TORCH in fits and bound / 16 <= largest <= bound * ROUNDING


def find_never_loaded(layers: Layers) -> Finding:
    """Returns which layers were probably never loaded into the network that was saved."""
    unused = tuple(name for name, norm in layers.norms.items() if norm.unused)
    untrained = [name for name in layers.kernels if _norm_beside(name) in layers.norms]
    untrained = [name for name in untrained if layers.norms[_norm_beside(name)].untrained]
    drawn = tuple(name for name in untrained if name in layers.drawn)
    if len(drawn) >= max(2, MOST_OF_THEM * len(untrained)):
        norms = {_norm_beside(name) for name in drawn} | set(unused)
        return Finding(drawn, tuple(name for name in layers.norms if name in norms))
    return _find_trained(layers) or Finding(norms=unused)


def _norm_beside(convolution: str) -> str:
    """``norm1`` for ``conv1``, and so on."""
    parent, _, last = convolution.rpartition(".")
    return f"{parent}.{last.replace('conv', 'norm')}"


def _find_trained(layers: Layers) -> Finding | None:
    """Returns the dense layers, or all features, if they were trained less than the rest."""
    dense = tuple(name for name in layers.kernels if DENSE in name)
    norms = tuple(name for name in layers.norms if DENSE in name)
    outside = tuple(name for name in layers.norms if DENSE not in name)
    if not dense or not norms or not outside:
        return None
    if batches := _batches_missing(layers, norms, outside):
        return Finding(dense, norms, True, batches)
    first = FIRST in layers.kernels and farther_by(layers) >= FARTHER  # the values of kernels take time
    if first and FIRST not in layers.drawn and _nearly_all_drawn(layers, dense):
        return Finding(dense, norms, True)
    if head_ahead_by(layers) >= AHEAD and _nearly_all_drawn(layers, layers.kernels):
        return Finding(tuple(layers.kernels), tuple(layers.norms), True)
    return None


def _nearly_all_drawn(layers: Layers, kernels: Collection[str]) -> bool:
    return sum(name in layers.drawn for name in kernels) >= MOST_OF_THEM * len(kernels)


def head_ahead_by(layers: Layers) -> float:
    """Returns by which factor the head is farther from initial values than the norm before it.

    The gradient of a weight of the head is an error times a feature; that of the norm before it is the
    same errors times the head's weights.  So, from scratch, the head grows by what the norm moves, times the
    number of features over the root of that of classes, at any rate: that is 1 here.  Adam gives less.
    """
    if layers.head is None or LAST not in layers.norms:
        return 0.0
    classes, features = layers.head.shape
    growth = sqrt(layers.head.moments.second / UNIFORM_VARIANCE) - 1
    if growth < LEAST_GROWTH:
        return 0.0
    return growth / max(layers.norms[LAST].moved, SMALLEST) * sqrt(classes) / features


def farther_by(layers: Layers) -> float:
    """Returns how much farther from 1 and 0 the norms are outside of dense layers than within, a factor."""
    within = sorted(norm.moved for name, norm in layers.norms.items() if DENSE in name)
    others = sorted(norm.moved for name, norm in layers.norms.items() if DENSE not in name)
    return others[len(others) // 2] / max(within[len(within) // 2], SMALLEST)


def _batches_missing(layers: Layers, dense: Sequence[str], outside: Sequence[str]) -> str:
    """Says how many batches the dense layers count fewer than the rest; empty where they don't.

    Activation checkpointing counts each batch twice where it is used, as in a dense layer's first norm.
    """
    within = {layers.norms[name].batches for name in dense if name.endswith("norm2")}
    others = {layers.norms[name].batches for name in outside}
    if len(within) != 1 or len(others) != 1:
        return ""
    (few,), (many,) = within, others
    if few is None or many is None or not few < many != 2 * few:
        return ""
    return f"they count {few:,.0f} batches, and all others {many:,.0f}"
