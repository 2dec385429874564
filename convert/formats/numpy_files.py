"""Reads what numpy saves: ``.npy``, one array or an object that was pickled, and ``.npz``, a zip of these.

Source of the layout: ``numpy/lib/format.py`` and ``savez`` in ``numpy/lib/_npyio_impl.py`` of numpy 2.
"""

from __future__ import annotations

import re
from typing import Any

from .archive import Archive
from .objects import NUMPY, NumpyArray, NumpyDtype, call
from .raw import MOST_DIMENSIONS, Whole
from .stand_ins import Dict
from .unpickle import Names, Unpickler
from .untrusted import Budget, FormatError, shown

MAGIC, SUFFIX = b"\x93NUMPY", ".npy"
# The longest text that describes an array; numpy itself refuses a longer one.
LONGEST_HEADER = 10_000
HEADER = re.compile(
    r"\{'descr': '([<>|=])([a-zA-Z])(\d{0,3})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\),? ?\} *\n?",
    re.ASCII,
)
UNNAMED = re.compile(r"arr_\d+", re.ASCII)
BY_NAME = "Save a dict of arrays by their names: numpy.savez(path, **arrays)."


def is_npz(archive: Archive) -> bool:
    """Whether a zip holds numpy's files alone."""
    return bool(archive.records) and all(name.endswith(SUFFIX) for name in archive.records)


def read_npz(archive: Archive, budget: Budget, names: Names) -> Dict:
    """The arrays by name, views of the file where they are stored as they are.

    Raises:
        FormatError: a record is damaged or no array, or none has a name.
    """
    if all(UNNAMED.fullmatch(name.removesuffix(SUFFIX)) for name in archive.records):
        raise FormatError(f"it is a NumPy archive of {len(archive.records):,} arrays without names", BY_NAME)
    arrays = Dict()
    for name in archive.records:
        arrays.add(name.removesuffix(SUFFIX), _read_array(*archive.locate(name), budget, names))
    return arrays


def read_npy(data: Whole, budget: Budget, names: Names) -> Any:
    """The object in a single array of objects.

    Raises:
        FormatError: it is damaged, or holds an array of numbers.
    """
    value = _read_array(data, 0, len(data), budget, names)
    if isinstance(value, NumpyArray):
        raise FormatError("it is one array of NumPy, expected a dict of arrays", BY_NAME)
    return value


def _read_array(data: Whole, start: int, end: int, budget: Budget, names: Names) -> Any:
    """An array, or what a single array of objects holds."""
    view = memoryview(data)[start:end]
    if bytes(view[:6]) != MAGIC or len(view) < 12:
        raise FormatError("it holds a file of NumPy that does not begin as one")
    wide = view[6] > 1
    length = int.from_bytes(view[8 : 12 if wide else 10], "little")
    begin = (12 if wide else 10) + length
    if length > LONGEST_HEADER or begin > len(view):
        raise FormatError(f"an array of NumPy is described by {length:,} bytes")
    text = bytes(view[begin - length : begin]).decode("latin-1")
    if (match := HEADER.fullmatch(text)) is None:
        raise FormatError(f"an array of NumPy is described by {shown(text.strip())}", BY_NAME)
    order, kind, size, fortran, sides = match.groups()
    shape = tuple(int(side) for side in re.findall(r"\d+", sides)[: MOST_DIMENSIONS + 1])
    if kind == "O":
        return _read_object(data, start + begin, end, budget, names)
    if f"{kind}{size}" not in NUMPY:
        raise FormatError(
            f"an array of NumPy is of {shown(kind + size)}, which is no number of torch", BY_NAME
        )
    dtype = NumpyDtype(f"{kind}{size}")
    dtype.build((3, order))
    array = NumpyArray()
    array.fill(shape, dtype, fortran == "True", view[begin:])
    return array


def _read_object(data: Whole, start: int, end: int, budget: Budget, names: Names) -> Any:
    """Returns what numpy pickled; nothing of it is run."""
    unpickler = Unpickler(data, start, end, budget, call, names=names)
    value = unpickler.load()
    if unpickler.position != end:
        raise FormatError(f"its pickle goes on for {end - unpickler.position:,} bytes after its end")
    objects = value.objects if isinstance(value, NumpyArray) else None
    return objects[0] if objects is not None and len(objects) == 1 else objects or value
