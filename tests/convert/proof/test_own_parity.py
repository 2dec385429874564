"""The owner's own network is the reference: what it computes otherwise is named, and never called equal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import own_networks
import pytest
import torch
from checkpoints import checkpoint_of
from click.testing import CliRunner
from torch import nn

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import OwnNetworkError, ParityError
from densenet_convert.layouts.network import identify_network
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.proof.load import load_model
from densenet_convert.proof.own_parity import compare_own
from densenet_convert.proof.references.own_network import load_own
from densenet_convert.records import Checkpoint, Loaded, Options
from densenet_convert.results import DIFFERS, EQUAL, UNKNOWN, OwnParity

CPU = torch.device("cpu")


def trained(build: Any) -> nn.Module:
    """A network whose norms and biases are as far from 0 and 1 as training leaves them."""
    torch.manual_seed(0)
    network: nn.Module = build()
    generator = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network


def loaded_from(checkpoint: Checkpoint, **options: Any) -> Loaded:
    found = identify_network(checkpoint, Options(reference="own_networks:any", **options))
    return load_model(rename_tensors(checkpoint, found.reading), found.config)


def compared(name: str, *, output: str | None = None, size: str | None = None, **options: Any) -> OwnParity:
    network = trained(getattr(own_networks, name))
    checkpoint = checkpoint_of(dict(network.state_dict()))
    loaded = loaded_from(checkpoint, **options)
    own = load_own(f"own_networks:{name}", checkpoint)
    return compare_own(loaded, own, CPU, output=output, input_size=size)


@pytest.mark.parametrize(
    "name", ["plain", "Own", "parallel", "in_sequence", "frozen", "InTuple", "InDataclass"]
)
def test_the_same_operations_are_equal_for_every_input(name: str) -> None:
    found = compared(name, **({"only": "0.", "head": "4"} if name == "in_sequence" else {}))
    assert found.every_input.holds
    assert (found.largest, found.bound, found.around, found.refused) == (0, 0, (), ())
    assert [mode for mode, _ in found.inputs] == ["eval", "train"]
    assert len(found.sha256 or "") == 64


def test_a_network_without_the_last_relu_is_named_with_the_option_that_says_so() -> None:
    with pytest.raises(
        ParityError, match=r"aten\.relu_.*and the reference.*aten\.mean.*`final_relu=False`"
    ) as raised:
        compared("WithoutRelu")
    assert raised.value.where == "features.norm5"
    assert compared("WithoutRelu", final_relu=False).every_input.holds
    with pytest.raises(ParityError, match="`final_relu=True`"):
        compared("Own", final_relu=False)


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("WithMaximum", "aten.amax"),
        ("AlwaysDropping", "something else each time"),
        ("WithEpsilon", r"\(False, 1e-05\), and the reference, .*\(False, 0\.001\)"),
    ],
)
def test_another_function_is_named_by_its_first_step(name: str, operator: str) -> None:
    with pytest.raises(ParityError, match=operator):
        compared(name)


@pytest.mark.parametrize(
    ("name", "operators", "module"),
    [
        ("WithSigmoid", ("aten.sigmoid.default",), "fc"),
        ("WithSoftmax", ("aten._softmax.default",), "fc"),
        ("Normalizing", ("aten.sub.Tensor", "aten.div.Tensor"), "net"),
    ],
)
def test_what_runs_around_an_equal_network_is_named_and_passes_where_its_module_is_named(
    name: str, operators: tuple[str, ...], module: str
) -> None:
    with pytest.raises(ParityError, match=f"up to {', '.join(operators)}.*`reference_output='{module}'"):
        compared(name)
    found = compared(name, output=module)
    assert found.every_input.holds
    assert (found.around, found.output) == (operators, module)


@pytest.mark.parametrize(("name", "operator"), [("Resizing", "upsample"), ("Doubling", "aten.mul.Tensor")])
def test_what_its_code_runs_around_an_equal_network_is_named(name: str, operator: str) -> None:
    with pytest.raises(ParityError, match=operator):
        compared(name)


def test_of_modules_that_give_the_same_the_outermost_is_named() -> None:
    with pytest.raises(ParityError, match=r"`reference_output='head\.0'`\."):
        compared("WithNestedHead", only="", head="head.0.1")


def test_of_several_outputs_one_is_to_be_named() -> None:
    asked = {"only": "", "head": "fc"}
    with pytest.raises(OwnNetworkError, match=r"heads\.0, heads\.1 by `reference_output=..."):
        compared("OfTwoHeads", **asked)
    assert compared("OfTwoHeads", output="heads.0", **asked).every_input.logits == EQUAL
    with pytest.raises(ParityError):
        compared("OfTwoHeads", output="heads.1", **asked)
    with pytest.raises(OwnNetworkError, match="no output and no module 'heads.2'"):
        compared("OfTwoHeads", output="heads.2", **asked)


def test_maps_are_compared_as_such() -> None:
    assert compared("maps", only="0.").every_input.holds
    with pytest.raises(ParityError, match="relu"):
        compared("maps", only="0.", final_relu=False)


def test_dropout_in_training_is_said_and_is_no_error() -> None:
    known = compared("WithDropout").every_input
    assert (known.logits, known.gradients, known.buffers) == (EQUAL, DIFFERS, EQUAL)
    assert "aten.empty_like" in (known.because or "")


def test_momentum_changes_nothing_in_eval_and_the_buffers_in_training() -> None:
    known = compared("OtherMomentum").every_input
    assert (known.logits, known.gradients, known.buffers) == (EQUAL, UNKNOWN, DIFFERS)


def test_sizes_that_it_refuses_are_left_out_and_said() -> None:
    with pytest.raises(
        OwnNetworkError, match=r"eval 5x3x91x123: ValueError.*`reference_input_size='320x256'`"
    ):
        compared("TakingOneSize")
    found = compared("TakingOneSize", size="96x64")
    assert found.every_input.holds
    assert dict(found.inputs) == {"eval": (5, 3, 96, 64), "train": (5, 3, 96, 64)}
    with pytest.raises(OwnNetworkError, match="no size of an input"):
        compared("Own", size="large")


def test_sums_in_another_order_are_measured_against_float64() -> None:
    found = compared("PoolingOfOneSize", size="64")
    assert found.every_input.logits == UNKNOWN
    assert 0 <= found.largest <= max(found.bound, 1e-6)
    assert "aten.avg_pool2d" in (found.every_input.because or "")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("own_networks", "expected MODULE:FUNCTION"),
        ("no_such_module:build", "can't be imported: ModuleNotFoundError"),
        ("own_networks:absent", "can't be imported: AttributeError"),
        ("own_networks:failing", "raised FileNotFoundError: labels.csv"),
        ("own_networks:no_network", "returned a int"),
        ("own_networks:of_other_classes", "does not take the source's tensors.*size mismatch"),
    ],
)
def test_a_network_that_can_not_be_had_is_no_failed_proof(named: str, message: str) -> None:
    checkpoint = checkpoint_of(dict(own_networks.plain().state_dict()))
    with pytest.raises(OwnNetworkError, match=message) as raised:
        load_own(named, checkpoint)
    assert raised.value.exit_code == 1


def test_what_stands_before_every_name_of_the_source_may_be_missing_in_the_network() -> None:
    tensors = {f"state.module.{name}": one for name, one in trained(own_networks.Own).state_dict().items()}
    checkpoint = checkpoint_of(tensors)
    own = load_own("own_networks:Own", checkpoint)
    assert compare_own(loaded_from(checkpoint), own, CPU).every_input.holds


def test_what_rules_leave_out_may_be_missing_in_the_network_and_wrappers_too(tmp_path: Path) -> None:
    tensors = dict(trained(own_networks.Own).state_dict())
    tensors = {name.replace("features.", "features._orig_mod."): one for name, one in tensors.items()}
    tensors |= {"features._orig_mod.total_ops": torch.zeros(1), "n_averaged": torch.tensor(3)}
    source = tmp_path / "chest.pth"
    torch.save(tensors, source)
    written = dc.convert(source, tmp_path / "out", device="cpu", reference="own_networks:Own")
    assert len(written.receipt["dropped"]) == 2
    assert written.receipt["verification"]["own_network"]["every_input"]["logits"] == EQUAL


def test_a_pruned_file_is_compared_with_the_pruned_network(tmp_path: Path) -> None:
    source = tmp_path / "pruned.pth"
    torch.save(trained(own_networks.pruned).state_dict(), source)
    written = dc.convert(source, tmp_path / "out", device="cpu", reference="own_networks:pruned")
    assert [step["name"] for step in written.receipt["rewrites"]] == ["fc.weight"]
    assert written.receipt["verification"]["own_network"]["every_input"]["logits"] == EQUAL


def test_the_working_folder_is_looked_through_last_and_for_this_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise ImportError('not this one')")
    (tmp_path / "my_chest_model.py").write_text("import json\nfrom own_networks import plain\n")
    path = list(sys.path)
    own = load_own("my_chest_model:plain", checkpoint_of(dict(own_networks.plain().state_dict())))
    assert own.name == "my_chest_model:plain"
    assert sys.path == path


def test_the_command_settles_what_the_file_leaves_open_and_the_receipt_names_the_network(
    tmp_path: Path,
) -> None:
    source, folder = tmp_path / "chest.pth", tmp_path / "out"
    torch.save(
        {f"net.{name}": one for name, one in trained(own_networks.WithoutRelu).state_dict().items()}, source
    )
    asked = ["--reference", "own_networks:WithoutRelu", "--no-final-relu", "--output", str(folder), "--json"]
    result = CliRunner().invoke(main, ["file", str(source), "--device", "cpu", *asked])
    assert result.exit_code == 0, result.output
    receipt = json.loads((folder / "conversion.json").read_bytes())
    own = receipt["verification"]["own_network"]
    assert (own["name"], own["every_input"]["logits"]) == ("own_networks:WithoutRelu", EQUAL)
    assert receipt["assumptions"] == []
    again = dc.verify(folder, source=source, device="cpu", reference="own_networks:WithoutRelu")
    assert again.proof.own is not None
    assert dc.verify(folder, source=source, device="cpu").proof.own is None
    with pytest.raises(OwnNetworkError):
        dc.verify(folder, device="cpu", reference="own_networks:of_other_classes")
