"""The numbers in tensors, by numpy, which is imported when they are first needed."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, prod, sqrt
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Half precision that weights go through: where they are stored, and where they are trained.
HALVES = ("float16", "bfloat16")
FLOATS = ("float16", "bfloat16", "float32", "float64")


class Held(Protocol):
    """A tensor: dtype, shape and bytes."""

    @property
    def dtype(self) -> str:
        """As torch calls it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @property
    def data(self) -> memoryview:
        """Its elements in row-major order."""


def bits(tensor: Held) -> Array:
    """Returns its elements as signed integers of their own width, in its shape."""
    import numpy as np

    width = len(tensor.data) // max(1, prod(tensor.shape)) or 1
    return np.frombuffer(tensor.data, dtype=f"i{width}").reshape(tensor.shape)


def numbers(tensor: Held) -> Array:
    """Returns its elements as numbers: bfloat16 as float32, and others as they are."""
    import numpy as np

    if tensor.dtype == "bfloat16":
        return (bits(tensor).astype("u4") << 16).view(np.float32)
    return np.frombuffer(tensor.data, dtype=tensor.dtype).reshape(tensor.shape)


def rounded(values: Array, dtype: str) -> Array:
    """Returns numbers after a round trip through a dtype, which rounds to the nearest and ties to even."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        if dtype != "bfloat16":
            return values.astype(dtype).astype(values.dtype)
        whole = values.astype(np.float32).view(np.uint32)
        up = ((whole >> 16) & 1) + np.uint32(0x7FFF)
        return ((whole + up) & np.uint32(0xFFFF0000)).view(np.float32).astype(values.dtype)


def bytes_of(values: Array, dtype: str) -> memoryview:
    """Returns numbers as the elements of a tensor; they are of this dtype's precision already."""
    import numpy as np

    if dtype == "bfloat16":
        whole = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        return memoryview((whole >> 16).astype(np.uint16).tobytes())
    return memoryview(np.ascontiguousarray(values, dtype=dtype).tobytes())


def counted(tensor: Held) -> memoryview:
    """Returns a count of batches as the int64 that stands for it; 0 for what is none."""
    import numpy as np

    value = numbers(tensor).reshape(())[()]
    whole = int(value) if isinstance(value, np.integer | np.bool_) else _nearest(float(value))
    return memoryview(np.array(whole, dtype=np.int64).tobytes())


def _nearest(value: float) -> int:
    return round(value) if isfinite(value) and abs(value) < 2.0**62 else 0


def permuted(tensor: Held, axes: Sequence[int]) -> memoryview:
    """Returns the bytes of a tensor with its axes in another order."""
    import numpy as np

    width = len(tensor.data) // max(1, prod(tensor.shape))
    elements = np.frombuffer(tensor.data, dtype=f"V{width or 1}").reshape(tensor.shape)
    return memoryview(elements.transpose(axes).tobytes())


def squares(a: Held, b: Held) -> tuple[float, float, float]:
    """Returns the sums of (a - b)², a² and b² over all elements, in float64."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        x, y = (numbers(one).astype(np.float64).reshape(-1) for one in (a, b))
        apart = x - y
        return dot(apart, apart), dot(x, x), dot(y, y)


def dot(x: Array, y: Array) -> float:
    """Returns the sum of products; BLAS would start threads, which cost more than they save."""
    import numpy as np

    return float(np.einsum("i,i->", x, y))


def distance(apart: float, size: float) -> float | None:
    """Returns a relative distance of sums of squares; None where it is not finite."""
    if not (isfinite(apart) and isfinite(size)):
        return None
    if apart == 0:
        return 0.0
    return sqrt(apart / size) if size else None
