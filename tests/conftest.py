"""The rule for GPU tests, and the share of the machine that a parallel worker takes."""

from __future__ import annotations

import os

# Parallel workers share the cores; a thread a worker is what there is.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

pytest_plugins = ["pytester"]

HAS_GPU = torch.cuda.is_available()
VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is no GPU test runs on the CPU, also where there is a GPU, and so do its fixtures."""
    on_gpu = HAS_GPU and item.get_closest_marker("gpu") is not None
    torch.cuda.is_available = lambda: on_gpu
    if HAS_GPU and not on_gpu:  # for the processes that a test starts
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif HAS_GPU and VISIBLE is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    elif HAS_GPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = VISIBLE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if HAS_GPU:
        return
    skip = pytest.mark.skip(reason=f"torch {torch.__version__} finds no CUDA device here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)
