"""Finds how wide the input and output of a layer are, for any library, by the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import quoted

# One after the other, between features and what reads them as a sequence.
MOST_LAYERS = 8


class Matrix(NamedTuple):
    """A linear layer of a source, or a 1x1 convolution.

    Attributes:
        name: of its weight.
        layer: its own.
        taken: width of what it reads.
        given: width of what it gives.
    """

    name: str
    layer: str
    taken: int
    given: int

    def __str__(self) -> str:
        return f"{quoted(self.layer)} [{self.given}, {self.taken}]"


def matrices_of(tensors: Mapping[str, Any], mark: str, names: Iterable[str]) -> Iterator[Matrix]:
    """Yields the linear layers and 1x1 convolutions whose weights bear these names.

    Args:
        tensors: all of the source, each with a ``shape``.
        mark: what stands between a layer's name and its tensor's.
        names: those to look at.
    """
    for name in names:
        layer, _, field = name.rpartition(mark)
        shape = tuple(tensors[name].shape)
        if field == "weight" and (len(shape) == 2 or shape[2:] == (1, 1)):
            yield Matrix(name, layer, shape[1], shape[0])
        elif field == "kernel" and (len(shape) == 2 or (len(shape) == 4 and shape[:2] == (1, 1))):
            yield Matrix(name, layer, shape[-2], shape[-1])


def widths_taken(shape: Sequence[int], field: str) -> Collection[int]:
    """Returns the widths that a matrix or a kernel may read: two of a kernel, which may be transposed."""
    if len(shape) < 2:
        return ()
    if field == "kernel":
        return tuple(shape[-2:-1])
    return tuple(shape[:2] if len(shape) > 2 and tuple(shape[2:]) != (1, 1) else shape[1:2])


def widths_behind(width: int, shapes: Mapping[str, Sequence[int]], mark: str) -> set[int]:
    """Returns the widths into which layers may turn features of a width, one after the other, and this one.

    Args:
        width: of the features.
        shapes: of the tensors around the network, by name.
        mark: what stands between a layer's name and its tensor's.
    """
    layers = [(shape, name.rpartition(mark)[2]) for name, shape in shapes.items() if len(shape) > 1]
    widths = {width}
    for _ in range(MOST_LAYERS):
        found = {
            shape[-1] if field == "kernel" else shape[0]
            for shape, field in layers
            # Maps that are flattened have so many features for each place.
            if any(taken % one == 0 for taken in widths_taken(shape, field) for one in widths)
        }
        if found - {1} <= widths:
            break
        widths |= found - {1}
    return widths


def taken_by_recurrent(tensors: Mapping[str, Any], mark: str, name: str) -> int | None:
    """Returns the width of what a recurrent layer of torch or Keras reads; None for other tensors."""
    layer, _, field = name.rpartition(mark)
    shape = tuple(tensors[name].shape)
    if len(shape) != 2:
        return None
    if field.startswith("weight_ih"):
        return int(shape[1])
    return int(shape[0]) if field == "kernel" and f"{layer}{mark}recurrent_kernel" in tensors else None
