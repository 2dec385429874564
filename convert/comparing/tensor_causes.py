"""Why two tensors of one shape differ, from the surest cause to the last."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

from .initial import left_at_initial
from .sides import COUNTER, Tensor, is_of_head
from .values import FLOATS, HALVES, bits, numbers, rounded

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# The causes, as results call them.
COUNTERS, COPIED, EXCHANGED, RENAMED = "counters", "copied", "exchanged", "renamed"
AXES, CHANNELS, ROWS, ENTRIES = "axes", "channels", "rows", "entries"
ROUNDED, DTYPE, BIT_FLIP, LAST_PLACE = "rounded", "dtype", "bit-flip", "last-place"
INITIAL, PRUNED, VALUES, SHAPES = "initial", "pruned", "values", "shapes"
SAME_NUMBERS = "and every number is the same"
# Rounding in another order of sums moves a number by so many units in the last place.
FEW = 4
# So many elements tell most often that a cause is none.
GLANCE = 256
STEM = "features.conv0.weight"


class Finding(NamedTuple):
    """Why one tensor of B is another than A's.

    Attributes:
        cause: one of the words above.
        text: the cause in words, the same for all tensors to which the same happened.
        axes: the order of B's axes that gives A's tensor, where that is the cause.
        is_constant: whether the tensor has its initial value for certain, which is a constant.
        order: an axis, and the order of B's entries along it that gives A's tensor, where that is the cause.
    """

    cause: str
    text: str
    axes: tuple[int, ...] = ()
    order: tuple[int, tuple[int, ...]] | None = None
    is_constant: bool = False


def find_cause(name: str, a: Tensor, b: Tensor) -> Finding:
    """Returns why B's tensor of a canonical name is another than A's; both are of one shape."""
    if name.endswith(COUNTER):
        return Finding(COUNTERS, "The counters of batches differ, which change no output in eval")
    if a.dtype not in FLOATS or b.dtype not in FLOATS:
        return Finding(DTYPE, f"A is of {a.dtype} and B of {b.dtype}, and the numbers were not compared")
    if a.dtype != b.dtype:
        return _of_dtypes(a, b)
    for search in (_of_one_element, _of_rounding, _of_axes, _of_order, _of_last_place, _of_zeros):
        if (found := search(name, a, b)) is not None:
            return found
    if (sides := left_at_initial(name, a, b)) is not None:
        text = f"{sides} at the initial value that libraries give to such a tensor"
        return Finding(INITIAL, text, is_constant=len(a.shape) < 2)
    return Finding(VALUES, "")


def _of_dtypes(a: Tensor, b: Tensor) -> Finding:
    import numpy as np

    x, y = (numbers(one).astype(np.float64) for one in (a, b))
    if np.array_equal(x, y, equal_nan=True):
        return Finding(DTYPE, f"A is of {a.dtype} and B of {b.dtype}, {SAME_NUMBERS}")
    for one, other, named in ((x, b, ("B", "A")), (y, a, ("A", "B"))):
        if np.array_equal(rounded(one, other.dtype), numbers(other).astype(np.float64), equal_nan=True):
            return Finding(ROUNDED, f"{named[0]} holds {named[1]}'s numbers, rounded to {other.dtype}")
    return Finding(VALUES, f"A is of {a.dtype} and B of {b.dtype}")


def _of_one_element(_name: str, a: Tensor, b: Tensor) -> Finding | None:
    import numpy as np

    x, y = bits(a).reshape(-1), bits(b).reshape(-1)
    places = np.flatnonzero(x != y)
    if len(places) != 1 or len(x) < 2:
        return None
    i = int(places[0])
    one, other = (format(numbers(side).reshape(-1)[i], ".9g") for side in (a, b))
    where = f"element {[int(n) for n in np.unravel_index(i, a.shape)]} is {one} in A and {other} in B"
    if abs(int(x[i]) - int(y[i])) == 1:
        return Finding(LAST_PLACE, f"one unit in the last place of one number: {where}")
    if (int(x[i]) ^ int(y[i])).bit_count() == 1:
        return Finding(BIT_FLIP, f"one bit: {where}")
    return None


def _of_rounding(_name: str, a: Tensor, b: Tensor) -> Finding | None:
    import numpy as np

    x, y = (numbers(one).reshape(-1) for one in (a, b))
    for dtype in HALVES:
        for one, other, named in ((x, y, ("B", "A")), (y, x, ("A", "B"))):
            first = np.array_equal(rounded(one[:GLANCE], dtype), other[:GLANCE])
            if first and np.array_equal(rounded(one, dtype), other):
                text = f"{named[0]} holds {named[1]}'s numbers after a round trip through {dtype}"
                return Finding(ROUNDED, text)
    return None


def _of_axes(_name: str, a: Tensor, b: Tensor) -> Finding | None:
    import numpy as np

    x, y = bits(a), bits(b)
    if x.ndim < 2 or not x.size or x.flat[0] != y.flat[0] or x.flat[-1] != y.flat[-1]:
        return None
    for axes in permutations(range(x.ndim)):
        if np.array_equal(y.transpose(axes), x):
            back = sorted(range(x.ndim), key=axes.__getitem__)
            return Finding(AXES, f"B has A's axes in the order {', '.join(map(str, back))}", axes=axes)
    return None


def _of_order(name: str, a: Tensor, b: Tensor) -> Finding | None:
    x, y = bits(a), bits(b)
    for axis in range(x.ndim):
        if (order := order_along(x, y, axis)) is None:
            continue
        if is_of_head(name) and axis == 0:
            return Finding(ROWS, "B has A's classes in another order", order=(axis, order))
        if name == STEM and axis == 1:
            kind = "BGR for RGB" if order == (2, 1, 0) else "another order of colours"
            return Finding(CHANNELS, f"B reads the channels of its input as {kind}", order=(axis, order))
        return Finding(ENTRIES, f"B has A's entries along axis {axis} in another order", order=(axis, order))
    return None


def order_along(x: Array, y: Array, axis: int) -> tuple[int, ...] | None:
    """Returns the order of y's entries along an axis that gives x; None where none does."""
    import numpy as np

    if not x.size:
        return None
    ours, theirs = (np.moveaxis(one, axis, 0) for one in (x, y))
    # Along any axis the first entries of both must be the same numbers, in whatever order.
    one, other = (np.sort(side.reshape(len(side), -1)[:, 0]) for side in (ours, theirs))
    if not np.array_equal(one, other):
        return None
    places: dict[bytes, list[int]] = {}
    for i, entry in reversed(list(enumerate(theirs))):
        places.setdefault(entry.tobytes(), []).append(i)
    order = []
    for entry in ours:
        found = places.get(entry.tobytes())
        if not found:
            return None
        order.append(found.pop())
    return tuple(order)


