"""Every command prints nothing but errors with -q, and one document with --json."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from schemas import validate

from densenet_convert.api.doctor import examine
from densenet_convert.cli import main
from densenet_convert.folder.open import open_folder
from densenet_convert.folder.records import Written
from densenet_convert.folder.signed import Signed
from densenet_convert.hub.records import Published
from densenet_convert.proof.selftest.counting import FaultKind, SelfTest

KIND = FaultKind("swap", 1, 0, 1, 1, {"bytes": (1, 1)}, {"names": (0, 1)})
TESTED = SelfTest("a small network", "cpu", (KIND,), 1, (), (), {"versions": {}, "flags": {}})
PUBLISHED = Published("USER/NAME", "main", "0" * 40, "https://huggingface.co/USER/NAME", "made", (), "# card")
SIGNED = Signed(Path("chest"), "by the key with SHA-256 ...", ("config.json",))
# What each is called with, and the definition of its document in output.schema.json.
COMMANDS = {
    "torchvision": (["121", "-o", "chest"], "conversion"),
    "file": (["source.pth", "-o", "chest"], "conversion"),
    "push": (["chest", "USER/NAME"], "publication"),
    "describe": (["chest", "--license", "mit"], "conversion"),
    "sign": (["chest", "--private-key", "key.pem"], "signature"),
    "export": (["chest", "--to", "monai", "-f"], "export"),
    "verify": (["chest", "--device", "cpu"], "conversion"),
    "inspect": (["chest"], "inspection"),
    "compare": (["source.pth", "chest"], "comparison"),
    "prove": ([], "proof"),
    "doctor": ([], "diagnosis"),
}
FAILING = {
    "torchvision": ["121", "--device", "none"],
    "file": ["gone.pth"],
    "push": ["gone", "USER/NAME"],
    "describe": ["gone"],
    "sign": ["gone", "--private-key", "gone.pem"],
    "export": ["gone", "--to", "monai"],
    "verify": ["gone"],
    "inspect": ["gone.pth"],
    "compare": ["gone.pth", "chest"],
    "prove": ["gone"],
}


@pytest.fixture(autouse=True)
def chest(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source and its conversion in the working folder; nothing that takes long or needs a network runs."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(converted.with_name("source.pth"), "source.pth")
    shutil.copytree(converted, "chest")


@pytest.fixture
def without_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Written(Path("chest"), open_folder(Path("chest")).receipt)
    monkeypatch.setattr("densenet_convert.api.convert.convert_torchvision", lambda *_, **__: made)
    monkeypatch.setattr("densenet_convert.api.push.push", lambda *_, **__: PUBLISHED)
    monkeypatch.setattr("densenet_convert.api.sign.sign", lambda *_, **__: SIGNED)
    monkeypatch.setattr("densenet_convert.proof.selftest.run.run_self_test", lambda *_, **__: TESTED)


@pytest.mark.usefixtures("without_the_world")
@pytest.mark.parametrize("command", main.commands)
def test_a_command_is_quiet_or_prints_one_document(command: str) -> None:
    arguments, definition = COMMANDS[command]
    quiet = CliRunner().invoke(main, [command, *arguments, "-q"])
    assert (quiet.exit_code, quiet.output) == (0, "")
    printed = CliRunner().invoke(main, [command, *arguments, "--json", "-q"])
    assert (printed.exit_code, printed.stderr) == (0, "")
    validate(json.loads(printed.stdout), definition)
    assert CliRunner().invoke(main, [command, *arguments]).stdout


@pytest.mark.parametrize("command", FAILING)
def test_a_command_that_fails_says_why_in_both(command: str) -> None:
    quiet = CliRunner().invoke(main, [command, *FAILING[command], "-q"])
    assert (quiet.exit_code, quiet.stdout, quiet.stderr[:7]) == (1, "", "error: ")
    printed = CliRunner().invoke(main, [command, *FAILING[command], "--json"])
    assert printed.exit_code == 1
    validate(json.loads(printed.stdout), "error")


def test_a_doctor_that_finds_something_says_so_though_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(examine(), problems=("torch: it is not installed",))
    monkeypatch.setattr("densenet_convert.api.doctor.examine", lambda: found)
    done = CliRunner().invoke(main, ["doctor", "-q"])
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "error: torch: it is not installed\n")
