"""onnx and onnxruntime: the one extra that is needed, and how a model is run by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...errors import LayoutError

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

# They send the network elsewhere, or compile it by rules of their own.
NOT_RUN = {"AzureExecutionProvider"}
# Convolutions in TF32 are the provider's default.
OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def onnx_and_runtime() -> tuple[Any, Any]:
    """Returns the modules ``onnx`` and ``onnxruntime``.

    Raises:
        LayoutError: one of them is not installed.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.inliner
        import onnx.shape_inference
        import onnx.utils
        import onnxruntime  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise LayoutError(
            f'ONNX needs the package {error.name}. Install it with: pip install "densenet-convert[onnx]"'
        ) from error
    return onnx, onnxruntime


@dataclass(frozen=True)
class Way:
    """One way in which onnxruntime runs a model.

    Attributes:
        provider: the execution provider.
        level: of the graph's optimisation.
        threads: within an operator; 0 leaves it to the runtime.
    """

    provider: str = "CPUExecutionProvider"
    level: str = "ORT_DISABLE_ALL"
    threads: int = 0

    def __str__(self) -> str:
        return f"{self.provider.removesuffix('ExecutionProvider')}, {self.level.removeprefix('ORT_')}"

    @property
    def without_levels(self) -> Way:
        """The same, and nothing of the graph optimised."""
        return replace(self, level=LEVELS[0])


def ways() -> Iterator[Way]:
    """Yields every way that is there: each provider at each level of optimisation."""
    _, runtime = onnx_and_runtime()
    for provider in runtime.get_available_providers():
        if provider not in NOT_RUN:
            yield from (Way(provider, level) for level in LEVELS)


class Session:
    """A model in onnxruntime."""

    def __init__(self, model: ModelProto, way: Way) -> None:
        _, runtime = onnx_and_runtime()
        options = runtime.SessionOptions()
        options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, way.level)
        options.intra_op_num_threads = way.threads
        options.log_severity_level = 4  # what fails raises
        self._session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=[(way.provider, OPTIONS.get(way.provider, {}))]
        )
        self.runs_there = way.provider in self._session.get_providers()

    def run(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Returns every output, in the model's order."""
        fed = {name: np.ascontiguousarray(value.numpy()) for name, value in inputs.items()}
        return [torch.from_numpy(np.atleast_1d(one)) for one in self._session.run(None, fed)]


def optimised(model: ModelProto, level: str, file: Path) -> ModelProto:
    """Returns a model as onnxruntime saves it at a level of optimisation."""
    onnx, runtime = onnx_and_runtime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(file)
    options.log_severity_level = 4
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    saved: ModelProto = onnx.load(file)
    return saved
