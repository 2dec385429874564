"""Is a kernel distributed as an initialiser draws it, in mean, scale, shape and tails?

The initialisers are those of torch and of the libraries that build DenseNets.  torchvision, timm, MONAI,
torchxrayvision and PaddlePaddle draw convolutions by He's normal distribution, mmpretrain by that of the
channels written, pytorchcv by He's uniform one, and Keras by Glorot's uniform one; torch's own layers draw
uniformly within one over the root of what an output reads, and mmpretrain's heads have a deviation of 0.01.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod, sqrt
from typing import NamedTuple

# Standard errors by which a statistic may be off: a kernel that was drawn is beyond them less often than once
# in 10,000.  The distribution of the kurtosis is skewed, so that more is allowed above.
LIMIT, SHAPE_LIMIT = 5.0, 7.0
# Among fewer elements no distribution can be told.
FEWEST = 32
# bfloat16 rounds a bound of a uniform distribution up by so much.
ROUNDING = 1 + 2**-7
HEAD_DEVIATION = 0.01
TORCH = "torch's uniform"
# Of torch's own layers, in units of 2 / fan-in.
UNIFORM_VARIANCE = 1 / 6


class Moments(NamedTuple):
    """Statistics of a kernel's elements, which are divided by the root of 2 / fan-in.

    Attributes:
        number: of elements that were looked at.
        mean, second, fourth: means of the elements, of their squares and of their fourth powers.
        largest: largest absolute value.
    """

    number: int
    mean: float
    second: float
    fourth: float
    largest: float


class Family(NamedTuple):
    """A distribution around 0 of variance 1.

    Attributes:
        kurtosis: mean of the fourth powers.
        of_second, of_kurtosis: variances, for one element, of the mean of squares and of the kurtosis.
    """

    kurtosis: float
    of_second: float
    of_kurtosis: float


NORMAL = Family(3.0, 2.0, 24.0)
UNIFORM = Family(9 / 5, 4 / 5, 1.3165714285714286)


def he_deviation(shape: Sequence[int]) -> float:
    """Returns the root of 2 / fan-in; the shape is torch's, ``[out, in, ...]``."""
    return sqrt(2 / prod(shape[1:]))


def fitting(moments: Moments, shape: Sequence[int]) -> set[str]:
    """Returns the names of the initialisers that may have drawn the kernel."""
    if moments.number < FEWEST:
        return set()
    return {
        name for name, (family, variance) in _initialisers(shape).items() if _fits(moments, family, variance)
    }


def _initialisers(shape: Sequence[int]) -> dict[str, tuple[Family, float]]:
    """Returns each initialiser's distribution, and its variance in units of 2 / fan-in."""
    reads, writes = prod(shape[1:]), shape[0] * prod(shape[2:])
    common = {TORCH: (UNIFORM, UNIFORM_VARIANCE), "Glorot's uniform": (UNIFORM, reads / (reads + writes))}
    if len(shape) == 2:
        return {**common, "a normal of deviation 0.01": (NORMAL, HEAD_DEVIATION**2 * reads / 2)}
    return {
        "He's normal": (NORMAL, 1.0),
        "He's normal, of the channels written": (NORMAL, reads / writes),
        "He's uniform": (UNIFORM, 1.0),
        **common,
    }


def _fits(found: Moments, family: Family, variance: float) -> bool:
    root = sqrt(found.number)
    scale = (found.second / variance - 1) * root / sqrt(family.of_second)
    if abs(scale) > LIMIT or abs(found.mean) * root > LIMIT * sqrt(variance):
        return False
    shape = (found.fourth / found.second**2 - family.kurtosis) * root / sqrt(family.of_kurtosis)
    if not -LIMIT <= shape <= SHAPE_LIMIT:
        return False
    if family is UNIFORM:
        return found.largest <= sqrt(3 * variance) * ROUNDING
    # Of n normal elements the largest is beyond this once in a million times.
    return found.largest**2 <= variance * (2 * log(found.number) + 28)
