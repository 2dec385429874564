"""Outputs that were recorded elsewhere must be those of the converted network, up to rounding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL, state_dict_of
from safetensors.torch import save_file
from torch import Tensor

import densenet_convert as dc
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import ParityError, ReadError

DOCUMENT = Path(__file__).parents[3] / "docs" / "own-network.md"
STATE = state_dict_of()


def network() -> DenseNet:
    model = DenseNet(SMALL)
    model.load_state_dict(STATE)
    return model.eval()


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    x = torch.rand(6, 3, 70, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return {"input": x, "outputs": network()(x)}


def converted(tmp_path: Path, outputs: Path, **options: Any) -> Any:
    written = dc.convert(STATE, tmp_path / "out", device="cpu", force=True, outputs=outputs, **options)
    return written.receipt["verification"]["outputs"]


def test_they_agree_up_to_rounding_and_the_receipt_says_how_far(
    tmp_path: Path, recorded: dict[str, Tensor]
) -> None:
    path = tmp_path / "outputs.safetensors"
    save_file(recorded, path)
    found = converted(tmp_path, path)
    assert found["images"] == 6
    assert 0 <= found["largest"] <= found["bound"] < 1e-4
    proof = dc.verify(tmp_path / "out", device="cpu", outputs=path).proof
    assert proof.outputs is not None
    assert proof.outputs.sha256 == found["sha256"]


def test_the_code_of_the_document_records_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(import json.*?)```", DOCUMENT.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("224", "64"), {"model": network()})
    assert converted(tmp_path, tmp_path / "outputs.safetensors")["images"] == 32


@pytest.mark.parametrize("change", [torch.sigmoid, lambda outputs: outputs * 1.0001, torch.relu])
def test_outputs_of_another_function_fail(change: Any, tmp_path: Path, recorded: dict[str, Tensor]) -> None:
    path = tmp_path / "outputs.safetensors"
    save_file({**recorded, "outputs": change(recorded["outputs"])}, path)
    with pytest.raises(ParityError, match="largest difference is"):
        converted(tmp_path, path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": torch.zeros(6, 3, 64, 64)}, "holds x, expected the tensors input and outputs"),
        ({"outputs": torch.zeros(6, 4)}, r"outputs in .* is float32 \[6, 4\], expected .* \[6, 5\]"),
        ({"outputs": torch.zeros(5, 5)}, r"is float32 \[5, 5\], expected floats of shape \[6, 5\]"),
        ({"input": torch.zeros(6, 1, 64, 64)}, r"input in .* is float32 \[6, 1, 64, 64\]"),
        ({"outputs": torch.zeros(6, 5, dtype=torch.int64)}, "is int64"),
        ({"input": torch.zeros(4, 3, 64, 64), "outputs": torch.zeros(4, 5)}, "Record those of 5 images"),
    ],
)
def test_a_file_that_tells_nothing_is_refused(
    tensors: dict[str, Tensor], message: str, tmp_path: Path, recorded: dict[str, Tensor]
) -> None:
    path = tmp_path / "outputs.safetensors"
    save_file(tensors if "x" in tensors else {**recorded, **tensors}, path)
    with pytest.raises(ReadError, match=message):
        converted(tmp_path, path)
