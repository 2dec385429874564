"""The whole job on a GPU: deterministic float32 to the bit, and lower precisions by a measured bound.

Reduced precision can't be compared to the bit with float32.  The yardstick is a float64
run: our error against it may not exceed the reference's own by more than a factor.
Both networks run the same kernels, so their errors are equal where they are the same
function; FACTOR leaves room for kernels that sum in another order from run to run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torchvision
from click.testing import CliRunner
from torch import Tensor, nn

from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES, DenseNet
from densenet_convert.random_weights import random_network

FACTOR = 2.0

# One architecture shows on the CPU that the measure works.
WHERE = [("densenet121", "cpu"), *(pytest.param(a, "cuda", marks=pytest.mark.gpu) for a in ARCHITECTURES)]


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
    assert proof["flags"]["cudnn_deterministic"] is True
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


@contextmanager
def tf32() -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True):
        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)


def in_tf32(network: nn.Module, x: Tensor) -> Tensor:
    with tf32():
        return network.float()(x.float())


def in_dtype(dtype: torch.dtype) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda network, x: network.to(dtype)(x.to(dtype))


PRECISIONS = {"tf32": in_tf32, "bfloat16": in_dtype(torch.bfloat16), "float16": in_dtype(torch.float16)}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("architecture", "device"), WHERE)
def test_the_error_of_a_lower_precision_is_the_references_own(
    architecture: str, device: str, precision: str, record_property: Callable[[str, object], None]
) -> None:
    state = random_network(ARCHITECTURES[architecture], 0).state_dict()
    side = 224 if device == "cuda" else 64
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)).mul_(4).sub_(2).to(device)
    with torch.no_grad():
        exact = network_of(torchvision.models.get_model(architecture), state, device).double()(x.double())
        errors = {}
        for name, network in (
            ("ours", DenseNet(ARCHITECTURES[architecture])),
            ("reference", torchvision.models.get_model(architecture)),
        ):
            output = PRECISIONS[precision](network_of(network, state, device), x)
            errors[name] = (output.double() - exact).abs().max().item()
    for name, error in errors.items():
        record_property(f"largest error of {name}", error)
    print(
        f"{architecture} {device} {precision}: ours {errors['ours']:.3g}, reference {errors['reference']:.3g}"
    )
    # TF32 on a CPU is float32; what matters is that there is an error to compare.
    assert 0 < errors["ours"] <= FACTOR * errors["reference"]


def network_of(network: nn.Module, state: dict[str, Tensor], device: str) -> nn.Module:
    network.load_state_dict(state)
    return network.to(device).eval()
