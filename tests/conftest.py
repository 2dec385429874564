"""What tests share: the rule for GPU tests, a worker's share of the machine, a checkpoint and its folder."""

from __future__ import annotations

import os

# Parallel workers share the cores; a thread a worker is what there is.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch
from checkpoints import in_2017_names, save, state_dict_of

import densenet_convert

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


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The checkpoint of a small network, under torchvision's names of 2017."""
    return save(in_2017_names(state_dict_of()), tmp_path / "source.pth")


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a source like that is converted to; ``source.pth`` is beside it, and no test may change either."""
    return _convert(tmp_path_factory.mktemp("converted"), golden=False)


@pytest.fixture(scope="session")
def converted_with_golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with golden outputs."""
    return _convert(tmp_path_factory.mktemp("golden"), golden=True)


def _convert(parent: Path, *, golden: bool) -> Path:
    source = save(in_2017_names(state_dict_of()), parent / "source.pth")
    return densenet_convert.convert(source, parent / "out", device="cpu", golden=golden).folder
