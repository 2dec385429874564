"""The values of a network's tensors, as the checkup looks at them: of a file a sample, in memory all of them.

All sums are exact, so that a checkup says the same on every machine.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import mul
from typing import TYPE_CHECKING

from ..formats.raw import DTYPES, RawTensor
from .initialisers import Moments, he_deviation

if TYPE_CHECKING:
    from torch import Tensor

# Elements of a kernel in a file that are looked at: a page of the file at most.
SAMPLE = 512
# A kernel's elements are counted in such parts of He's deviation, and those beyond 16 of these as 16.
PARTS, MOST = 64, 1024
# The most elements whose fourth powers add up exactly in 64 bits.
CHUNK = 1 << 22
LETTERS = {"float64": "d", "float32": "f", "float16": "e"}


@dataclass(frozen=True)
class Kernel:
    """A convolution's or a linear layer's weight.

    Attributes:
        shape: torch's, ``[out, in, ...]``.
        dead: how many of its outputs have no weight but 0.
        key: equal for kernels of equal bytes.
        measure: returns the moments of its elements.
    """

    shape: tuple[int, ...]
    dead: int
    key: Hashable
    measure: Callable[[], Moments]

    @cached_property
    def moments(self) -> Moments:
        """Those of its elements: they take time, and most sound networks are told without."""
        return self.measure()


@dataclass(frozen=True)
class Samples:
    """A network's tensors by their canonical names, of which some may be missing.

    Attributes:
        shapes: of each.
        numbers: returns all elements of a tensor of one dimension, or of none.
        kernel: returns what is known of a weight of two dimensions or more.
    """

    shapes: Mapping[str, tuple[int, ...]]
    numbers: Callable[[str], list[float]]
    kernel: Callable[[str], Kernel]


def samples_of_file(tensors: Mapping[str, RawTensor], axes: Mapping[str, Sequence[int]]) -> Samples:
    """Returns those of a file, which is read where its samples lie alone.

    Args:
        tensors: by their canonical names.
        axes: for the names whose axes lie otherwise, these in canonical order.
    """
    known = {name: raw for name, raw in tensors.items() if raw.dtype in (*LETTERS, "bfloat16", "int64")}
    shapes = {
        name: tuple(raw.shape[axis] for axis in axes.get(name, range(len(raw.shape))))
        for name, raw in known.items()
    }

    def kernel(name: str) -> Kernel:
        raw, shape = known[name], shapes[name]
        content = _Content(raw)
        zeros = shape[0] if not any(content.start) and not any(_values(raw, None)) else 0
        return Kernel(shape, zeros, content, lambda: _moments(_values(raw, SAMPLE), he_deviation(shape)))

    return Samples(shapes, lambda name: _values(known[name], None), kernel)


class _Content:
    """The bytes of a tensor in a file, which are read whole only where its first are another's."""

    def __init__(self, raw: RawTensor) -> None:
        self.raw = raw
        self.start = bytes(raw.buffer[: SAMPLE * DTYPES[raw.dtype].size])

    def __hash__(self) -> int:
        return hash((self.raw.dtype, self.raw.shape, self.raw.strides, self.start))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Content) and hash(self) == hash(other) and self.raw.buffer == other.raw.buffer
        )


def _values(raw: RawTensor, most: int | None) -> list[float]:
    """Returns a tensor's first elements, in the order in which they lie."""
    size = DTYPES[raw.dtype].size
    data = bytes(raw.buffer[: None if most is None else most * size])
    big = raw.storage.big_endian
    if raw.dtype == "bfloat16":
        words = array("H", data)
        if big != (sys.byteorder == "big"):
            words.byteswap()
        data = array("I", (word << 16 for word in words)).tobytes()
        return list(struct.unpack(f"={len(data) // 4}f", data))
    letter = LETTERS.get(raw.dtype, "q")
    return list(struct.unpack(f"{'>' if big else '<'}{len(data) // size}{letter}", data))


def _moments(values: Sequence[float], deviation: float) -> Moments:
    scaled = [value / deviation for value in values]
    largest = max(map(abs, scaled), default=0.0)
    if not largest <= MOST / PARTS:  # as in memory; what is infinite has no sum
        scaled = [min(max(value, -MOST / PARTS), MOST / PARTS) for value in scaled]
    squares = list(map(mul, scaled, scaled))
    count = max(len(values), 1)
    fourth = sum(map(mul, squares, squares))
    return Moments(len(values), sum(scaled) / count, sum(squares) / count, fourth / count, largest)


def samples_of_memory(tensors: Mapping[str, Tensor], digests: Mapping[str, str]) -> Samples:
    """Returns those of tensors in memory, by their canonical names.

    Args:
        tensors: in the canonical order of axes.
        digests: of each one's bytes, as far as they are known.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def numbers(name: str) -> list[float]:
        found: list[float] = tensors[name].detach().flatten().tolist()
        return found

    def kernel(name: str) -> Kernel:
        tensor = tensors[name].detach()
        dead = int((tensor.flatten(1) == 0).all(1).sum())
        deviation = he_deviation(shapes[name])
        measure = partial(_moments_in_memory, tensor, deviation)
        return Kernel(shapes[name], dead, digests.get(name, name), measure)

    return Samples(shapes, numbers, kernel)


def _moments_in_memory(tensor: Tensor, deviation: float) -> Moments:
    """Adds whole numbers, whose sums are the same in any order."""
    import torch

    first = second = fourth = 0
    flat = tensor.flatten()
    for start in range(0, len(flat), CHUNK):
        part = flat[start : start + CHUNK]
        scaled = (part.double() * (PARTS / deviation)).round_().clamp_(-MOST, MOST).to(torch.int64)
        squares = scaled * scaled
        first += int(scaled.sum())
        second += int(squares.sum())
        fourth += int(squares.mul_(squares).sum())
    count = max(tensor.numel(), 1)
    largest = float(tensor.abs().max()) / deviation if tensor.numel() else 0.0
    means = (first / count / PARTS, second / count / PARTS**2, fourth / count / PARTS**4)
    return Moments(tensor.numel(), *means, largest)
