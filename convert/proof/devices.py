"""Which device a proof runs on, and a torch without the caller's modes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..errors import DeviceError
from ..tensors import announce_torch

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """Resolves ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    ``auto`` is a GPU where torch finds one; a GPU that is asked for by name is never
    replaced by the CPU.

    Raises:
        DeviceError: there is no such device.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,4}))?", name, re.ASCII)
    if match is None:
        raise DeviceError(f"{name!r} is no device for a proof, expected auto, cpu, cuda or cuda:N.")
    announce_torch()
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    # torch itself takes cuda:256 for cuda:0.
    if int(match[1] or 0) >= count:
        raise DeviceError(
            f"{name!r} was asked for, and torch {torch.__version__} finds {count or 'no'} CUDA "
            f"device{'s' * (count != 1)} here. Ask for `device='cpu'`, or install a torch and a driver that "
            "see the GPU."
        )
    return torch.device("cuda" if name == "auto" else name)


# A proof sets flags, folders and variables of the whole process.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def plain_torch() -> Iterator[None]:
    """Gradients on, no autocast, float32 on the CPU, whatever the caller's code has turned on or off.

    Other threads of the process wait for their turn.
    """
    import torch

    with _ONE_AT_A_TIME, ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        # Entered only where it changes something, for it slows every operation down.
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
