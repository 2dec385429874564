"""A network in OpenVINO's format is proven as one in ONNX's, whoever exported it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from schemas import validate

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import FolderError, LayoutError, ParityError, ReadError
from densenet_convert.proof.exported import write
from densenet_convert.proof.exported.align import DECOMPOSED, FOLDED
from densenet_convert.proof.exported.graph import graph_of
from densenet_convert.proof.exported.ir_run import openvino
from densenet_convert.proof.exported.reference import Reference
from densenet_convert.proof.selftest.faults import Draw
from densenet_convert.proof.selftest.graph_faults import KINDS, graph_faults
from densenet_convert.proof.selftest.graph_judging import ExportedSubject, judge_ir, sound_ir

# An import by itself would bring the library's telemetry.
if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def pair(exported: dc.Exported, converted: Path, tmp_path_factory: pytest.TempPathFactory) -> dc.Exported:
    """The shared network in OpenVINO's format; no test may change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "onnx_model", lambda *_: exported.path.read_bytes())
        return dc.export(converted, "openvino", tmp_path_factory.mktemp("openvino") / "any.xml")


@pytest.fixture
def changed(pair: dc.Exported, tmp_path: Path) -> Callable[..., Path]:
    """Writes a copy of it, of whose text a pattern was replaced, or whose weights a function has changed."""

    def write_copy(
        pattern: str = "", by: str = "", weights: Callable[[bytes], bytes] = lambda data: data
    ) -> Path:
        text, count = re.subn(pattern, by, pair.path.read_text(), count=1, flags=re.DOTALL)
        assert count == 1
        (tmp_path / "changed.xml").write_text(text)
        (tmp_path / "changed.bin").write_bytes(weights(pair.path.with_suffix(".bin").read_bytes()))
        return tmp_path / "changed.xml"

    return write_copy


@pytest.fixture(scope="module")
def subject(exported: dc.Exported, converted: Path) -> ExportedSubject:
    network = dc.DenseNet.from_pretrained(converted)
    return ExportedSubject(Reference(network, torch.float32), graph_of(exported.path.read_bytes()).model)


def constants(path: Path) -> dict[str, Any]:
    """Returns the weights by name, as OpenVINO itself reads them."""
    ops = openvino().Core().read_model(path).get_ordered_ops()
    weights = [op for op in ops if op.get_type_name() == "Constant" and op.get_element_type().is_real()]
    return {op.get_friendly_name().removesuffix("_compressed"): op.data for op in weights}


def test_every_tensor_is_the_folder_s_under_its_name_or_rounded_to_half(
    pair: dc.Exported, exported: dc.Exported, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "onnx_model", lambda *_: exported.path.read_bytes())
    half = dc.export(converted, "openvino", tmp_path / "half.xml", dtype="float16")
    assert (half.proof.dtype, half.proof.tensors, pair.proof.tensors) == ("float16", 106, 106)
    found, rounded = constants(pair.path), constants(half.path)
    for name, tensor in load_file(converted / "model.safetensors").items():
        if tensor.ndim:
            assert np.array_equal(found[name], tensor.numpy())
            assert np.array_equal(rounded[name], tensor.half().numpy())


def test_two_exports_are_the_same_bytes_with_the_receipt_s_digest_and_nothing_of_the_machine(
    pair: dc.Exported, exported: dc.Exported, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "onnx_model", lambda *_: exported.path.read_bytes())
    other = dc.export(converted, "openvino", tmp_path / "other.xml")
    text = pair.path.read_text()
    assert other.path.read_text() == text
    assert (tmp_path / "other.bin").read_bytes() == pair.path.with_suffix(".bin").read_bytes()
    assert "receipt_sha256" in text
    assert str(tmp_path.parent) not in text
    assert ".onnx" not in text
    other.path.unlink()
    with pytest.raises(FolderError, match=r"other\.bin exists and is left alone"):
        dc.export(converted, "openvino", other.path)


