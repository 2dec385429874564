"""Files of other libraries are refused by name, each with one way to a checkpoint, and never as damaged."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import SMALL, state_dict_of
from safetensors.numpy import save_file

import densenet_convert as dc
from densenet_convert.api.inspection import inspect
from densenet_convert.api.plan import plan
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import ReadError
from densenet_convert.formats.foreign import ARRAYS, FROM_ONNX, FROM_SHARDS
from densenet_convert.formats.recognise import read_content
from densenet_convert.formats.untrusted import FormatError
from densenet_convert.records import Options

STATE = state_dict_of()


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes | int) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


class JoblibArray:
    """What joblib pickles in an array's place, before its elements."""

    def __init__(self) -> None:
        self.shape, self.order = (3,), "C"


def of_joblib() -> bytes:
    """A pickle whose array is followed by its elements, in the middle of it."""
    module = types.ModuleType("joblib.numpy_pickle")
    return pickle.dumps({"w": JoblibArray()}, 2).replace(
        f"c{JoblibArray.__module__}\nJoblibArray\n".encode(),
        f"c{module.__name__}\nNumpyArrayWrapper\n".encode(),
    )


LAYER = field(1, b"conv1") + field(2, b"Convolution")
FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "ONNX": (
        ".onnx",
        lambda: field(1, 8) + field(2, b"pytorch") + field(7, field(2, b"main")) + field(8, field(2, 17)),
        "an ONNX model",
    ),
    "ONNX of another order": (
        ".onnx",
        lambda: field(1, 4) + field(7, field(2, b"g")) + field(8, field(2, 9)) + field(2, b"MXNet"),
        "an ONNX model",
    ),
    "Torch7": (".t7", lambda: struct.pack("<iii", 4, 1, 3) + b"V 1" + bytes(99), "a network of Torch7"),
    "Torch7 as text": (".net", lambda: b"4\n1\n3\nV 1\n13\nnn.Sequential\n", "a network of Torch7"),
    "MXNet": (".params", lambda: struct.pack("<QQQI", 0x112, 0, 727, 0xF993FAC9) + bytes(99), "MXNet"),
    "a checkpoint of TensorFlow": (
        ".ckpt.index",
        lambda: bytes(99) + bytes.fromhex("57fb808b247547db"),
        "a checkpoint of TensorFlow",
    ),
    "its values": (".data-00000-of-00001", lambda: np.ones(99).tobytes(), "a checkpoint of TensorFlow"),
    "its values, which look like JSON": (".data-00001-of-00002", lambda: b"{" * 99, "TensorFlow"),
    "SavedModel": (".pb", lambda: field(1, 1) + field(2, field(1, field(4, b"serve"))), "a SavedModel"),
    "a frozen graph": (
        ".pb",
        lambda: field(1, field(1, b"x") + field(2, b"Placeholder")) + field(4, field(1, 21)),
        "a graph of TensorFlow",
    ),
    "TFLite": (".tflite", lambda: b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite"),
    "ExecuTorch": (".pte", lambda: b"\x1c\0\0\0ET12" + bytes(99), "ExecuTorch"),
    "Caffe": (".caffemodel", lambda: field(1, b"DENSENET_121") + field(100, LAYER) * 3, "Caffe"),
    "Caffe of 2014": (".caffemodel", lambda: field(1, b"net") + field(2, LAYER) * 3, "Caffe"),
    "OpenVINO": (".xml", lambda: b'<?xml version="1.0"?>\n<net name="densenet" version="11">', "OpenVINO"),
    "Core ML": (".mlmodel", lambda: field(1, 4) + field(2, field(1, b"x")) + field(500, LAYER), "Core ML"),
    "MindSpore": (
        ".ckpt",
        lambda: field(1, field(1, b"conv1.weight") + field(2, field(1, 8) + field(2, b"Float32"))) * 3,
        "MindSpore",
    ),
    "joblib": (".pkl", of_joblib, "joblib"),
    "joblib, packed": (".joblib", lambda: zlib.compress(of_joblib(), 3), "joblib"),
    "a shard of torch": (".distcp", lambda: saved(STATE) * 2, "a shard of a distributed checkpoint"),
    "GGUF": (".gguf", lambda: b"GGUF" + bytes(99), "GGML"),
    "TensorRT": (".engine", lambda: b"ptrt" + bytes(99), "TensorRT"),
    "MATLAB": (".mat", lambda: b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(99), "MATLAB"),
    "Paddle's inference": (".pdiparams", lambda: bytes(99), "Paddle"),
    "Flax": (".msgpack", lambda: b"\x81\xa6params\x80", "Flax"),
    "a network that was frozen": (".pt", lambda: frozen(), "TorchScript archive whose weights are constants"),
}


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def frozen() -> bytes:
    file = io.BytesIO()
    torch.jit.save(
        torch.jit.freeze(torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)).eval())), file
    )
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("what", FILES)
def test_a_file_is_refused_by_its_name_and_not_as_damaged(what: str, tmp_path: Path) -> None:
    suffix, make, kind = FILES[what]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(make())
    with pytest.raises(ReadError, match=re.escape(kind)) as error:
        inspect(path)
    message = str(error.value)
    assert "tampered" not in message
    assert "damaged" not in message
    assert re.search(r"Save|save|Convert|convert", message)


