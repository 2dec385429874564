"""Holds the settings of a graph's operators against those of the layers."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.padding import _ConstantPadNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from ...errors import ParityError
from .align import ADVICE
from .followed import Unit

# The value of each where a node does not state it.
DEFAULTS: dict[str, Any] = {
    "strides": 1,
    "dilations": 1,
    "pads": 0,
    "group": 1,
    "ceil_mode": 0,
    "epsilon": 1e-5,
    "training_mode": 0,
    "alpha": 1.0,
    "beta": 1.0,
    "transA": 0,
}
# Paddings that depend on the size of the input: what they come to is seen where the layer runs.
BY_SIZE = (b"SAME_UPPER", b"SAME_LOWER")


def check_settings(unit: Unit) -> None:
    """Compares what the operators of a unit are told, as far as they state it in the layer's own terms.

    Raises:
        ParityError: a setting differs.
    """
    node = unit.nodes[0]
    expected = _expected(unit)
    if node.attributes.get("auto_pad") in BY_SIZE:
        expected.pop("pads", None)
    for name, value in expected.items():
        found = node.attributes.get(name, DEFAULTS.get(name))
        if found is not None and not _same(found, value):
            raise ParityError(
                f"{node} has {name} {found}, expected {value}.",
                where=unit.layer,
                largest=float("inf"),
                advice=ADVICE,
            )


def _expected(unit: Unit) -> dict[str, Any]:
    module, op = unit.steps[0].module, unit.nodes[0].op
    match module:
        case _ConstantPadNd() if op != "Pad":
            inner = _of_window(cast(nn.Module, unit.steps[1].module))
            # torch begins with the last side, ONNX with the first.
            before, after = list(module.padding[::2])[::-1], list(module.padding[1::2])[::-1]
            return {**inner, "pads": [*before, *after]}
        case _ConvNd() | _MaxPoolNd() | _AvgPoolNd():
            return _of_window(module)
        case _BatchNorm() if op == "BatchNormalization":
            return {"epsilon": float(np.float32(module.eps)), "training_mode": 0}
        case nn.Linear() if op == "Gemm":
            return {"alpha": 1.0, "beta": 1.0, "transA": 0}
    return {}


def _of_window(module: nn.Module) -> dict[str, Any]:
    """Returns the settings of what goes over the image in windows."""
    settings: dict[str, Any] = {
        "kernel_shape": module.kernel_size,
        "strides": module.stride,
        "pads": module.padding,
    }
    if isinstance(module, _ConvNd):
        return {**settings, "dilations": module.dilation, "group": module.groups}
    return {**settings, "ceil_mode": int(cast(bool, module.ceil_mode))}


def _same(found: Any, expected: Any) -> bool:
    """Whether two settings agree, either of which may be one number for every side."""
    one, other = (list(value) if isinstance(value, list | tuple) else [value] for value in (found, expected))
    count = max(len(one), len(other))
    return one * (count // len(one)) == other * (count // len(other))
