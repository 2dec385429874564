"""A network at hand is converted as its owner runs it, and is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import own_networks
import pytest
import torch
from checkpoints import state_dict_of
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import densenet_convert as dc
from densenet_convert.errors import ConvertError, FolderError, OwnNetworkError, ReadError
from densenet_convert.folder.records import Written
from densenet_convert.results import EQUAL
from densenet_convert.source.memory import copy_of, read_memory


def converted(source: Any, tmp_path: Path, **options: Any) -> Written:
    return dc.convert(source, tmp_path / "out", device="cpu", force=True, **options)


def own_of(written: Written) -> Any:
    return written.receipt["verification"]["own_network"]


class Counting(own_networks.Own):
    """Counts its runs, and holds something beside its tensors."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return super().forward(x)


def test_the_network_at_hand_is_never_run_moved_or_written(tmp_path: Path) -> None:
    network = Counting().train()
    before = {name: one.clone() for name, one in network.state_dict().items()}
    written = converted(network, tmp_path)
    assert (network.runs, network.training) == (0, True)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert own_of(written)["every_input"] == {"logits": EQUAL, "gradients": EQUAL, "buffers": EQUAL}
    source = written.receipt["source"]
    assert (source["origin"], source["format"], own_of(written)["name"]) == ("memory", "memory", "memory")
    assert written.receipt["assumptions"] == []


def pruned(network: nn.Module) -> None:
    prune.l1_unstructured(network.features.conv0, "weight", 0.5)
    prune.random_unstructured(network.fc, "bias", 0.2)


REWRITES: dict[str, Callable[[nn.Module], object]] = {
    "pruned": pruned,
    "weight norm": lambda network: weight_norm(network.fc),
    "weight norm by parametrizations": lambda network: parametrizations.weight_norm(network.fc),
    "spectral norm": lambda network: spectral_norm(network.fc),
    "spectral norm by parametrizations": lambda network: parametrizations.spectral_norm(network.fc),
}


@pytest.mark.parametrize("kind", REWRITES)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_is_computed_of_parameters_alone_is_folded(kind: str, tmp_path: Path) -> None:
    network = own_networks.Own()
    REWRITES[kind](network)
    before = list(network.state_dict())
    written = converted(network, tmp_path)
    assert own_of(written)["every_input"]["logits"] == EQUAL
    assert list(network.state_dict()) == before
    network.eval()(torch.rand(2, 3, 64, 64))  # it still runs


def wrapped_in_parallel() -> nn.Module:
    return nn.DataParallel(own_networks.Own())


def compiled() -> nn.Module:
    network: nn.Module = torch.compile(own_networks.Own())
    return network


def scripted() -> nn.Module:
    network: nn.Module = torch.jit.script(own_networks.plain())
    return network


@pytest.mark.parametrize("build", [wrapped_in_parallel, compiled, scripted])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad")
def test_wrappers_are_read_through(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    written = converted(build(), tmp_path)
    assert own_of(written)["every_input"]["logits"] == EQUAL
    assert written.receipt["source"]["prefix"] == ""


def test_half_precision_runs_as_float32_with_exact_weights(tmp_path: Path) -> None:
    written = converted(own_networks.plain().half(), tmp_path)
    assert written.receipt["verification"]["dtype"] == "float32"
    assert {entry["dtype"] for entry in written.receipt["tensors"]} == {"float16", "int64"}


def test_a_hook_that_changes_values_is_named(tmp_path: Path) -> None:
    network = own_networks.plain()
    network.features.denseblock1.register_forward_hook(lambda _module, _input, output: output * 2)
    with pytest.raises(ConvertError, match=r"at features\.transition1\.norm it runs .* aten\.mul\.Tensor"):
        converted(network, tmp_path)


def test_a_part_of_something_larger_is_advised_as_python_says_it(tmp_path: Path) -> None:
    network = nn.ModuleDict({"backbone": own_networks.Own(), "decoder": nn.Conv2d(8, 4, 3)})
    with pytest.raises(ConvertError, match=r"dc\.convert\(SOURCE, OUTPUT, only='backbone\.'\)"):
        converted(network, tmp_path)


class Locked(own_networks.Own):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("cannot pickle '_thread.lock' object")


def test_what_can_not_be_copied_is_refused_with_the_way_by_its_state_dict(tmp_path: Path) -> None:
    with pytest.raises(OwnNetworkError, match=r"_thread\.lock.*convert\(model\.state_dict\(\), output\)"):
        converted(Locked(), tmp_path)
    assert converted(Locked().state_dict(), tmp_path).receipt["source"]["origin"] == "memory"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize")
def test_a_quantized_network_is_refused_by_name() -> None:
    torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    network = torch.ao.quantization.quantize_dynamic(own_networks.Own().eval(), {nn.Linear})
    with pytest.raises(OwnNetworkError, match="fc is quantized"):
        copy_of(network)


def test_a_mapping_of_names_to_tensors_is_a_source_and_its_digest_tells_them_apart(tmp_path: Path) -> None:
    state = state_dict_of()
    written = converted(state, tmp_path)
    assert dc.verify(written.folder, source=state, device="cpu").proof.largest["logits"] == 0
    other = {**state, "classifier.bias": state["classifier.bias"] + 1}
    with pytest.raises(ConvertError, match="in memory is not the source"):
        dc.verify(written.folder, source=other, device="cpu")
    swapped = dict(reversed(state.items()))
    assert len({read_memory(one).sha256 for one in (state, other, swapped)}) == 3
    assert json.loads((written.folder / "conversion.json").read_bytes())["source"]["size"] == sum(
        tensor.nbytes for tensor in state.values()
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "no tensor"),
        ({"epoch": 3}, "Under 'epoch' stands a int"),
        ({1: torch.zeros(1)}, "Under '1' stands a Tensor"),
        ({"w": torch.zeros(1, device="meta")}, "w is meta"),
        ({"w": torch.zeros(2, 2).to_sparse()}, "w is meta, quantized or sparse"),
    ],
)
def test_what_is_no_mapping_of_tensors_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        read_memory(source)


def test_inspect_takes_what_convert_takes() -> None:
    found = dc.inspect(own_networks.WithoutRelu(), hashes=True)
    assert (found.path, found.format, found.layout, found.problem) == (None, "memory", "torchvision", None)
    assert found.config is not None
    assert found.config.num_classes == 5
    assert all(tensor.sha256 for tensor in found.tensors)
    assert dc.inspect(state_dict_of()).layout == "torchvision"


def test_a_folder_is_verified_with_the_network_at_hand(tmp_path: Path) -> None:
    network = own_networks.Own()
    written = converted(network, tmp_path)
    proof = dc.verify(written.folder, source=network, device="cpu").proof
    assert proof.own is not None
    assert proof.own.every_input.holds
    with pytest.raises(OwnNetworkError, match="its own reference"):
        converted(network, tmp_path, reference="own_networks:Own")


def test_a_file_names_its_folder_and_what_is_in_memory_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chest").mkdir()
    with pytest.raises(FolderError, match="^chest exists and is left alone"):
        dc.convert("chest.pth.tar")
    with pytest.raises(FolderError, match=r"no name that its folder could have: state `output=\.\.\.`"):
        dc.convert({})
