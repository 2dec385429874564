"""Old checkpoints, read and renamed by the converter, give what torchvision's own network gave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet
from densenet_convert.layouts.network import identify_network
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.proof.load import load_model
from densenet_convert.records import Loaded, Options
from densenet_convert.source.read import read_checkpoint

FIXTURES = Path(__file__).parents[3] / "fixtures"
GOLDEN = json.loads((FIXTURES / "golden.json").read_text(encoding="utf-8"))
CHECKPOINTS = {
    "torchvision-dotted-legacy.pth": ("torch-legacy", "torchvision-dotted", 0),
    "torchvision-dotted-counted-legacy.pth": ("torch-legacy", "torchvision-dotted", 64),
    "torchvision-zip.pth": ("torch-zip", "torchvision", 64),
}
# golden.json holds 12 digits of a float64 run, of values below 10.
ROUNDED = 1e-10


@pytest.fixture(scope="module", params=CHECKPOINTS)
def loaded(request: pytest.FixtureRequest) -> Loaded:
    checkpoint = read_checkpoint(FIXTURES / request.param)
    network = identify_network(checkpoint, Options())
    return load_model(rename_tensors(checkpoint, network.reading), network.config)


@pytest.fixture(params=[1, 2], ids=("1 thread", "2 threads"))
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def input_of(name: str) -> Tensor:
    recipe = GOLDEN["inputs"][name]
    generator = torch.Generator().manual_seed(recipe["seed"])
    x = torch.rand(recipe["shape"], generator=generator).mul_(4).add_(-2)
    assert float(x.double().sum()) == recipe["sum"], "this is not the input that was recorded"
    return x


def layers_and_logits(network: DenseNet, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Output of every module that golden.json may name, cloned because the ReLUs work in place."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: seen.update({name: output.detach().clone().double()})

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in network.features.named_modules(prefix="features")
        if name != "features" and not isinstance(module, nn.ReLU)
    ]
    with torch.no_grad():
        logits = network(x).double()
    for handle in handles:
        handle.remove()
    return seen, logits


def assert_golden(network: DenseNet, x: Tensor, name: str, bound: float | None) -> None:
    """Compares with the recorded values, by one bound for all or, with None, by the recorded ones."""
    expected = GOLDEN["outputs"][name]
    layers, logits = layers_and_logits(network, x)
    assert set(layers) == set(expected["layers"])
    beyond = []
    for layer, output in layers.items():  # in the order of the forward pass: the first is the cause
        golden = expected["layers"][layer]
        found = {"min": output.min(), "max": output.max(), "mean": output.mean()}
        limit = golden["bound"] if bound is None else bound
        beyond += [
            f"{layer}: {statistic} is {float(value)}, recorded {golden[statistic]} within {limit}"
            for statistic, value in found.items()
            if not abs(float(value) - golden[statistic]) <= limit
        ]
    assert not beyond
    difference = (logits - torch.tensor(expected["logits"]["values"], dtype=torch.float64)).abs().max()
    assert float(difference) <= (expected["logits"]["bound"] if bound is None else bound)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("name", GOLDEN["inputs"])
def test_an_old_checkpoint_gives_torchvision_s_recorded_outputs(loaded: Loaded, name: str) -> None:
    assert_golden(loaded.model, input_of(name), name, bound=None)


@pytest.mark.parametrize("name", GOLDEN["inputs"])
def test_in_float64_it_gives_the_recorded_digits(loaded: Loaded, name: str) -> None:
    network = DenseNet(loaded.config).double().eval()
    network.load_state_dict(loaded.model.state_dict())
    assert_golden(network, input_of(name).double(), name, bound=ROUNDED)


def test_format_layout_config_and_counters_are_as_recorded(
    loaded: Loaded, request: pytest.FixtureRequest
) -> None:
    file_format, layout, passes = CHECKPOINTS[request.node.callspec.params["loaded"]]
    assert loaded.renamed.checkpoint.format == file_format
    assert loaded.renamed.reading.layout.name == layout
    assert {key: getattr(loaded.config, key) for key in GOLDEN["network"]} == {
        **GOLDEN["network"],
        "block_config": tuple(GOLDEN["network"]["block_config"]),
    }
    counters = [t for name, t in loaded.model.state_dict().items() if name.endswith("num_batches_tracked")]
    assert {int(counter) for counter in counters} == {passes}


def test_the_three_checkpoints_hold_the_same_weights() -> None:
    first, *others = (sorted_weights(name) for name in CHECKPOINTS)
    for other in others:
        assert len(other) == len(first)
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def sorted_weights(name: str) -> list[Tensor]:
    """By name without dots, which is the same in all of them."""
    tensors = torch.load(FIXTURES / name, weights_only=True)
    kept = {key.replace(".", ""): tensor for key, tensor in tensors.items() if "num_batches" not in key}
    return [kept[key] for key in sorted(kept)]


def test_the_recorded_inputs_reach_the_weights(loaded: Loaded) -> None:
    """A bound on dead channels: a fault in a weight that no output depends on can't be seen."""
    network = DenseNet(loaded.config).eval()
    network.load_state_dict(loaded.model.state_dict())
    seen = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in network.named_parameters()}
    for name in GOLDEN["inputs"]:
        for logit in range(loaded.config.num_classes):
            network.zero_grad()
            network(input_of(name))[:, logit].sum().backward()
            for key, parameter in network.named_parameters():
                assert parameter.grad is not None
                seen[key] |= parameter.grad != 0
    assert [key for key, elements in seen.items() if not elements.all()] == []


def test_the_fixtures_stay_under_one_megabyte() -> None:
    assert sum(file.stat().st_size for file in FIXTURES.rglob("*") if file.is_file()) < 1_000_000
