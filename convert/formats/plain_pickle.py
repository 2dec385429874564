"""Reads one pickle that holds everything, as ``pickle.dump`` writes it.

Source: ``TypedStorage.__reduce__`` in ``torch/storage.py``: each storage is the bytes of
a checkpoint of its own, in torch's format of before 1.6.
"""

from __future__ import annotations

from typing import Any

from .objects import call
from .raw import Whole
from .stand_ins import Dict
from .torch_legacy import read_legacy
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
