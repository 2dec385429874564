"""Which device a proof runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import DeviceError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """Resolves ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    ``auto`` is a GPU where torch finds one; a GPU that is asked for by name is never
    replaced by the CPU.

    Raises:
        DeviceError: there is no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is no device, expected auto, cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"A proof can't run on {name!r}, expected auto, cpu, cuda or cuda:N.")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"{name!r} was asked for, and torch {torch.__version__} finds "
                f"{count or 'no'} CUDA device{'s' * (count != 1)} here. Ask for --device cpu, or install a "
                "torch and a driver that see the GPU."
            )
    return device
