"""A result is one line where Python prints it, and a table in a notebook."""

from __future__ import annotations

import re
import runpy
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checkpoints import SMALL, checkpoint_of, state_dict_of
from click.testing import CliRunner

import densenet_convert as dc
from densenet_convert.api.doctor import Examination, Package
from densenet_convert.cli import main
from densenet_convert.comparing.compare import Difference
from densenet_convert.folder.open import open_folder
from densenet_convert.hub.records import Published, Sent
from densenet_convert.proof.selftest.counting import FaultKind, SelfTest
from densenet_convert.records import Loaded
from densenet_convert.results import Coverage, EveryInput, Proof

# Python shows a result in one or two lines of a terminal.
LONGEST = 500
SHARES = Coverage({f"features.{i}.weight": 0.5 for i in range(1000)}, 0.5)
PROOF = Proof(
    device="cpu",
    dtype="float32",
    reference="torchvision",
    inputs=(("eval", (1, 3, 224, 224)),),
    compared={"tensors": 727},
    largest={"tensors": 0.0},
    every_input=EveryInput("equal", "equal", "equal", None),
    parameters=SHARES,
    statistics=SHARES,
    reaching=SHARES,
    dead={f"features.{i}.weight": (1, 2) for i in range(1000)},
    environment={"versions": {f"package{i}": "1" for i in range(100)}},
)
FAULTS = tuple(FaultKind(f"fault {i}", 7, 0, 7, 7, {}, {}) for i in range(100))


@pytest.fixture
def results(converted: Path) -> dict[str, Any]:
    """What public functions return, each as large as it gets."""
    source = converted.parent / "source.pth"
    loaded = Loaded(renamed=SimpleNamespace(), config=SMALL, model=SimpleNamespace())  # type: ignore[arg-type]
    files = tuple(Sent(f"file{i}.safetensors", 1, "0" * 64, "add") for i in range(100))
    return {
        "Written": open_folder(converted),
        "Verified": dc.Verified(loaded, PROOF, state_dict_of(SMALL)),
        "Inspection": dc.inspect(source, hashes=True),
        "Comparison": dc.Comparison(
            "a", "b", False, (), (), (Difference("values", ("name",) * 500, "text"),)
        ),
        "Outcome": dc.Outcome(str(source), converted, "failed", message="It is long. " * 100),
        "Published": Published("user/name", "main", None, None, "message", files, "card " * 1000),
        "SelfTest": SelfTest("DenseNet", "cpu", FAULTS, 3, (), ("one",) * 100, {"versions": {}}),
        "Examination": Examination(
            "1", "3", "Linux", (), (Package("a", None, None, None),) * 100, (), ("torch does not run. " * 99,)
        ),
    }


def test_a_result_is_shown_in_a_line_or_two_and_as_a_small_table(results: dict[str, Any]) -> None:
    for name, result in results.items():
        assert repr(result).startswith(f"{name}(")
        assert len(repr(result)) < LONGEST, name
        assert "\n" not in repr(result)
        assert result._repr_html_().startswith(f"<table><caption>{name}</caption><tr><th ")
        assert len(result._repr_html_()) < 3000
        assert "color" not in result._repr_html_()


def test_a_written_folder_says_where_it_is_what_it_holds_and_what_is_proven(
    results: dict[str, Any],
) -> None:
    what = "network='DenseNet', classes='5', "
    what += 'verified="equal to torchvision\'s network with these weights, to the last bit"'
    assert repr(replace(results["Written"], folder=Path("mine"))) == f"Written(folder='mine', {what})"
    assert repr(results["Verified"]) == f"Verified({what})"


def test_as_text_a_result_is_what_the_command_prints(
    results: dict[str, Any], converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(*arguments: object) -> str:
        return CliRunner().invoke(main, [str(one) for one in arguments]).stdout.rstrip("\n")

    source = converted.parent / "source.pth"
    called, said = f"dc.convert('{source}')", f"densenet-convert file {source}"
    assert str(dc.inspect(source)).replace(called, said) == printed("inspect", source)
    assert str(dc.compare(source, converted)) == printed("compare", source, converted)
    monkeypatch.setattr("densenet_convert.api.doctor.examine", lambda: results["Examination"])
    assert str(results["Examination"]) == printed("doctor")
    run = "densenet_convert.proof.selftest.run.run_self_test"
    monkeypatch.setattr(run, lambda *_, **__: results["SelfTest"])
    assert str(results["SelfTest"]) == printed("prove")
    monkeypatch.setattr("densenet_convert.api.push.push", lambda *_, **__: results["Published"])
    assert str(results["Published"]) == printed("push", converted, "user/name")
    monkeypatch.setattr("densenet_convert.api.describe.describe", lambda *_, **__: results["Written"])
    assert str(results["Written"]).splitlines()[1:] == printed("describe", converted).splitlines()[1:]


def words(line: str) -> list[str]:
    return re.findall(r"[^ ,]+", line)


def test_what_was_verified_says_as_text_what_its_folder_says_but_for_the_files(converted: Path) -> None:
    said = str(dc.verify(converted, device="cpu")).splitlines()
    of_folder = str(open_folder(converted)).splitlines()[1:-1]
    # A receipt has its keys in their alphabet's order.
    assert [sorted(words(line)) for line in said] == [sorted(words(line)) for line in of_folder]


def test_a_table_holds_no_markup_of_a_stranger() -> None:
    outcome = dc.Outcome("<b>&.pth", Path("<img src=x>"), "converted", "DenseNet-121")
    assert "&lt;b&gt;&amp;.pth" in outcome._repr_html_()
    assert "<img" not in outcome._repr_html_()


def test_what_lies_within_a_result_is_short_as_well() -> None:
    state = {f"layer{i}.weight": torch.zeros(3) for i in range(1000)}
    assert len(repr(checkpoint_of(state))) < LONGEST
    assert len(repr(PROOF)) < 2 * LONGEST


def test_places_are_paths_but_for_a_source_which_may_be_on_the_hub() -> None:
    kinds = {(one.name, one.type) for kind in (dc.Written, dc.Outcome, dc.Inspection) for one in fields(kind)}
    assert {("folder", "Path"), ("path", "Path | None"), ("source", "str")} <= kinds
    assert ("folder", "str") not in kinds


def test_the_package_says_its_version_and_has_what_a_newcomer_looks_for() -> None:
    assert dc.__version__ == version("densenet-convert")
    assert issubclass(dc.errors.ReadError, dc.ConvertError)
    assert dc.DenseNet(SMALL).config == SMALL


def test_the_package_runs_as_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr("densenet_convert.cli.run", lambda: called.append("run"))
    runpy.run_module("densenet_convert", run_name="__main__")
    assert called == ["run"]
