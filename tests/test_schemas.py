"""Every document that a program may read is as its schema says, and says which schema that is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL, save, state_dict_of
from click.testing import CliRunner
from schemas import shipped, validate

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.folder import receipt
from densenet_convert.proof import verification


def printed(*arguments: object) -> Any:
    return json.loads(CliRunner().invoke(main, [*map(str, arguments)]).stdout)


def test_the_receipt(converted_with_golden: Path) -> None:
    validate(json.loads((converted_with_golden / "conversion.json").read_text()))


def test_the_receipt_of_permuted_and_dropped_tensors(tmp_path: Path) -> None:
    content = {"net": {"densenet": 0}, "state_dict": {f"m.{k}": v for k, v in state_dict_of().items()}}
    content["state_dict"]["other.decoder"] = state_dict_of()["classifier.weight"]
    written = dc.convert(
        save(content, tmp_path / "part.pth"), tmp_path / "new", only="m", multi_label=True, device="cpu"
    )
    validate(json.loads((written.folder / "conversion.json").read_text()))
    assert written.receipt["dropped"]


def test_what_torchvision_file_and_verify_print(
    source: Path, converted_with_golden: Path, tmp_path: Path
) -> None:
    options = ("--output", tmp_path / "new", "--device", "cpu", "--json")
    validate(printed("file", source, "--golden", *options), "conversion")
    validate(printed("verify", converted_with_golden, "--device", "cpu", "--json"), "conversion")
    validate(printed("torchvision", "--arch", "121", "--checkpoint", source, *options, "--force"), "error")
    both = ("torchvision", "--arch", "121", "--arch", "169", "--weights", "random", "--seed", "0")
    (tmp_path / "there" / "densenet121").mkdir(parents=True)
    (tmp_path / "there" / "densenet169").mkdir()
    validate(printed(*both, "--output", tmp_path / "there", "--device", "cpu", "--json"), "conversions")


def test_what_file_prints_of_several_sources(source: Path, tmp_path: Path) -> None:
    other = shutil.copy(source, tmp_path / "other.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    arguments = (
        "file",
        source,
        other,
        tmp_path / "junk.pth",
        "--output",
        tmp_path / "out",
        "--device",
        "cpu",
    )
    document = printed(*arguments, "--json")
    validate(document, "outcomes")
    assert [one["status"] for one in document["conversions"]] == ["converted", "converted", "failed"]
    lines = CliRunner().invoke(main, [*map(str, arguments), "--jsonl"]).stdout.splitlines()
    for line in lines:
        validate(json.loads(line), "outcome")
    assert len(lines) == 3


def test_what_inspect_prints(source: Path, tmp_path: Path) -> None:
    validate(printed("inspect", source, "--hashes", "--json"), "inspection")
    validate(
        printed("inspect", save({"a": state_dict_of()["classifier.bias"]}, tmp_path / "x"), "--json"),
        "inspection",
    )
    validate(printed("inspect", tmp_path / "none", "--json"), "error")


def test_what_doctor_prints() -> None:
    validate(printed("doctor", "--json"), "diagnosis")


def test_what_a_failed_parity_prints(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise dc.ParityError("They differ.", where="features.conv0", largest=float("inf"))

    monkeypatch.setattr(verification, "compare_bytes", wrong)
    document = printed("file", source, "--output", tmp_path / "new", "--device", "cpu", "--json")
    validate(document, "error")
    assert document["error"]["exit_code"] == 3
    assert document["error"]["where"] == "features.conv0"


def test_a_schema_refuses_a_document_that_lacks_a_field_or_has_another(converted_with_golden: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    content = json.loads((converted_with_golden / "conversion.json").read_text())
    lacking = {key: value for key, value in content.items() if key != "labels"}
    wrong = {**content, "source": {**content["source"], "origin": "elsewhere"}}
    for document in (lacking, wrong, {**content, "more": 1}, {**content, "schema_version": 4}):
        with pytest.raises(jsonschema.ValidationError):
            validate(document)


def test_the_schemas_are_sound_and_of_the_versions_that_are_written() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for name in ("conversion.schema.json", "output.schema.json"):
        jsonschema.Draft202012Validator.check_schema(shipped(name))
    assert (
        shipped("conversion.schema.json")["properties"]["schema_version"]["const"] == receipt.SCHEMA_VERSION
    )
    assert list(shipped("conversion.schema.json")["$defs"]["config"]["properties"]) == list(vars(SMALL))
