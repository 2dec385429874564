"""Tensors as a file holds them: a dtype, a shape, strides, and where their elements lie.  No torch."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from mmap import mmap
from typing import Any, Literal, NamedTuple

from .untrusted import AGAIN, FormatError, shown

# Bytes that can be searched, and parts of them.
Whole = bytes | bytearray | mmap
Buffer = Whole | memoryview
# The most dimensions that torch allows.
MOST_DIMENSIONS = 64
LARGEST = 1 << 62


class Broken(NamedTuple):
    """A value that should be a tensor and can't be; it matters only as a part of the state dict."""

    reason: str
    advice: str = AGAIN


class Dtype(NamedTuple):
    """Bytes of an element, and bytes of what another byte order turns around."""

    size: int
    word: int


# By the names that torch gives them.
DTYPES = {
    "float64": Dtype(8, 8),
    "float32": Dtype(4, 4),
    "float16": Dtype(2, 2),
    "bfloat16": Dtype(2, 2),
    "float8_e4m3fn": Dtype(1, 1),
    "float8_e5m2": Dtype(1, 1),
    "complex128": Dtype(16, 8),
    "complex64": Dtype(8, 4),
    "complex32": Dtype(4, 2),
    "int64": Dtype(8, 8),
    "int32": Dtype(4, 4),
    "int16": Dtype(2, 2),
    "int8": Dtype(1, 1),
    "uint64": Dtype(8, 8),
    "uint32": Dtype(4, 4),
    "uint16": Dtype(2, 2),
    "uint8": Dtype(1, 1),
    "bool": Dtype(1, 1),
}
# The letters of memoryview and array for words of that many bytes.
WORDS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(eq=False)
class Storage:
    """A run of elements, which tensors are views of.

    Attributes:
        label: what the file calls it.
        dtype: of its elements; None where each tensor states its own.
        size: length in bytes, as declared.
        data: its bytes; None until they are found.
        big_endian: order of the bytes of an element.
    """

    label: str
    dtype: str | None
    size: int
    data: Buffer | None = None
    big_endian: bool = False

    @property
    def item_size(self) -> int:
        """Bytes of an element, or 1 where only the tensors know."""
        return DTYPES[self.dtype or "uint8"].size


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A view of a storage; ``offset`` and ``strides`` are counted in elements, as in torch.

    Raises:
        FormatError: it reaches beyond its storage, or is no tensor at all.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    storage: Storage
    offset: int = 0
    span: int = field(init=False)

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.strides) or len(self.shape) > MOST_DIMENSIONS:
            raise FormatError(f"a tensor has {len(self.shape)} dimensions and {len(self.strides)} strides")
        numbers = (*self.shape, *self.strides, self.offset)
        if not all(type(number) is int and 0 <= number < LARGEST for number in numbers):
            raise FormatError("a tensor's shape, strides or offset are no sizes")
        last = sum((length - 1) * stride for length, stride in self._axes())
        object.__setattr__(self, "span", last + 1 if self.count else 0)
        end = (self.offset + self.span) * DTYPES[self.dtype].size
        # Slices of nothing lie at any offset.
        if self.count and end > self.storage.size:
            raise FormatError(
                f"a tensor of shape {list(self.shape)[:8]} reaches to byte {end} "
                f"of storage {self.storage.label}, which has {self.storage.size}"
            )

    def build(self, state: object) -> None:
        """Ignores the attributes that a pickle sets on a tensor: they change none of its elements."""

    def _axes(self) -> list[tuple[int, int]]:
        return list(zip(self.shape, self.strides, strict=True))

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.count * DTYPES[self.dtype].size

    @property
    def buffer(self) -> memoryview:
        """From the first element to the last, in the file's own order."""
        size = DTYPES[self.dtype].size
        assert self.storage.data is not None  # formats fill every storage before they return
        return memoryview(self.storage.data)[self.offset * size : (self.offset + self.span) * size]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for tensors that are the same view of the same storage."""
        return id(self.storage), self.dtype, self.offset, self.shape, self.strides

    def overlaps(self) -> bool:
        """Whether two of its elements may share memory, as those of an expanded tensor do."""
        reach = 0
        for length, stride in sorted(self._axes(), key=lambda axis: axis[1]):
            if length > 1 and stride <= reach:
                return self.count > 0
            reach += (length - 1) * stride
        return False

    def row_major(self) -> memoryview:
        """Its bytes in row-major order and the machine's byte order; uncopied where they lie so already."""
        size, word = DTYPES[self.dtype]
        data = self.buffer
        if self.count and not self._in_order():
            data = memoryview(self._gather(data))
        if self.storage.big_endian != (sys.byteorder == "big") and word > 1:
            words = array(WORDS[word], data.tobytes())
            words.byteswap()
            data = memoryview(words).cast("B")
        assert len(data) == self.count * size
        return data

    def _in_order(self) -> bool:
        return self.span == self.count and all(
            length == 1 or stride == prod(self.shape[axis + 1 :])
            for axis, (length, stride) in enumerate(self._axes())
        )

    def _gather(self, data: memoryview) -> bytearray:
        """Copies runs along the last axis; axes that one stride walks count as one."""
        size, word = DTYPES[self.dtype]
        words = data.cast(WORDS[word])
        axes: list[tuple[int, int]] = []
        for length, stride in [*((n, step * (size // word)) for n, step in self._axes()), (size // word, 1)]:
            if axes and axes[-1][1] == length * stride:
                axes[-1] = (axes[-1][0] * length, stride)
            elif length > 1:
                axes.append((length, stride))
        *outer, (length, stride) = axes
        gathered = bytearray()
        for start in map(sum, product(*(range(0, n * step, step) for n, step in outer))):
            gathered += words[start : start + (length - 1) * stride + 1 : stride].tobytes()
        return gathered


def in_order(dtype: str, shape: Sequence[int], storage: Storage) -> RawTensor:
    """A tensor whose elements lie in row-major order from the start of ``storage``."""
    shape = tuple(shape)
    return RawTensor(dtype, shape, row_major_strides(shape), storage)


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor whose elements lie in order.

    Raises:
        FormatError: it has more dimensions than torch allows.
    """
    if len(shape) > MOST_DIMENSIONS or not all(type(n) is int and 0 <= n < LARGEST for n in shape):
        raise FormatError(f"a tensor has {len(shape)} dimensions, or sizes that are none")
    strides = [1]
    for length in reversed(shape[1:]):
        strides.append(strides[-1] * length)
    return tuple(reversed(strides[: len(shape)]))


def declare(storages: dict[str, Storage], key: Any, dtype: str | None, count: Any) -> Storage:
    """The storage ``key``, which is new or was declared in the same way.

    Raises:
        FormatError: it was declared with another dtype or number of elements.
    """
    if not isinstance(key, str):
        raise FormatError(f"a storage is named by {shown(key)}, expected a short text")
    if type(count) is not int or count < 0:
        raise FormatError(f"storage {shown(key)} is said to have {shown(count)} elements")
    fresh = Storage(key, dtype, 0)
    fresh.size = count * fresh.item_size
    storage = storages.setdefault(key, fresh)
    if (storage.dtype, storage.size) != (fresh.dtype, fresh.size):
        raise FormatError(
            f"storage {key} is {storage.size} bytes of {storage.dtype} for one tensor, "
            f"and {fresh.size} of {fresh.dtype} for another"
        )
    return storage
