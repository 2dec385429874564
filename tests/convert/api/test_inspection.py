"""inspect says what a file holds, without torch, without a proof and without running anything."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL, in_2017_names, save, state_dict_of
from click.testing import CliRunner
from schemas import validate
from torch import nn

import densenet_convert as dc
from densenet_convert.api.inspected import inspection_as_text
from densenet_convert.api.inspection import inspect
from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES, DenseNet
from densenet_convert.errors import FolderError, ReadError
from densenet_convert.tensors import tensor_sha256


def test_everything_that_the_file_says_is_shown(tmp_path: Path) -> None:
    state = in_2017_names(state_dict_of())
    path = save({"state_dict": state, "epoch": 7, "arch": "small"}, tmp_path / "c.pth", legacy=False)
    found = inspect(path)
    assert (found.format, found.container, found.layout) == ("torch-zip", "state_dict", "torchvision-dotted")
    assert (found.config, found.architecture, found.problem) == (SMALL, None, None)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.size == path.stat().st_size
    assert dict(found.metadata) == {"epoch": 7, "arch": "small"}
    assert dict(found.dtypes) == {"float32": len(state)}
    assert [(tensor.name, tensor.shape) for tensor in found.tensors] == [
        (name, tuple(tensor.shape)) for name, tensor in state.items()
    ]
    assert "torch._utils._rebuild_tensor_v2" in found.names


def test_of_several_state_dicts_one_is_chosen_by_its_key(tmp_path: Path) -> None:
    path = save({"raw": state_dict_of(seed=0), "ema": state_dict_of(seed=1)}, tmp_path / "c.pth")
    found = inspect(path)
    assert (found.containers, found.container, found.tensors) == (("raw", "ema"), None, ())
    assert "It holds 2 state dicts, which differ: raw, ema." in found.problem
    assert f"\ndc.convert({str(path)!r}, key='ema')" in found.problem
    listed = CliRunner().invoke(main, ["inspect", str(path)])
    assert listed.exit_code == 0
    assert listed.stdout.startswith(
        f"{path}: several state dicts. It can be converted, by what stands below.\n"
    )
    assert "  state dicts  raw, ema\n" in listed.stdout
    done = CliRunner().invoke(main, ["inspect", str(path), "--key", "ema", "--json"])
    assert json.loads(done.stdout)["container"] == "ema"


def test_a_key_of_the_file_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    key = "k\n  sha256      00 (torchvision's own)\x1b[31m"
    path = save({key: state_dict_of()}, tmp_path / "c.pth")
    text = inspection_as_text(inspect(path), "c.pth")
    assert text.splitlines()[2].endswith(r"key k\n  sha256      00 (torchvision's own)\x1b[31m")
    with pytest.raises(ReadError, match=r"under the key 'k\\udc80', expected text"):
        inspect(save({"k\udc80": state_dict_of()}, tmp_path / "d.pth"))


def test_a_name_longer_than_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="expected names that are text of up to 500 letters"):
        inspect(save({"a." * 300 + "features.conv0.weight": torch.zeros(1)}, tmp_path / "c.pth"))


def test_hashes_are_those_of_the_tensors_in_row_major_order(tmp_path: Path) -> None:
    state = {"a": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last), "b": torch.rand(3, 4).t()}
    path = save(state, tmp_path / "c.pth")
    assert {tensor.name: tensor.sha256 for tensor in inspect(path, hashes=True).tensors} == {
        name: tensor_sha256(tensor) for name, tensor in state.items()
    }
    assert {tensor.sha256 for tensor in inspect(path).tensors} == {None}


def test_a_named_architecture_is_recognised(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = DenseNet(ARCHITECTURES["densenet121"])
    state = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in network.state_dict().items()
    }
    assert inspect(save(state, tmp_path / "c.pth")).architecture == "densenet121"


def test_what_a_whole_module_declares_of_its_layers_is_shown_too(tmp_path: Path) -> None:
    network = DenseNet(SMALL)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    assert inspect(save(network, tmp_path / "c.pth")).config == replace(SMALL, norm_eps=1e-3)
    network.get_submodule("features.transition1").pool = nn.MaxPool2d(2)
    found = inspect(save(network, tmp_path / "c.pth"))
    assert (found.layout, found.config) == ("torchvision", None)
    assert "features.transition1.pool is torch.nn.modules.pooling.MaxPool2d, expected" in str(found.problem)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("features.norm5.bias"), "features.norm5.bias is missing"),
        (
            lambda state: state.update({"features.norm5.bias": torch.ones(3)}),
            r"features.norm5.bias has shape [3], expected [",
        ),
        (lambda state: state.pop("features.conv0.weight"), "features.conv0.weight is missing"),
        (lambda state: state.update({"module.a": torch.ones(3)}), "No layout explains all"),
    ],
)
def test_what_is_no_whole_densenet_is_described_with_the_reason(
    tmp_path: Path, change: object, problem: str
) -> None:
    state = state_dict_of()
    assert callable(change)
    change(state)
    found = inspect(save(state, tmp_path / "c.pth"))
    assert found.config is None
    assert found.problem is not None
    assert problem in found.problem


def test_the_command_prints_text_or_one_document(tmp_path: Path) -> None:
    path = save({"state_dict": state_dict_of(), "loss": float("nan")}, tmp_path / "c.pth")
    shown = CliRunner().invoke(main, ["inspect", str(path)])
    assert shown.exit_code == 0
    first, command, *rest = shown.output.splitlines()
    assert first.startswith(f"{path}: DenseNet with blocks (2, 3, 1, 2)")
    assert first.endswith(", 5 classes. This converts it:")
    assert command == f"densenet-convert file {path}"
    assert "  holds       127 tensors, layout torchvision, key state_dict" in rest
    assert "sha256" not in shown.output
    document = json.loads(CliRunner().invoke(main, ["inspect", str(path), "--json", "--hashes"]).stdout)
    assert document["schema_version"] == 1
    assert document["container"] == "state_dict"
    assert document["metadata"] == {"loss": "nan"}
    assert all(len(tensor["sha256"]) == 64 for tensor in document["tensors"])
    listed = CliRunner().invoke(main, ["inspect", str(path), "--verbose"])
    assert "features.conv0.weight float32 [8, 3, 7, 7]" in listed.output


def test_the_command_refuses_in_one_line_and_exits_with_1(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    path.write_text("hello")
    with pytest.raises(ReadError, match="as no checkpoint does"):
        inspect(path)
    done = CliRunner().invoke(main, ["inspect", str(path), "--json"])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {path} can't be read")
    assert done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["error"]["type"] == "ReadError"


def test_no_torch_is_imported(converted: Path, tmp_path: Path) -> None:
    path = save(state_dict_of(), tmp_path / "c.pth")
    code = (
        "import sys; from densenet_convert import inspect; "
        f"assert inspect({str(path)!r}, hashes=True).layout; assert inspect({str(converted)!r}).receipt; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_prefix_and_a_head_of_another_name_are_seen_through(tmp_path: Path) -> None:
    names = {
        f"module.{name}".replace("classifier", "fc"): t for name, t in in_2017_names(state_dict_of()).items()
    }
    path = save(names, tmp_path / "wrapped.pth")
    found = inspect(path)
    assert (found.layout, found.prefix, found.problem) == ("torchvision-dotted", "module.", None)
    assert found.config == SMALL
    assert (
        "  holds       106 tensors, layout torchvision-dotted, prefix module.\n"
        in CliRunner().invoke(main, ["inspect", str(path)]).stdout
    )


def test_a_converted_folder_is_described_by_its_receipt_and_its_weights(
    converted: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(converted, tmp_path / "chest")
    dc.describe(folder, labels=list("abcde"))
    found = inspect(folder)
    assert (found.path, found.format, found.layout) == (
        folder / "model.safetensors",
        "safetensors",
        "torchvision",
    )
    assert found.receipt is not None
    assert found.receipt["source"]["layout"] == "torchvision-dotted"
    assert (found.problem, found.labels) == (None, {"config.json": ("a", "b", "c", "d", "e")})
    said = CliRunner().invoke(main, ["inspect", str(folder)]).stdout
    assert said.startswith(f"{folder}: a converted folder, ")
    assert "  source      a file, 39,570 bytes: layout torchvision-dotted\n" in said
    assert "  verdict     equal to torchvision's network with these weights, to the last bit\n" in said


def test_a_converted_folder_that_was_changed_is_said_to_be(converted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(converted, tmp_path / "chest")
    (folder / "README.md").write_text("its owner's")
    assert inspect(folder).problem is None
    (folder / "config.json").unlink()
    assert str(inspect(folder).problem).startswith(
        "config.json is missing or not what conversion.json names."
    )
    (folder / "conversion.json").write_text('{"converter": {"name": "densenet-convert"}}')
    with pytest.raises(FolderError, match="conversion.json is no receipt of this converter"):
        inspect(folder)


def test_several_files_and_folders_are_one_document_with_the_highest_exit_code(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(converted, "files/chest")
    shutil.copy(converted.with_name("source.pth"), "files/a.pth")
    Path("files/notes.txt").write_text("{}")
    done = CliRunner().invoke(main, ["inspect", "files", "gone.pth", "--json"])
    document = json.loads(done.stdout)
    validate(document, "inspections")
    assert done.exit_code == 1
    assert [one["path"] for one in document["inspections"]] == [
        "files/a.pth",
        "files/chest/model.safetensors",
        "gone.pth",
    ]
    text = CliRunner().invoke(main, ["inspect", "files"])
    heads = [line.partition(":")[0] for line in text.stdout.splitlines() if line[0] != " "]
    assert heads == ["files/a.pth", "densenet-convert file files/a.pth", "files/chest"]
    alone = json.loads(CliRunner().invoke(main, ["inspect", "files/chest", "--json"]).stdout)
    assert alone["receipt"]["source"]["origin"] == "file"
    Path("empty").mkdir()
    assert "empty holds no checkpoint" in CliRunner().invoke(main, ["inspect", "empty"]).stderr


def test_a_network_that_was_never_loaded_is_remarked_on_by_inspect_and_by_a_conversion(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    path = save(DenseNet(SMALL).state_dict(), tmp_path / "fresh.pth")
    result = CliRunner().invoke(main, ["inspect", str(path)])
    assert "remarks     20 of 20 convolutions are as drawn at random" in result.stdout
    remarks = dc.inspect(path).remarks
    assert dc.inspect(DenseNet(SMALL)).remarks[0].names == remarks[0].names
    document = json.loads(CliRunner().invoke(main, ["inspect", str(path), "--json"]).stdout)
    validate(document, "inspection")
    assert document["remarks"][0]["kind"] == "never-loaded"
    written = dc.convert(path, tmp_path / "new")
    assert [one["text"] for one in written.receipt["remarks"]] == [one.text for one in remarks]
    assert remarks[0].text in caplog.messages
    assert remarks[0].text in (written.folder / "README.md").read_text()
