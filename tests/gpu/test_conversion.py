"""The whole job on a GPU: deterministic float32 to the bit, and everything else by a measured bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torchvision
from click.testing import CliRunner
from torch import Tensor, nn

from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES, DenseNet
from densenet_convert.proof.determinism import deterministic
from densenet_convert.proof.golden import compare_golden, take_golden
from densenet_convert.proof.inputs import draw, measured_shape
from densenet_convert.proof.tolerance import Setting, logits_of, measure, orders, precisions
from densenet_convert.random_weights import random_network


def compiled(network: nn.Module, x: Tensor) -> Tensor:
    return logits_of(torch.compile(network), x)


ON_CPU = [*precisions(torch.device("cpu")), *orders()]
ON_GPU = [*precisions(torch.device("cuda")), *orders(), Setting("compile", torch.float32, compiled)]
# One architecture shows on the CPU that the measure works.
CASES = [
    *(pytest.param("densenet121", "cpu", setting, id=f"121-cpu-{setting.name}") for setting in ON_CPU),
    *(
        pytest.param(a, "cuda", setting, marks=pytest.mark.gpu, id=f"{a[8:]}-cuda-{setting.name}")
        for a in ARCHITECTURES
        for setting in ON_GPU
    ),
]


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_converted_and_proven_to_the_bit(architecture: str, tmp_path: Path) -> None:
    arch = architecture.removeprefix("densenet")
    folder = str(tmp_path / architecture)
    arguments = ["--weights", "random", "--device", "cuda", "--output", folder, "--json"]
    result = CliRunner().invoke(main, ["torchvision", "--arch", arch, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    proof = json.loads(result.stdout)["verification"]
    assert proof["device"] == torch.cuda.get_device_name()
    assert set(proof["largest_difference"].values()) == {0.0}
    assert proof["flags"]["cudnn.deterministic"] is True
    again = CliRunner().invoke(main, ["verify", folder, "--device", "cuda"], catch_exceptions=False)
    assert again.exit_code == 0, again.output


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
    architecture: str, device: str, setting: Setting, record_property: Callable[[str, object], None]
) -> None:
    config = ARCHITECTURES[architecture]
    state = random_network(config, 0).state_dict()
    x = draw(measured_shape(config), seed=0).to(device)
    ours = network_of(DenseNet(config), state, device)
    theirs = network_of(torchvision.models.get_model(architecture), state, device)
    with deterministic(torch.device(device)):
        exact = logits_of(deepcopy(theirs).double(), x.double())
        found = measure(setting, ours, theirs, x, exact)
    record_property("error", asdict(found))
    print(f"{architecture} {device} {found}")
    assert found.ours > 0
    assert found.holds


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_golden_outputs_of_the_cpu_hold_on_a_gpu_and_the_other_way_round(architecture: str) -> None:
    config = ARCHITECTURES[architecture]
    network = random_network(config, 0).eval()
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for taken_on, compared_on in ((cpu, gpu), (gpu, cpu)):
        golden = take_golden(network, config, taken_on)
        assert 0 < compare_golden(network, golden, config, compared_on) < 1


def network_of(network: nn.Module, state: dict[str, Tensor], device: str) -> nn.Module:
    network.load_state_dict(state)
    return network.to(device).eval()
