"""Reads and writes one pickle that holds everything, as ``pickle.dump`` writes it.

``write_arrays`` writes opcode by opcode: its bytes depend on the names and the arrays alone, and not on
numpy's version, as those of numpy's own pickles do.

Source: ``TypedStorage.__reduce__`` in ``torch/storage.py``: each storage is the bytes of
a checkpoint of its own, in torch's format of before 1.6.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from .objects import NUMPY, call
from .raw import Whole
from .stand_ins import Dict
from .torch_legacy import Elements, read_legacy
from .unpickle import Names, Unpickler
from .untrusted import Budget, Global

# Under it Paddle keeps names of its own for the tensors of a state dict.
PADDLE_NAMES = "StructuredToParameterName@@"


def read_first_pickle(data: Whole, budget: Budget, names: Names) -> tuple[Any, int]:
    """The object of the pickle with which ``data`` begins, and where it ends.

    Raises:
        FormatError: there is no whole and sound one.
    """

    def call_or_load(callee: Any, args: Any) -> Any:
        if (
            callee == Global("torch.storage", "_load_from_bytes")
            and isinstance(args, tuple)
            and len(args) == 1
        ):
            (octets,) = args
            if isinstance(octets, memoryview):  # it can't be searched
                budget.take(len(octets))
                octets = bytes(octets)
            return read_legacy(octets, budget, names)
        return call(callee, args)

    unpickler = Unpickler(data, 0, len(data), budget, call_or_load, names=names)
    value = unpickler.load()
    return value, unpickler.position


def without_paddle_names(root: Any, budget: Budget) -> Any:
    """Returns the file's object without Paddle's table of what it calls the tensors itself, where it has one.

    Source: ``_build_saved_state_dict`` in ``python/paddle/framework/io.py`` of Paddle 2.6.
    """
    if type(root) is not Dict:
        return root
    budget.take(len(root.pairs))
    root.pairs = [pair for pair in root.pairs if pair[0] != PADDLE_NAMES]
    return root


def write_arrays(tensors: Mapping[str, Elements], file: BinaryIO) -> None:
    """Writes a dict of arrays of numpy, as Paddle loads one; every numpy and Python 3 reads it.

    Source: ``array_reduce`` and ``arraydescr_reduce`` in ``numpy/_core/src/multiarray``.

    Raises:
        KeyError: numpy has no such dtype.
    """
    letters = {name: letter for letter, name in NUMPY.items()}
    file.write(pickle.PROTO + b"\4" + pickle.EMPTY_DICT + pickle.MARK)
    for name, tensor in tensors.items():
        file.write(_text(name) + _global("numpy.core.multiarray", "_reconstruct"))
        file.write(_global("numpy", "ndarray") + _number(0) + pickle.TUPLE1 + _octets(b"b") + pickle.TUPLE3)
        file.write(pickle.REDUCE + pickle.MARK + _number(1))
        file.write(pickle.MARK + b"".join(map(_number, tensor.shape)) + pickle.TUPLE)
        file.write(_dtype(letters[tensor.dtype]) + pickle.NEWFALSE + _octets(tensor.data))
        file.write(pickle.TUPLE + pickle.BUILD)
    file.write(pickle.SETITEMS + pickle.STOP)


def _dtype(letters: str) -> bytes:
    """numpy.dtype(letters, False, True), and its state: little-endian, and nothing else."""
    made = _global("numpy", "dtype") + _text(letters) + pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3
    state = _number(3) + _text("<") + 3 * pickle.NONE + 2 * _number(-1) + _number(0)
    return made + pickle.REDUCE + pickle.MARK + state + pickle.TUPLE + pickle.BUILD


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _number(number: int) -> bytes:
    return pickle.BININT + struct.pack("<i", number)


def _text(text: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(text.encode())) + text.encode()


def _octets(data: bytes | memoryview) -> bytes:
    return pickle.BINBYTES8 + struct.pack("<Q", len(data)) + bytes(data)
