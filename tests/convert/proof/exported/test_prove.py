"""A file that somebody else exported is held against its folder, whatever became of names and norms."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from checkpoints import SMALL, in_names_of, save, state_dict_of
from click.testing import CliRunner

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import FolderError, LayoutError, ParityError, ReadError
from densenet_convert.proof.exported.align import BEHIND, DECOMPOSED, FOLDED, FUSED
from densenet_convert.proof.exported.graph import graph_of
from densenet_convert.proof.exported.reference import Reference
from densenet_convert.proof.exported.runtime import optimised
from densenet_convert.proof.selftest.faults import Draw
from densenet_convert.proof.selftest.graph_faults import KINDS, graph_faults
from densenet_convert.proof.selftest.graph_judging import ExportedSubject, judge_graph, sound_runs

Change = Callable[[Callable[[Any], object]], Path]


def by_torch(network: torch.nn.Module, file: Path, sides: tuple[int, ...] = (64, 96)) -> Path:
    """Exports with torch's older exporter, which is quick and folds norms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, *sides),), file, dynamo=False)
    return file


@pytest.fixture(scope="module")
def subject(exported: dc.Exported, converted: Path) -> ExportedSubject:
    network = dc.DenseNet.from_pretrained(converted)
    return ExportedSubject(Reference(network, torch.float32), graph_of(exported.path.read_bytes()).model)


def test_folded_norms_are_what_folding_makes_of_the_folder_s_tensors(converted: Path, tmp_path: Path) -> None:
    network = dc.DenseNet.from_pretrained(converted)
    found = dc.verify_exported(by_torch(network, tmp_path / "folded.onnx"), converted).proof
    assert found.changes[FOLDED][0] == "features.conv0"
    assert len(found.changes[FOLDED]) == 9
    assert found.inputs == ((1, 3, 64, 96),)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_networks_of_one_and_three_dimensions_are_verified(dimensions: int, tmp_path: Path) -> None:
    config = replace(SMALL, block_config=(1, 1), spatial_dims=dimensions)
    state = in_names_of("monai", state_dict_of(config))
    folder = dc.convert(save(state, tmp_path / "volume.pth"), tmp_path / "volume").folder
    network = dc.DenseNet.from_pretrained(folder)
    file = by_torch(network, tmp_path / "volume.onnx", sides=(40,) * dimensions)
    assert dc.verify_exported(file, folder).proof.inputs == ((1, 3, *(40,) * dimensions),)
    with pytest.raises(
        LayoutError, match=r"states no size of the input\. Leave it free with `dynamic_size=True`"
    ):
        dc.export(folder, "onnx", tmp_path / "another.onnx")


def test_a_softmax_behind_the_logits_is_said_and_run(converted: Path, tmp_path: Path) -> None:
    network = torch.nn.Sequential(dc.DenseNet.from_pretrained(converted), torch.nn.Softmax(1))
    found = dc.verify_exported(by_torch(network, tmp_path / "soft.onnx"), converted).proof
    assert found.changes[BEHIND] == ("Softmax",)


def test_names_play_no_part(changed: Change, converted: Path) -> None:
    def rename(model: Any) -> None:
        names: dict[str, str] = {"": ""}
        for node in model.graph.node:
            node.name = ""
            for values in (node.input, node.output):
                values[:] = [names.setdefault(one, f"v{len(names)}") for one in values]
            del node.metadata_props[:]
        for one in (*model.graph.initializer, *model.graph.input, *model.graph.output):
            one.name = names.setdefault(one.name, one.name)

    assert dc.verify_exported(changed(rename), converted).proof.tensors == 106


def test_what_onnxruntime_saves_is_verified_with_what_it_folded_and_fused(
    exported: dc.Exported, converted: Path, tmp_path: Path
) -> None:
    model = optimised(onnx.load(exported.path), "ORT_ENABLE_EXTENDED", tmp_path / "saved.onnx")
    assert any(node.op_type == "FusedConv" for node in model.graph.node)
    found = dc.verify_exported(tmp_path / "saved.onnx", converted).proof
    assert len(found.changes[FOLDED]) == 9
    assert "features.conv0" in found.changes[FUSED]


def test_weights_that_lie_beside_the_file_are_read(
    exported: dc.Exported, converted: Path, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    model = onnx.load(exported.path)
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert dc.verify_exported(file, converted).proof.tensors == 106
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ReadError, match=r"can't be read as an ONNX model: .*weights.bin"):
        dc.verify_exported(file, converted)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_fault_is_caught_at_its_layer(kind: Any, subject: ExportedSubject) -> None:
    faults = [one for one in graph_faults(subject.model, Draw(Random(0), 3)) if one.name == kind.name]
    assert faults
    for fault in faults:
        judged = judge_graph(fault, subject)
        assert judged.located, (fault.where, judged.shown)


def test_a_sound_graph_raises_no_alarm_at_any_level_by_one_thread_or_two(
    subject: ExportedSubject, tmp_path: Path
) -> None:
    alarms = [run() for _, run in sound_runs(subject, tmp_path)]
    assert alarms == [None] * 12


