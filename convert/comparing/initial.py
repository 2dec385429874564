"""Whether a tensor is as libraries make it before training, by its constant or by its distribution."""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING, Any

from ..layout import HEAD
from ..layouts.initialisers import NORMAL, UNIFORM, Family
from .values import Held, dot, numbers

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


# What the fields of a batch norm, and torchvision's bias of the classifier, are before training.
CONSTANTS = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
# Deviations from what is expected of a drawn sample, in standard errors.
BOUND = 5.0
FEWEST = 16
# Of a larger tensor some elements are taken, evenly.
ENOUGH = 1 << 14


def left_at_initial(name: str, a: Held, b: Held) -> str | None:
    """Returns which of two tensors, that differ, is as it was before training: ``"B was left"``.

    Where both may be, the one that fits better is named first.

    Args:
        name: the canonical name of both.
        a, b: they are of one shape.

    Returns:
        None where neither is, or where they are alike and both drawn from somewhere else.
    """
    import numpy as np

    step = max(1, prod(a.shape) // ENOUGH)
    x, y = (numbers(one).reshape(-1)[::step].astype(np.float64) for one in (a, b))
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or _are_alike(x, y):
        return None
    of_a, of_b = (_misfit(name, one, a.shape) for one in (x, y))
    if min(of_a, of_b) > BOUND:
        return None
    better, other = ("B", "A") if of_b <= of_a else ("A", "B")
    return f"{better} was left" if max(of_a, of_b) > BOUND else f"{better}, or {other}, was left"


def _are_alike(x: Array, y: Array) -> bool:
    """Whether one was made of the other, as by training: their deviations are correlated."""
    if len(x) < FEWEST:
        return False
    one, other = x - x.mean(), y - y.mean()
    size = sqrt(dot(one, one) * dot(other, other))
    return size > 0 and abs(dot(one, other)) / size > BOUND / sqrt(len(x))


def _misfit(name: str, values: Array, shape: tuple[int, ...]) -> float:
    """Returns how far a tensor is from what is drawn for it, in standard errors; 0 for its constant."""
    constant = CONSTANTS.get(name.rpartition(".")[2])
    is_matrix = len(shape) > 1
    if not is_matrix:
        if (values == constant).all():
            return 0.0
        return _misfit_of_bias(values) if name == f"{HEAD}.bias" else float("inf")
    inputs = prod(shape[1:])
    outputs = shape[0] * prod(shape[2:])
    drawn = [(NORMAL, 2 / inputs)] if len(shape) > 2 else []
    drawn += [(UNIFORM, 1 / (3 * inputs)), (UNIFORM, 2 / (inputs + outputs))]
    return min(_misfit_of_draw(values, family, variance) for family, variance in drawn)


def _misfit_of_bias(values: Array) -> float:
    """Returns it of the bias of torch's own linear layer: uniform, of a width that its weight tells."""
    return float("inf") if len(values) < FEWEST else _misfit_of_draw(values, UNIFORM, float(values.var()))


def _misfit_of_draw(values: Array, family: Family, variance: float) -> float:
    """Returns the largest deviation of mean, variance and fourth moment from those of a distribution."""
    count = len(values)
    if count < FEWEST or not values.any():
        return float("inf")
    squared = values * values
    second = float(squared.mean())
    deviations = [
        abs(float(values.mean())) / sqrt(variance / count),
        abs(second / variance - 1) / sqrt(family.of_second / count),
        abs(float((squared * squared).mean()) / second**2 - family.kurtosis)
        / sqrt(family.of_kurtosis / count),
    ]
    return max(deviations)
