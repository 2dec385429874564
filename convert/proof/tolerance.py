"""How far two networks may be apart where equality to the bit can't be had.

Another order of summation, another precision or another machine rounds otherwise, so two correct
networks differ.  The yardstick is the reference in float64, whose rounding is a billionth of
float32's and is neglected.  Our error against it may not exceed ``factor`` times the
reference's own.

The factor follows from a model.  The rounding errors of the n values that are compared
are n draws from a Gaussian of one standard deviation, and the two networks' are
independent.  Of each the largest, M, has the distribution G(m) = erf(m / sqrt 2)^n, so

    P(M_ours > f M_theirs) = integral of 1 - G(f m) over dG(m),

and f is chosen so that this is ``RARE``: 2.0 where a thousand values are compared, 4.0 for
24, and some 640,000 for one, which would allow anything: compare more than a few.

That holds for one order of summation.  The standard deviation depends on it: of K terms summed one
after the other, the k-th partial sum is of the order of sqrt(k) and is rounded by a share of itself,
which adds up to a variance proportional to K^2 / 2; in L lanes that are added up in the end, to
L (K / L)^2 / 2.  So the errors differ by sqrt(L), and ``ORDER`` is that for the 16 float32 of
the widest vector registers in use (AVX-512).  torch's benchmarks accept compiled networks by
such a factor, 2 to 10 by their kind (``same`` in ``torch/_dynamo/utils.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from math import exp
from statistics import NormalDist

import torch
from torch import Tensor, nn

from ..results import Measured
from .determinism import tf32

RARE = 1e-6
RARE_DEVIATIONS = NormalDist().inv_cdf(1 - RARE)
ORDER = 4.0

# Runs a network in a setting; it may change the network.
Run = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """One way to run a network.

    Attributes:
        name: such as ``"bfloat16"`` or ``"channels_last"``.
        dtype: what its output is rounded to.
        run: gives the logits of a float32 network, which it may change, for a float32 input.
    """

    name: str
    dtype: torch.dtype
    run: Run


def precisions(device: torch.device, dimensions: int = 2) -> tuple[Setting, ...]:
    """The settings that differ in how numbers are rounded; TF32 is a GPU's.

    On the CPU torch averages volumes in no half precision.
    """
    known: tuple[torch.dtype, ...] = (
        () if device.type == "cpu" and dimensions == 3 else (torch.bfloat16, torch.float16)
    )
    halves = [Setting(_name(d), d, _cast(d)) for d in known]
    reduced = [Setting("TF32", torch.float32, _in_tf32)] if device.type == "cuda" else []
    return (Setting("float32", torch.float32, logits_of), *reduced, *halves)


def orders(dimensions: int) -> tuple[Setting, ...]:
    """The settings that differ in the order of sums of float32; with one side channels can't be last."""
    last = [Setting("channels_last", torch.float32, _channels_last)] if dimensions > 1 else []
    return (
        *last,
        Setting("one image at a time", torch.float32, _one_by_one),
        Setting("a larger batch", torch.float32, _in_a_larger_batch),
    )


def logits_of(network: nn.Module, x: Tensor) -> Tensor:
    """``[N, classes]``, without a graph."""
    with torch.no_grad():
        output: Tensor = network(x)
    return output


def measure(setting: Setting, ours: nn.Module, theirs: nn.Module, x: Tensor, exact: Tensor) -> Measured:
    """Runs copies of both networks in a setting.

    Args:
        x: float32, ``[N, C, H, W]``.
        exact: logits of the reference in float64, ``[N, classes]``.
    """
    a, b = (setting.run(deepcopy(network), x) for network in (ours, theirs))
    return measured(setting, a, b, exact)


def measured(setting: Setting, ours: Tensor, theirs: Tensor, exact: Tensor) -> Measured:
    """The errors of logits that were computed in a setting."""
    own = largest_error(theirs, exact)
    limit, spread = bound(own, exact, setting.dtype), exact.std(correction=0).item()
    return Measured(setting.name, largest_error(ours, exact), own, limit, spread)


def bound(theirs: float, exact: Tensor, dtype: torch.dtype) -> float:
    """Returns the largest error that is allowed.

    Args:
        theirs: the reference's own error.  By luck it may be 0, but half a unit in the last place of
            the largest value is what rounding alone may cost.
        exact: the values compared, in float64.
        dtype: what the outputs are rounded to.
    """
    rounding = torch.finfo(dtype).eps / 2 * exact.abs().max().item()
    return factor(exact.numel()) * max(theirs, rounding)


def typical_error(output: Tensor, exact: Tensor) -> float:
    """Root mean square of the differences; infinite for another shape, or where the output is not finite."""
    if output.shape != exact.shape or not output.isfinite().all():
        return float("inf")
    return (output.double() - exact).square().mean().sqrt().item()


def typical_bound(theirs: float, exact: Tensor, dtype: torch.dtype) -> float:
    """Returns the largest ``typical_error`` that another order of summation explains.

    The largest error of a layer is that of its largest sums, on which orders of summation differ most; the
    mean is of all of them.  The ratio of two mean squares of n draws has Fisher's distribution, whose
    logarithm has for large n the variance 4 / n (Fisher 1924), so that the ratio of their roots exceeds
    exp(z / sqrt n) with the probability of z standard deviations.

    Args:
        theirs: the reference's own ``typical_error``; where by luck it is smaller, half a unit in the last
            place counts.
        exact: the values compared, in float64.
        dtype: what the outputs are rounded to.
    """
    rounding = torch.finfo(dtype).eps / 2 * exact.square().mean().sqrt().item()
    return float(ORDER * exp(RARE_DEVIATIONS / exact.numel() ** 0.5) * max(theirs, rounding))


def largest_error(output: Tensor, exact: Tensor) -> float:
    """Largest absolute difference; infinite for another shape, or where the output is not finite."""
    if output.shape != exact.shape or not output.isfinite().all():
        return float("inf")
    return (output.double() - exact).abs().max().item()


@cache
def factor(count: int) -> float:
    """By how much one largest error of ``count`` may exceed another.

    The module says why: 8.0 for a thousand and 16.1 for 24, of which ``ORDER`` is 4.
    """
    low, high = 1.0, 1e8
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if exceeding(middle, count) > RARE else (low, middle)
    return ORDER * high


def exceeding(f: float, count: int) -> float:
    """P(M_ours > f M_theirs) for the largest of ``count`` errors each."""
    m = torch.logspace(-9, 1.2, 4000, dtype=torch.float64)
    below = _largest_is_below(m, count)
    # Rounded towards the more probable: 1 - G falls.
    return float((below.diff() * (1 - _largest_is_below(f * m[:-1], count))).sum())


def _largest_is_below(m: Tensor, count: int) -> Tensor:
    return torch.exp(count * torch.log1p(-torch.special.erfc(m / 2**0.5)))


def _cast(dtype: torch.dtype) -> Run:
    return lambda network, x: logits_of(network.to(dtype), x.to(dtype))


def _in_tf32(network: nn.Module, x: Tensor) -> Tensor:
    with tf32():
        return logits_of(network, x)


def _channels_last(network: nn.Module, x: Tensor) -> Tensor:
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return logits_of(network.to(memory_format=last), x.to(memory_format=last))


def _one_by_one(network: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([logits_of(network, image[None]) for image in x])


def _in_a_larger_batch(network: nn.Module, x: Tensor) -> Tensor:
    return logits_of(network, torch.cat([x, x, x]))[: len(x)]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
