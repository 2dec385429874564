"""Reads the tensors of TorchScript archives, as data: their program is never run.

Such an archive is one of ``torch.save`` whose object is a module of its own classes: attributes of it are
tensors, settings and the modules within.

Source of the layout: ``torch/csrc/jit/docs/serialization.md``.
"""

from __future__ import annotations

from typing import Any

from .archive import Archive
from .modules import DEEPEST_MODULE, tensor_in
from .stand_ins import Dict, Stub
from .unpickle import PAIR
from .untrusted import Budget, FormatError, Global

CLASSES = "__torch__"
CONSTANTS = "constants.pkl"
SAVE_AGAIN = "Save the state_dict() of the module that it was made from."


def is_script(archive: Archive) -> bool:
    """Whether a zip holds a program beside its object."""
    return any(name.partition("/")[2] == CONSTANTS for name in archive.records)


def script_state(root: Any, budget: Budget) -> Dict:
    """The tensors of all modules by the paths of their attributes.

    Raises:
        FormatError: it holds none, as a module that was frozen, or is no module.
    """
    if not _is_module(root):
        raise FormatError("it is a TorchScript archive, and its object is no module", SAVE_AGAIN)
    state = Dict()
    waiting: list[tuple[str, Stub]] = [("", root)]
    while waiting:
        prefix, module = waiting.pop()
        inner = []
        for name, value in module.state.pairs if isinstance(module.state, Dict) else ():
            if not isinstance(name, str):
                raise FormatError("it is a TorchScript archive of which a part has no name", SAVE_AGAIN)
            budget.take(PAIR + len(prefix) + len(name))
            if tensor_in(value) is not None:
                state.add(f"{prefix}{name}", value)
            elif _is_module(value):
                inner.append((f"{prefix}{name}.", value))
        waiting += reversed(inner)
        if prefix.count(".") > DEEPEST_MODULE:
            raise FormatError("it is a TorchScript archive whose modules hold one another without end")
    if not state.pairs:
        raise FormatError(
            "it is a TorchScript archive whose weights are constants of its program, as freezing leaves them",
            SAVE_AGAIN,
        )
    return state


def _is_module(value: Any) -> bool:
    return (
        isinstance(value, Stub)
        and isinstance(value.callee, Global)
        and value.callee.module.partition(".")[0] == CLASSES
    )
