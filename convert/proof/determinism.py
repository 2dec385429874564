"""One function, the same bits: deterministic kernels in full precision, for the length of a proof."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch
import torchvision

# cuBLAS sums in a fixed order only with a workspace of a fixed size:
# https://docs.nvidia.com/cuda/cublas/#results-reproducibility
CUBLAS_WORKSPACE = ":4096:8"


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Deterministic algorithms, no reduced precision, no autotuning; the caller's flags are restored.

    To be entered before anything is moved to a GPU: cuBLAS reads its setting as it starts.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with _settings(_wanted(), "highest"), _cublas_workspace(device), warnings.catch_warnings():
        # An operation without a deterministic kernel is no reason to stop: what it
        # computes is compared to the bit.
        warnings.filterwarnings("ignore", message=".*does not have a deterministic", category=UserWarning)
        # The first product of a backward pass finds a thread without a CUDA context, and makes one.
        warnings.filterwarnings("ignore", message="Attempting to run cuBLAS", category=UserWarning)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 as it is for convolutions and products, by any kernel; the caller's flags are restored."""
    with _settings(_precision(reduced=False), "highest"):
        yield


@contextmanager
def tf32() -> Iterator[None]:
    """TF32 for convolutions and products on a GPU; the caller's flags are restored."""
    with _settings(_precision(reduced=True), "high"):
        yield


def _wanted() -> dict[str, Any]:
    """Value of each attribute below torch.backends."""
    return {"cudnn.deterministic": True, "cudnn.benchmark": False, **_precision(reduced=False)}


def _precision(*, reduced: bool) -> dict[str, Any]:
    # torch 2.9 replaced allow_tf32, and refuses a mixture of both.
    if hasattr(torch.backends.cudnn, "conv"):
        operations = ("cuda.matmul", "cudnn.conv", "mkldnn.matmul", "mkldnn.conv")
        return {f"{operation}.fp32_precision": "tf32" if reduced else "ieee" for operation in operations}
    return {"cuda.matmul.allow_tf32": reduced, "cudnn.allow_tf32": reduced}


def _get(path: str) -> Any:
    return attrgetter(path)(torch.backends)


def _set(path: str, value: object) -> None:
    head, _, name = path.rpartition(".")
    setattr(_get(head), name, value)


@contextmanager
def _settings(wanted: Mapping[str, Any], oldest: str) -> Iterator[None]:
    kept = {path: _get(path) for path in wanted}
    # Before torch 2.9 this alone governs oneDNN, and is in no attribute.
    precision = None if hasattr(torch.backends.cudnn, "conv") else torch.get_float32_matmul_precision()
    try:
        if precision:
            torch.set_float32_matmul_precision(oldest)
        for path, value in wanted.items():
            _set(path, value)
        yield
    finally:
        if precision:
            torch.set_float32_matmul_precision(precision)
        for path, value in kept.items():
            _set(path, value)


@contextmanager
def _cublas_workspace(device: torch.device) -> Iterator[None]:
    key = "CUBLAS_WORKSPACE_CONFIG"
    ours = device.type == "cuda" and key not in os.environ
    if ours:
        os.environ[key] = CUBLAS_WORKSPACE
    try:
        yield
    finally:
        if ours:
            del os.environ[key]


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and flags that the bits depend on, as they are inside ``deterministic``."""
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    if device.type == "cuda":
        versions["cuda"] = str(torch.version.cuda)
        versions["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return {
        "versions": versions,
        "flags": {
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            **{path: _get(path) for path in _wanted()},
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
    }


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the name of the GPU."""
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
