"""Networks whose initial values are not drawn, because a strict load overwrites them all."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# Some functions of torch.nn.init show themselves to a mode, others only what they call.
DRAWS = (
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.nn.init.normal_,
    torch.nn.init.uniform_,
    torch.nn.init.kaiming_normal_,
    torch.nn.init.kaiming_uniform_,
)


class SkipInit(TorchFunctionMode):
    """A context in which ``torch.nn.init`` leaves out the random draws; the rest is as always."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
