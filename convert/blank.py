"""Networks whose initial values are not drawn, because a strict load overwrites them all."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class NothingDrawn(TorchFunctionMode):
    """A context in which ``torch.nn.init`` leaves out the random draws; the rest is as always."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))
