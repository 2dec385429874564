"""A network in ONNX's format holds the folder's tensors and its layers' names, and nothing of the machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from checkpoints import SMALL, save, state_dict_of
from click.testing import CliRunner
from safetensors.torch import load_file
from schemas import validate

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import FolderError, LayoutError
from densenet_convert.proof.exported import write

TINY = replace(SMALL, block_config=(1, 1))


def test_an_older_torch_is_refused_with_the_one_that_exports(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.7.1+cpu")
    with pytest.raises(
        LayoutError, match=r"This is torch 2\.7\.1\+cpu, and a network is exported by 2\.8 or newer"
    ):
        dc.export(tiny, "onnx")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small network that is exported in a second or two, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return dc.convert(save(state_dict_of(TINY), tmp_path / "tiny.pth"), "tiny", input_size="64x96").folder


def test_every_initialiser_is_the_folder_s_tensor_under_its_name(
    exported: dc.Exported, converted: Path
) -> None:
    expected = {n: t for n, t in load_file(converted / "model.safetensors").items() if t.ndim}
    found = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(exported.path).graph.initializer}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in expected.items())


def test_every_layer_s_node_bears_its_name_and_the_model_the_receipt_s_digest(
    exported: dc.Exported, converted: Path
) -> None:
    model = onnx.load(exported.path)
    layers = [one.value for node in model.graph.node for one in node.metadata_props]
    assert {"features.conv0", "features.denseblock4.denselayer2.norm2", "classifier"} < set(layers)
    assert {one.key: one.value for one in model.metadata_props} == {
        "densenet_convert.receipt_sha256": hashlib.sha256(
            (converted / "conversion.json").read_bytes()
        ).hexdigest()
    }


def test_nothing_of_the_machine_or_of_the_day_is_in_it(exported: dc.Exported) -> None:
    model = onnx.load(exported.path)
    del model.metadata_props[:]  # a digest, of which any figures may be a part
    for weight in model.graph.initializer:
        weight.ClearField("raw_data")
    for one in (one for node in model.graph.node for one in node.attribute):
        one.t.ClearField("raw_data")
    for kept in ("/", ".py", "pkg.torch", str(date.today().year)):
        assert kept not in str(model)


def test_batch_and_sides_are_free_and_have_names(exported: dc.Exported) -> None:
    graph = onnx.load(exported.path).graph
    sides = [one.dim_param or one.dim_value for one in graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, "height", "width"]
    assert [one.dim_param or one.dim_value for one in graph.output[0].type.tensor_type.shape.dim] == [
        "batch",
        5,
    ]


def test_two_exports_are_the_same_bytes_whose_sides_are_those_of_config_json_and_half_is_rounded(
    tiny: Path,
) -> None:
    one, other = (dc.export(tiny, "onnx", f"{i}.onnx", dtype="float16") for i in (1, 2))
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.proof.dtype == "float16"
    model, expected = onnx.load(one.path), load_file(tiny / "model.safetensors")
    assert [one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim] == [0, 3, 64, 96]
    for one in model.graph.initializer:
        assert np.array_equal(onnx.numpy_helper.to_array(one), expected[one.name].half().numpy())


def test_the_result_says_what_was_proven(exported: dc.Exported, converted: Path) -> None:
    lines = str(exported).splitlines()
    assert lines[0] == str(exported.path)
    assert lines[1].startswith("  verdict     equal to out in onnxruntime")
    assert "  weights     106 tensors are the folder's, bit for bit" in lines
    assert exported.folder == converted
    assert "equal to out in onnxruntime" in repr(exported)
    assert exported.proof.changes == {}
    assert set(exported.proof.inputs) == {(2, 3, 91, 123), (2, 3, 64, 96), (1, 3, 224, 224)}


@pytest.fixture
def at_hand(exported: dc.Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Has an export give the shared one, or what a function makes of it, in the working folder."""
    monkeypatch.chdir(tmp_path)

    def give(change: Callable[[Any], object] = lambda _: None) -> None:
        model = onnx.load(exported.path)
        change(model)
        monkeypatch.setattr(write, "onnx_model", lambda *_: model.SerializeToString())

    return give


def test_the_command_prints_one_document(at_hand: Callable[..., None], converted: Path) -> None:
    at_hand()
    done = CliRunner().invoke(
        main, ["export", str(converted), "--to", "onnx", "--json"], catch_exceptions=False
    )
    document = json.loads(done.stdout)
    validate(document, "export")
    assert (document["status"], document["path"]) == ("exported", "out.onnx")


def test_a_network_that_fails_the_proof_is_not_written(at_hand: Callable[..., None], converted: Path) -> None:
    def drop(model: Any) -> None:
        next(
            node for node in model.graph.node if node.name == "features.transition1.relu"
        ).op_type = "Identity"

    at_hand(drop)
    done = CliRunner().invoke(main, ["export", str(converted), "--to", "onnx"])
    assert done.exit_code == 3
    assert done.stderr.startswith("error: features.transition1.relu: ")
    assert not Path("out.onnx").exists()


@pytest.mark.usefixtures("tiny")
def test_what_can_t_be_asked_for_is_refused_before_torch_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("it was exported"))
    with pytest.raises(LayoutError, match="'bfloat16' is no dtype .* expected float32 or float16"):
        dc.export("tiny", "onnx", dtype="bfloat16")
    with pytest.raises(LayoutError, match="Choose an `output=...` that ends in .onnx"):
        dc.export("tiny", "onnx", "tiny.pth")
    with pytest.raises(FolderError, match="whose files are counted"):
        dc.export("tiny", "onnx", "tiny/tiny.onnx")
    Path("tiny.onnx").touch()
    with pytest.raises(FolderError, match="is left alone"):
        dc.export("tiny", "onnx")
    with pytest.raises(LayoutError, match="holds the tensors as they are"):
        dc.export("tiny", "monai", dtype="float16")


@pytest.mark.usefixtures("tiny")
def test_options_of_a_network_are_a_mistake_of_usage_with_a_layout() -> None:
    for option in (["--dtype", "float16"], ["--dynamic-size"]):
        done = CliRunner().invoke(main, ["export", "tiny", "--to", "monai", *option])
        assert done.exit_code == 2
        assert "go with --to onnx, openvino, pt2 alone" in done.stderr
