"""A proof runs in full precision with deterministic kernels, and leaves the caller's flags as they were."""

from __future__ import annotations

import warnings

import pytest
import torch

from densenet_convert.proof.determinism import deterministic, environment


def flags() -> dict[str, object]:
    return {
        **environment(torch.device("cpu"))["flags"],
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "filters": list(warnings.filters),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_flags_are_set_inside_and_restored_afterwards(fails: bool) -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        before = flags()
        try:
            with deterministic():
                inside = flags()
                if fails:
                    raise RuntimeError("the proof failed")
        except RuntimeError:
            pass
        assert flags() == before
    finally:
        torch.set_float32_matmul_precision("highest")
    assert inside["deterministic_algorithms"] is True
    assert inside["cudnn_deterministic"] is True
    assert inside["cudnn_benchmark"] is False
    assert inside["cudnn_tf32"] is False
    assert inside["float32_matmul_precision"] == "highest"


def test_the_versions_that_the_bits_depend_on_are_stated() -> None:
    versions = environment(torch.device("cpu"))["versions"]
    assert versions["torch"] == torch.__version__
    assert set(versions) == {"python", "torch", "torchvision"}