FOLDERS = {
    ".metadata": "a distributed checkpoint of torch",
    "saved_model.pb": "a SavedModel of TensorFlow",
    "manifest.ocdbt": "Orbax",
    "checkpoint": "a checkpoint of TensorFlow",
}


@pytest.mark.parametrize("mark", FOLDERS)
def test_a_folder_that_is_one_as_a_whole_is_named(mark: str, tmp_path: Path) -> None:
    (tmp_path / mark).write_bytes(b"1")
    with pytest.raises(ReadError, match=FOLDERS[mark]):
        plan([tmp_path], tmp_path / "new", Options())


@pytest.mark.parametrize("what", ["bytes", "text", "zeros"])
def test_what_is_nobody_s_is_not_given_a_name(what: str) -> None:
    data = {"bytes": bytes(range(1, 99)), "text": b"weights are on the other disk", "zeros": bytes(999)}[what]
    with pytest.raises(FormatError, match="as no checkpoint does"):
        read_content(data)


# The ways from them, as far as their libraries are here.


def test_arrays_by_name_are_saved_as_the_advice_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "safetensors.numpy.save_file(arrays, 'weights.safetensors')" in ARRAYS
    arrays = {name: tensor.numpy() for name, tensor in STATE.items()}
    save_file(arrays, "weights.safetensors")
    assert inspect("weights.safetensors").config == SMALL


def test_the_weights_of_an_onnx_model_are_saved_as_the_advice_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")

    monkeypatch.chdir(tmp_path)
    weights = [onnx.numpy_helper.from_array(value.numpy(), name) for name, value in STATE.items()]
    graph = onnx.helper.make_graph([], "main", [], [], weights)
    file = "model.onnx"
    onnx.save(onnx.helper.make_model(graph), file)
    with pytest.raises(ReadError, match="an ONNX model") as error:
        dc.convert(file, "new", device="cpu")
    (call,) = re.findall(r"torch\.save\(.*?'weights\.pth'\)", str(error.value))
    assert call in FROM_ONNX
    eval(call, {"onnx": onnx, "torch": torch, "file": file})
    assert inspect("weights.pth").config == SMALL


def test_a_distributed_network_is_saved_whole_as_the_advice_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (statements,) = re.findall(r"from torch\.distributed.*'whole\.pth'\)", FROM_SHARDS)
    exec(statements, {"torch": torch, "model": DenseNet(SMALL)})
    assert inspect("whole.pth").config == SMALL


# What is read though it is a program.


def exported(kind: str) -> bytes:
    import torchvision

    network: Any = torchvision.models.DenseNet(4, SMALL.block_config, 8, 2, 0, 5)
    network.load_state_dict(STATE)
    network.eval()
    file = io.BytesIO()
    if kind == "torchscript":
        torch.jit.save(torch.jit.script(network), file)
    else:
        torch.export.save(torch.export.export(network, (torch.rand(1, 3, 64, 64),)), file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_the_tensors_of_a_program_are_read_bit_for_bit(kind: str, tmp_path: Path) -> None:
    data = exported(kind)
    (tmp_path / "model.pt2").write_bytes(data)
    found = read_content(data)
    assert found.format == kind
    assert {name: bytes(raw.row_major()) for name, raw in found.tensors.items()} == {
        name: tensor.numpy().tobytes() for name, tensor in STATE.items()
    }
    written = dc.convert(tmp_path / "model.pt2", tmp_path / "new", device="cpu")
    assert written.receipt["source"]["format"] == kind
    for at in range(60, len(data), len(data) // 40):
        mutant = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        try:
            again = read_content(mutant)
        except FormatError:
            continue
        assert {name: bytes(raw.row_major()) for name, raw in again.tensors.items()} == {
            name: bytes(raw.row_major()) for name, raw in found.tensors.items()
        }


def test_an_export_of_an_older_torch_holds_a_file_of_torch_save() -> None:
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("serialized_exported_program.json", json.dumps({}))
        archive.writestr("serialized_state_dict.pt", saved(STATE))
        archive.writestr("version", "8.0")
    found = read_content(file.getvalue())
    assert (found.format, found.tensors.keys()) == ("pt2", STATE.keys())
