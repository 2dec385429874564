"""One exported network, which these tests share: an export takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

import densenet_convert as dc
from densenet_convert.proof.exported.by_torch import FIRST_TORCH

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")


@pytest.fixture(scope="session")
def exported(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> dc.Exported:
    """The shared conversion in ONNX's format, for images of any size; no test may change it."""
    _require_exporter()
    return dc.export(converted, "onnx", tmp_path_factory.mktemp("exported") / "any.onnx", dynamic_size=True)


def _require_exporter() -> None:
    if Version(torch.__version__) < Version(FIRST_TORCH):
        pytest.skip(f"a network is exported by torch {FIRST_TORCH} or newer, and this is {torch.__version__}")


@pytest.fixture
def changed(exported: dc.Exported, tmp_path: Path) -> Callable[[Callable[[Any], object]], Path]:
    """Writes a copy of it that a function has changed."""

    def write(change: Callable[[Any], object]) -> Path:
        model = onnx.load(exported.path)
        change(model)
        onnx.save(model, tmp_path / "changed.onnx")
        return tmp_path / "changed.onnx"

    return write
