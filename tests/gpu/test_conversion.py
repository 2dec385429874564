"""The whole job on a GPU: deterministic float32 to the bit, and everything else by a measured bound.

What is checked, and by which options of the command, is in benchmarks/gpu_steps.py, so that the test of
`make gpu` runs it where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL, in_names_of, state_dict_of
from click.testing import CliRunner
from gpu_steps import Subject, compiled_by, convert_and_verify, golden_both_ways, within_bound

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.proof.tolerance import Setting, orders, precisions

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ON_CPU = [*precisions(CPU), *orders(2)]
ON_GPU = [*precisions(GPU), *orders(2), compiled_by("inductor")]
# One architecture shows on the CPU that the measure works.
CASES = [
    *(pytest.param("densenet121", CPU, setting, id=f"121-cpu-{setting.name}") for setting in ON_CPU),
    *(
        pytest.param(a, GPU, setting, marks=pytest.mark.gpu, id=f"{a[8:]}-cuda-{setting.name}")
        for a in ARCHITECTURES
        for setting in ON_GPU
    ),
]


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_converted_and_proven_to_the_bit(architecture: str) -> None:
    assert convert_and_verify(ARCHITECTURES[architecture], GPU)["difference"] == 0


@pytest.mark.gpu
@pytest.mark.parametrize("dimensions", [1, 3])
def test_networks_of_monai_are_proven_to_the_bit(dimensions: int, tmp_path: Path) -> None:
    state = in_names_of("monai", state_dict_of(replace(SMALL, spatial_dims=dimensions)))
    proof = dc.convert(state, tmp_path / "new", device="cuda").receipt["verification"]
    assert set(proof["largest_difference"].values()) == {0.0}


@pytest.mark.gpu
def test_the_weights_written_on_a_gpu_are_those_written_on_the_cpu(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        folder = str(tmp_path / device)
        arguments = ["--arch", "121", "--weights", "random", "--device", device, "--output", folder]
        assert CliRunner().invoke(main, ["torchvision", *arguments]).exit_code == 0
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "cpu" / name).read_bytes() == (tmp_path / "cuda" / name).read_bytes()


@pytest.mark.parametrize(("architecture", "device", "setting"), CASES)
def test_our_error_in_every_setting_is_within_the_bound_of_the_reference(
    architecture: str,
    device: torch.device,
    setting: Setting,
    record_property: Callable[[str, object], None],
) -> None:
    found = within_bound(setting, Subject.of(ARCHITECTURES[architecture], device))
    record_property("error", asdict(found))
    print(f"{architecture} {device} {found}")


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_golden_outputs_of_the_cpu_hold_on_a_gpu_and_the_other_way_round(architecture: str) -> None:
    golden_both_ways(ARCHITECTURES[architecture], GPU)