def _of_last_place(_name: str, a: Tensor, b: Tensor) -> Finding | None:
    import numpy as np

    x, y = (bits(one).reshape(-1) for one in (a, b))
    for end in (GLANCE, len(x)):
        apart = np.abs(x[:end].astype(np.int64) - y[:end].astype(np.int64))
        if not apart.size or apart.max() > FEW:
            return None
    return Finding(LAST_PLACE, f"numbers differ by {FEW} units in the last place at most")


def _of_zeros(_name: str, a: Tensor, b: Tensor) -> Finding | None:
    """Returns the finding for what was pruned; a constant of zeros is no such thing."""
    import numpy as np

    x, y = (numbers(one).reshape(-1) for one in (a, b))
    for one, other, named in ((x, y, ("B", "A")), (y, x, ("A", "B"))):
        first = ((other == 0) | (one == other))[:GLANCE].all()
        if first and other.any() and np.array_equal(one[other != 0], other[other != 0]):
            return Finding(PRUNED, f"{named[0]} holds {named[1]}'s numbers, some of them set to zero")
    return None


def repairable(name: str, finding: Finding) -> bool:
    """Whether the cause loses nothing; rows of the classifier are in the order of its own labels."""
    if finding.cause == AXES:
        return True
    return finding.cause in (CHANNELS, ENTRIES) and not is_of_head(name)