def test_the_commands_print_what_was_proven(pair: dc.Exported, converted: Path) -> None:
    done = CliRunner().invoke(
        main, ["verify", str(pair.path), "--against", str(converted), "--json"], catch_exceptions=False
    )
    document = json.loads(done.stdout)
    validate(document, "export")
    assert document["proof"]["runtime"].startswith("OpenVINO 20")
    assert document["proof"]["format"] == "IR 11"
    assert {one["setting"].rpartition(", [")[0] for one in document["proof"]["measured"]} == {
        "CPU, 1 threads",
        "CPU, all threads",
    }
    done = CliRunner().invoke(main, ["verify", str(pair.path)])
    assert f"densenet-convert verify {pair.path} --against FOLDER" in done.stderr


@pytest.mark.parametrize("half", [False, True])
def test_what_openvino_s_own_converter_makes_is_verified_with_what_it_folded(
    half: bool, exported: dc.Exported, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    model = openvino().convert_model(exported.path)
    openvino().save_model(model, tmp_path / "folded.xml", compress_to_fp16=half)
    found = dc.verify_exported(tmp_path / "folded.xml", converted).proof
    assert found.dtype == ("float16" if half else "float32")
    assert len(found.changes[FOLDED]) == 9
    assert len(found.changes[DECOMPOSED]) == 12


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_fault_is_caught_at_its_layer(kind: Any, subject: ExportedSubject) -> None:
    faults = [one for one in graph_faults(subject.model, Draw(Random(0), 3)) if one.name == kind.name]
    assert faults
    for fault in faults:
        judged = judge_ir(fault, subject)
        assert judged.located, (fault.where, judged.shown)


def test_a_sound_graph_raises_no_alarm(subject: ExportedSubject) -> None:
    alarms = [run() for _, run in sound_ir(subject)]
    assert alarms == [None] * 2


def one_bit(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        ({"weights": one_bit}, "features.conv0"),
        ({"pattern": 'pads_begin="3, 3"', "by": 'pads_begin="2, 3"'}, "features.conv0"),
        ({"pattern": r'(type="AvgPool".*?)"floor"', "by": r'\1"ceil"'}, "features.transition1.pool"),
    ],
)
def test_a_change_of_the_files_is_found_at_its_layer(
    change: dict[str, Any], layer: str, changed: Callable[..., Path], converted: Path
) -> None:
    with pytest.raises(ParityError) as caught:
        dc.verify_exported(changed(**change), converted)
    assert caught.value.where == layer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": lambda data: data[:-64]}, "can't be read as a model of OpenVINO: .*weights"),
        ({"pattern": "<layers>", "by": ""}, "can't be read as a model of OpenVINO"),
        ({"pattern": r'type="ReLU"', "by": 'type="Tanh"'}, "runs Tanh, which no rule of a DenseNet knows"),
        ({"pattern": r'type="ReLU"', "by": 'type="Mine"'}, "can't be read as a model of OpenVINO: .*Mine"),
    ],
)
def test_another_model_is_refused_in_one_message(
    change: dict[str, Any], message: str, changed: Callable[..., Path], converted: Path
) -> None:
    with pytest.raises(ReadError, match=message):
        dc.verify_exported(changed(**change), converted)


def test_both_files_are_needed(changed: Callable[..., Path], converted: Path) -> None:
    path = changed()
    path.with_suffix(".bin").unlink()
    with pytest.raises(FolderError, match=r"changed\.bin is no file.* two files, NAME\.xml and NAME\.bin"):
        dc.verify_exported(path, converted)


def test_a_missing_package_is_named_with_the_extra(
    pair: dc.Exported, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(LayoutError, match=r'pip install "densenet-convert\[openvino\]"'):
        dc.verify_exported(pair.path, converted)


def test_the_library_s_telemetry_is_not_imported(pair: dc.Exported) -> None:
    assert pair.proof is not None
    assert "openvino_telemetry" not in sys.modules


def test_names_play_no_part(changed: Callable[..., Path], converted: Path) -> None:
    path = changed()
    path.write_text(re.sub(r' (name|names)="(?!DenseNet)[^"]*"', r' \1="same"', path.read_text()))
    assert dc.verify_exported(path, converted).proof.tensors == 106
