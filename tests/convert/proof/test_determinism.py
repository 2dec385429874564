"""A proof runs in full precision with deterministic kernels, and leaves the caller's flags as they were."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch

from densenet_convert.proof import determinism
from densenet_convert.proof.determinism import deterministic, environment

CPU = torch.device("cpu")


def flags() -> dict[str, object]:
    return {
        **environment(CPU)["flags"],
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
    }


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The flags that a test changes are the process's."""
    with determinism._settings(determinism._wanted(), "highest"):
        yield


def lower(backend: str, precision: str) -> Callable[[], None]:
    def change() -> None:
        if not hasattr(torch.backends.cudnn, "conv"):
            pytest.skip(f"torch {torch.__version__} has no fp32_precision")
        determinism._set(f"{backend}.fp32_precision", precision)

    return change


CALLERS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "TF32 in matrix products": lower("cuda.matmul", "tf32"),
    "TF32 in convolutions": lower("cudnn.conv", "tf32"),
    "bfloat16 on the CPU": lower("mkldnn.conv", "bf16"),
    "autotuning": lambda: determinism._set("cudnn.benchmark", True),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("caller", CALLERS)
def test_flags_are_set_inside_and_restored_afterwards(caller: str, fails: bool) -> None:
    CALLERS[caller]()
    before = flags()
    inside: dict[str, object] = {}
    try:
        with deterministic(CPU):
            inside = flags()
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert flags() == before
    assert inside["deterministic_algorithms"] is True
    for path, value in determinism._wanted().items():
        assert inside[path] == value


def test_cublas_is_set_to_be_deterministic_only_for_a_gpu_and_only_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(torch.device("cuda")):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with deterministic(CPU):
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic(torch.device("cuda")):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_versions_that_the_bits_depend_on_are_stated() -> None:
    versions = environment(CPU)["versions"]
    assert versions["torch"] == torch.__version__
    assert set(versions) == {"python", "torch", "torchvision"}
