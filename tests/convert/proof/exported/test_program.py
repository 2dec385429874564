"""An archive of torch.export holds the folder's tensors and gives the network's logits to the bit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from schemas import validate

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import ParityError, ReadError
from densenet_convert.proof.layers import OUTPUT

if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8):
    pytest.skip("archives of torch.export need torch 2.8", allow_module_level=True)

Change = Callable[[dict[str, bytes]], object]


@pytest.fixture(scope="module")
def archive(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> dc.Exported:
    """The shared conversion as a program for images of any size; no test may change it."""
    file = tmp_path_factory.mktemp("pt2") / "any.pt2"
    return dc.export(converted, "pt2", file, dynamic_size=True)


@pytest.fixture
def changed(archive: dc.Exported, tmp_path: Path) -> Callable[[Change], Path]:
    """Writes a copy of it whose records a function has changed."""

    def write_copy(change: Change) -> Path:
        with ZipFile(archive) as file:
            records = {name: file.read(name) for name in file.namelist()}
        change(records)
        with ZipFile(tmp_path / "changed.pt2", "w") as copy:
            for name, data in records.items():
                copy.writestr(name, data)
        return tmp_path / "changed.pt2"

    return write_copy


def in_model(old: str, new: str) -> Change:
    def change(records: dict[str, bytes]) -> None:
        name = next(one for one in records if one.endswith("models/model.json"))
        assert old in records[name].decode()
        records[name] = records[name].decode().replace(old, new, 1).encode()

    return change


def first_weight(records: dict[str, bytes]) -> None:
    name = next(one for one in records if one.endswith("weights/weight_0"))
    records[name] = bytes([records[name][0] ^ 1]) + records[name][1:]


def without_a_weight(records: dict[str, bytes]) -> None:
    del records[next(name for name in records if name.endswith("weight_3"))]


def test_torch_loads_it_and_it_computes_the_same_on_any_batch_and_size(
    archive: dc.Exported, converted: Path
) -> None:
    program = torch.export.load(archive.path)
    network = dc.DenseNet.from_pretrained(converted)
    for shape in ((1, 3, 64, 96), (3, 3, 80, 70)):
        x = torch.rand(shape)
        assert torch.equal(program.module()(x), network(x))
    expected = load_file(converted / "model.safetensors")
    assert all(torch.equal(program.state_dict[name], tensor) for name, tensor in expected.items())


def test_nothing_of_the_machine_is_in_it(archive: dc.Exported) -> None:
    with ZipFile(archive) as file:
        text = file.read(next(one for one in file.namelist() if one.endswith("model.json"))).decode()
    for kept in (".py", "stack_trace", str(Path.home())):
        assert kept not in text


def test_the_commands_print_what_was_proven(archive: dc.Exported, converted: Path) -> None:
    done = CliRunner().invoke(
        main, ["verify", str(archive.path), "--against", str(converted), "--json"], catch_exceptions=False
    )
    document = json.loads(done.stdout)
    validate(document, "export")
    assert document["proof"]["nearest"] is None
    assert document["proof"]["tensors"] == 127
    assert "bit for bit in float32" in str(archive)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (first_weight, "features"),
        (in_model('{"as_float": 1e-05}', '{"as_float": 1.001e-05}'), "features.norm0"),
        (in_model("relu_.default", "sigmoid.default"), OUTPUT),
    ],
)
def test_a_change_is_caught(
    change: Change, where: str, changed: Callable[[Change], Path], converted: Path
) -> None:
    with pytest.raises(ParityError) as caught:
        dc.verify_exported(changed(change), converted)
    assert caught.value.where.startswith(where)


class Touch:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_what_torch_would_unpickle_or_evaluate_of_it_is_not_run(
    changed: Callable[[Change], Path], converted: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"

    def add(records: dict[str, bytes]) -> None:
        inputs = next(one for one in records if "sample_inputs" in one)
        records[inputs] = pickle.dumps(Touch(trace))
        in_model("Symbol(", f"__import__('pathlib').Path({str(trace)!r}).touch(")(records)

    assert dc.verify_exported(changed(add), converted).proof.tensors == 127
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_model("aten.relu_.default", "aten.from_file.default"), "runs torch.ops.aten.from_file.default"),
        (in_model('"graph_module"', '"another"'), "holds no program of torch.export that is known here"),
        (without_a_weight, "its record .*weight_3.* is missing"),
    ],
)
def test_another_archive_is_refused_in_one_message(
    change: Change, message: str, changed: Callable[[Change], Path], converted: Path
) -> None:
    with pytest.raises(ReadError, match=message):
        dc.verify_exported(changed(change), converted)
