"""The modes of torch that see what runs while a network is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .operators import MAKERS, READS, tensors_in


def _holds_tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> bool:
    return next(tensors_in([*args[-1:], *(kwargs or {}).values()]), None) is not None


class Steps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives every operator to ``take``, which runs it."""

    def __init__(self, take: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.take = take

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.take(func, args, kwargs or {})


class Reads(TorchFunctionMode):
    """Notes what no operator shows, while ``is_watching`` says so."""

    def __init__(self, is_watching: Callable[[], bool], note: Callable[[str], None]) -> None:
        super().__init__()
        self.is_watching, self.note = is_watching, note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.is_watching():
            name = getattr(func, "__name__", "")
            if name in READS:
                self.note(f"its code reads values of a tensor in Python, by {name}")
            elif name in MAKERS and _holds_tensors(args, kwargs):
                self.note(f"its code makes a tensor of others' values, by {name}")
            elif torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
                self.note("its code uses autocast")
        return func(*args, **(kwargs or {}))