def test_a_layer_whose_weights_and_settings_are_sound_is_caught_by_its_error(
    changed: Change, converted: Path
) -> None:
    def average_one_row(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "ReduceMean")
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3], np.int64), "axes"))
        node.input[1] = "axes"
        before = onnx.helper.make_node("Slice", [node.input[0], "a", "b", "c"], ["row"])
        for name, value in (("a", 0), ("b", 1), ("c", 2)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
        node.input[0] = "row"
        model.graph.node.insert(list(model.graph.node).index(node), before)

    with pytest.raises(ParityError) as caught:
        dc.verify_exported(changed(average_one_row), converted)
    assert caught.value.where == "pool"


@pytest.mark.parametrize("constant_first", [True, False])
def test_a_norm_may_be_a_product_and_a_sum_with_the_constants_on_either_side(
    constant_first: bool, changed: Change, converted: Path
) -> None:
    found = dc.verify_exported(changed(lambda model: decompose(model, constant_first)), converted).proof
    assert found.changes[DECOMPOSED] == ("features.norm5",)


def test_a_product_of_two_values_is_no_norm(changed: Change, converted: Path) -> None:
    def square(model: Any) -> None:
        decompose(model, True)
        product = next(node for node in model.graph.node if node.name == "product")
        product.input[:] = [product.input[1]] * 2

    with pytest.raises(ParityError, match="takes weights that depend on the input") as caught:
        dc.verify_exported(changed(square), converted)
    assert caught.value.where == "features.norm5"


def decompose(model: Any, constant_first: bool) -> None:
    """Writes the last norm as a product and a sum."""
    node = next(node for node in model.graph.node if node.name == "features.norm5")
    held = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    weight, bias, mean, variance = (held[name].astype(np.float64) for name in node.input[1:])
    scale = weight / np.sqrt(variance + 1e-5)
    place = list(model.graph.node).index(node)
    value = node.input[0]
    for op, name, constant in (("Mul", "product", scale), ("Add", "sum", bias - scale * mean)):
        array = constant.astype(np.float32)[:, None, None]
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}.constant"))
        inputs = [f"{name}.constant", value] if constant_first else [value, f"{name}.constant"]
        value = node.output[0] if op == "Add" else name
        model.graph.node.insert(place, onnx.helper.make_node(op, inputs, [value], name=name))
        place += 1
    model.graph.node.remove(node)


def append_operator(name: str, domain: str = "") -> Callable[[Any], object]:
    def change(model: Any) -> None:
        model.graph.node.append(onnx.helper.make_node(name, ["logits"], ["more"], domain=domain))
        model.opset_import.append(onnx.helper.make_opsetid(domain or "another", 1))

    return change


def of_opset(version: int) -> Callable[[Any], object]:
    def change(model: Any) -> None:
        model.opset_import[0].version = version

    return change


def with_two_inputs(model: Any) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", 1, [1]))


def with_channels_last(model: Any) -> None:
    sides = model.graph.input[0].type.tensor_type.shape.dim
    sides[1].dim_value, sides[3].dim_value = 64, 3


def behind_a_relu(model: Any) -> None:
    model.graph.node.append(onnx.helper.make_node("Relu", ["logits"], ["more"]))
    model.graph.output[0].name = "more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (append_operator("QLinearConv"), r"runs QLinearConv, which no rule of a DenseNet knows"),
        (append_operator("Mine", "my.own"), r"runs my\.own\.Mine, which no rule"),
        (of_opset(99), r"has opset 99, and onnx .* knows 7 to \d+"),
        (
            with_two_inputs,
            r"takes one input, and this graph 2: input and mask|takes one input, and this graph 2",
        ),
        (with_channels_last, r"'input' is \[\?, 64, \?, 3\], and this network takes \[N, 3, H, W\]"),
        (behind_a_relu, r"is no output of the graph, which runs Relu"),
    ],
)
def test_another_graph_is_refused_in_one_message(
    change: Callable[[Any], object], message: str, changed: Change, converted: Path
) -> None:
    with pytest.raises((ReadError, ParityError), match=message):
        dc.verify_exported(changed(change), converted)


def test_a_graph_that_is_no_densenet_is_refused(converted: Path, tmp_path: Path) -> None:
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 96, 5))
    with pytest.raises(ReadError, match="no convolution whose weights are float32 or float16"):
        dc.verify_exported(by_torch(linear, tmp_path / "linear.onnx"), converted)


def test_a_damaged_name_is_refused(exported: dc.Exported, converted: Path, tmp_path: Path) -> None:
    data = exported.path.read_bytes()
    (tmp_path / "damaged.onnx").write_bytes(data.replace(b"shape.0.0", b"shape\xff0.0"))
    with pytest.raises(ReadError, match="names that are no text"):
        dc.verify_exported(tmp_path / "damaged.onnx", converted)


def test_what_is_no_model_is_refused(converted: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for damaged in (tmp_path / "text.onnx", converted / "model.safetensors"):
        with pytest.raises(ReadError):
            dc.verify_exported(damaged, converted)
    with pytest.raises(FolderError, match="is no file"):
        dc.verify_exported(tmp_path / "gone.onnx", converted)


def test_the_command_verifies_and_refuses_the_other_proof_s_options(
    exported: dc.Exported, converted: Path
) -> None:
    done = CliRunner().invoke(main, ["verify", str(exported.path), "--against", str(converted)])
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, str(exported.path))
    done = CliRunner().invoke(main, ["verify", "x.onnx", "--against", "y", "--report", "z"])
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        2,
        "Error: --report does not go with --against.",
    )


def test_a_network_named_without_its_folder_leads_to_the_command(exported: dc.Exported) -> None:
    done = CliRunner().invoke(main, ["verify", str(exported.path)])
    assert done.exit_code == 1
    assert f"densenet-convert verify {exported.path} --against FOLDER" in done.stderr


def test_a_missing_package_is_named_with_the_extra(
    exported: dc.Exported, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        dc.ConvertError, match=r'onnxruntime. Install it with: pip install "densenet-convert\[onnx\]"'
    ):
        dc.verify_exported(exported.path, converted)


def test_a_folder_that_was_changed_is_no_reference(
    exported: dc.Exported, converted: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(converted, tmp_path / "changed")
    (folder / "config.json").write_text("{}")
    with pytest.raises(FolderError, match=r"config\.json was changed"):
        dc.verify_exported(exported.path, folder)
