"""The GitHub action verifies or publishes, writes the summary of the step and passes the exit code on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import IDENTITY, Repository, running_hub
from huggingface_hub import errors

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
DOCUMENT = (ROOT / "docs" / "ci.md").read_text()

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the action's shell is bash")


def run_verify(
    tmp_path: Path, command: Path | None = None, around: Mapping[str, str] | None = None, **inputs: str
) -> tuple[int, str, str]:
    """Runs the script of the action's step: exit code, summary and outputs.

    ``around`` is what the runner sets beside; an input's name has ``_`` for a hyphen.
    """
    step = next(one for one in STEPS if one.get("id") == "verify")
    given = {name: str(field.get("default", "")) for name, field in ACTION["inputs"].items()}
    given |= {name.replace("_", "-"): value for name, value in inputs.items()}
    variables = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: given[m[1]], value)
        for name, value in step["env"].items()
    }
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    first = Path(sys.executable).parent if command is None else command.parent
    environment = {
        **os.environ,
        **variables,
        **(around or {}),
        "PATH": f"{first}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(outputs),
        "RUNNER_TEMP": str(tmp_path),
    }
    # As GitHub runs bash: https://docs.github.com/actions/reference/workflow-syntax#defaultsrunshell
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True)
    (tmp_path / "log").write_text(done.stdout)
    return done.returncode, summary.read_text(), outputs.read_text()


def fake(tmp_path: Path, script: str) -> Path:
    """A command of the same name that is quick, and fails as told."""
    command = tmp_path / "bin" / "densenet-convert"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    return command


def test_a_sound_folder_passes_and_its_summary_says_what_was_verified(
    converted: Path, tmp_path: Path
) -> None:
    code, summary, outputs = run_verify(
        tmp_path, folder=str(converted), source=str(converted.parent / "source.pth")
    )
    assert code == 0, summary
    assert outputs == "exit-code=0\n"
    assert summary.startswith("### DenseNet parity\n\n")
    assert f"    {converted}: verified\n" in summary
    assert "      verdict     equal to torchvision's network with these weights, to the last bit\n" in summary


def test_a_changed_folder_fails_with_a_summary_that_names_the_file(converted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(converted, tmp_path / "changed")
    (folder / "config.json").write_text("{}")
    code, summary, outputs = run_verify(tmp_path, folder=str(folder))
    assert (code, outputs) == (1, "exit-code=1\n")
    assert "config.json was changed" in summary


def test_a_failed_parity_exits_with_3(tmp_path: Path) -> None:
    code, summary, outputs = run_verify(tmp_path, fake(tmp_path, "echo 'error: it differs' >&2; exit 3"))
    assert (code, outputs) == (3, "exit-code=3\n")
    assert "    error: it differs\n" in summary


def test_what_failed_is_an_annotation_of_one_line_that_names_the_layer(tmp_path: Path) -> None:
    said = "a warning\nerror: features.norm5: It differs by 100%.\r::set-output::\nlast"
    run_verify(tmp_path, fake(tmp_path, f"printf '%s' '{said}'; exit 3"))
    annotation = (tmp_path / "log").read_text().splitlines()[-1]
    escaped = "features.norm5: It differs by 100%25.%0D::set-output::%0Alast"
    assert annotation == f"::error title=DenseNet parity::{escaped}"


def test_the_report_is_written_where_it_is_kept_from_and_only_where_it_is_asked_for(tmp_path: Path) -> None:
    command = fake(tmp_path, 'printf "%s\\n" "$@"')
    page = tmp_path / "densenet-parity.html"
    page.touch()  # of an earlier use of the action
    _, summary, _ = run_verify(tmp_path, command, folder="sound", report="my page")
    assert summary.splitlines()[-4:] == ["    --report", f"    {page}", "    --", "    sound"]
    assert not page.exists()
    assert "--report" not in run_verify(tmp_path, command, folder="sound")[1].splitlines()[-4:]
    kept = STEPS[-1]["with"]
    assert kept["path"] == "${{ runner.temp }}/densenet-parity.html"
    assert kept["name"] == "${{ inputs.report }}"


def test_an_exported_network_is_compared_once_the_folder_is_sound(tmp_path: Path) -> None:
    command = fake(tmp_path, 'printf "%s\\n" "$@"; test "$3" != wrong.onnx')
    code, summary, _ = run_verify(tmp_path, command, folder="sound", exported="right.onnx")
    assert code == 0
    assert summary.splitlines()[-5:] == [
        f"    {one}" for one in ("verify", "--against", "sound", "--", "right.onnx")
    ]
    command.write_text("#!/bin/sh\necho $2; [ $2 != --against ] || exit 3\n")
    code, summary, outputs = run_verify(tmp_path, command, folder="sound", exported="wrong.onnx")
    assert (code, outputs) == (3, "exit-code=0\nexit-code=3\n")


@pytest.mark.parametrize(
    "folder",
    ["my folder", "-rf", "$(touch executed)", "`touch executed`", "a'b\"c", "a; touch executed", "*"],
)
def test_a_folder_of_any_name_is_passed_on_as_it_is(folder: str, tmp_path: Path) -> None:
    command = fake(tmp_path, 'printf "%s\\n" "$@"')
    code, summary, _ = run_verify(tmp_path, command, folder=folder, source="$(touch executed)", device="cpu")
    assert code == 0
    assert not (tmp_path / "executed").exists()
    passed_on = ["verify", "--device", "cpu", "--source", "$(touch executed)", "--", folder]
    assert summary.splitlines()[2:] == [f"    {argument}" for argument in passed_on]


def test_without_a_source_none_is_named(tmp_path: Path) -> None:
    _, summary, _ = run_verify(tmp_path, fake(tmp_path, 'printf "%s\\n" "$@"'), folder="sound")
    assert "--source" not in summary


def test_what_is_said_does_not_get_out_of_its_block(tmp_path: Path) -> None:
    _, summary, _ = run_verify(tmp_path, fake(tmp_path, "printf '```\\n# big\\n<img src=x>\\r# big\\n'"))
    assert all(line.startswith("    ") for line in summary.splitlines()[2:])


def test_what_is_said_is_no_command_to_the_runner(tmp_path: Path) -> None:
    run_verify(tmp_path, fake(tmp_path, 'printf "%s\\n" "$@"'), folder="a\n::set-output name=exit-code::0")
    first, *said, last = (tmp_path / "log").read_text().splitlines()
    mark = first.removeprefix("::stop-commands::")
    assert re.fullmatch("[0-9a-f]{32}", mark)
    assert last == f"::{mark}::"
    assert said[-1] == "::set-output name=exit-code::0"


# Says what it was called with, and as which repository's workflow it may sign in.
SAYS_ALL = 'echo "$1 as ${HF_OIDC_RESOURCE-nobody}"; printf "  %s\\n" "$@"'
PUBLISH = {"mode": "publish", "folder": "chest", "repository": "user/chest"}


def test_to_publish_is_to_convert_to_verify_and_to_push_and_only_the_push_signs_in(tmp_path: Path) -> None:
    command = fake(tmp_path, SAYS_ALL)
    options = "--license=mit\n\n--labels=my names.txt\n--dataset=$(touch executed)\n"
    code, summary, _ = run_verify(
        tmp_path, command, **PUBLISH, source="old.pth", options=options, sign="key.pem"
    )
    said = [line.strip() for line in summary.splitlines()[2:]]
    file = ["file", "--device", "auto", "--output", "chest"]
    stated = ["--license=mit", "--labels=my names.txt", "--dataset=$(touch executed)"]
    verify = ["verify", "--device", "auto", "--source", "old.pth", "--", "chest"]
    assert (code, said) == (
        0,
        [
            *("file as nobody", *file, *stated, "--", "old.pth"),
            *("verify as nobody", *verify),
            *("push as user/chest", "push", "--sign", "key.pem", "--", "chest", "user/chest"),
        ],
    )
    assert not (tmp_path / "executed").exists()


def test_a_folder_that_is_there_is_published_and_a_pull_request_is_asked_for(tmp_path: Path) -> None:
    inputs = {**PUBLISH, "pull_request": "true"}
    _, summary, _ = run_verify(tmp_path, fake(tmp_path, SAYS_ALL), **inputs)
    said = [line.strip() for line in summary.splitlines()[2:]]
    assert said[:2] == ["verify as nobody", "verify"]
    assert said[-6:] == ["push as user/chest", "push", "--create-pr", "--", "chest", "user/chest"]


@pytest.mark.parametrize(("failing", "code"), [("file", 1), ("verify", 3), ("push", 1)])
def test_what_fails_is_the_last_thing_that_is_done(failing: str, code: int, tmp_path: Path) -> None:
    script = f'echo "doing $1"; [ "$1" != {failing} ] || {{ echo "error: no $1"; exit {code}; }}'
    done = run_verify(tmp_path, fake(tmp_path, script), **PUBLISH, source="old.pth")
    assert done[0] == code
    assert done[1].splitlines()[-2:] == [f"    doing {failing}", f"    error: no {failing}"]
    assert done[2] == f"exit-code={code}\n"


def test_an_input_that_is_wrong_does_nothing(tmp_path: Path) -> None:
    command = fake(tmp_path, "touch done")
    for inputs, message in (
        ({"mode": "push"}, "The mode is push, expected verify or publish."),
        ({"mode": "publish"}, "To publish, name the repository: OWNER/NAME."),
    ):
        code, summary, _ = run_verify(tmp_path, command, folder="chest", **inputs)
        assert (code, summary.splitlines()[-1]) == (2, f"    error: {message}")
    assert not (tmp_path / "done").exists()


@pytest.mark.skipif(
    not hasattr(errors, "OIDCError"), reason="huggingface_hub exchanges identities since 1.19"
)
def test_a_workflow_publishes_by_its_identity(converted: Path, tmp_path: Path) -> None:
    with running_hub() as hub:
        hub.trusted = {"user/chest"}
        hub.repositories["user/chest"] = Repository()
        hub.repositories["user/chest"].commit("main", {})
        around = {**hub.environment(tmp_path / "cache"), "HF_OIDC_ID_TOKEN": IDENTITY, "HF_TOKEN": ""}
        inputs = {**PUBLISH, "source": str(converted.with_name("source.pth")), "options": "--license=mit"}
        code, summary, _ = run_verify(tmp_path, around=around, device="cpu", **inputs)
        assert code == 0, summary
        assert "    user/chest, main: published\n" in summary
        files = hub.repositories["user/chest"].commits[hub.repositories["user/chest"].refs["main"]]
    assert files["model.safetensors"] == (converted / "model.safetensors").read_bytes()
    assert set(hub.issued.values()) == {"user/chest"}
    assert not any("whoami" in path for _, path in hub.asked)


def test_no_input_is_pasted_into_a_script() -> None:
    for step in STEPS:
        if "uses" in step:
            continue
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"


def workflows() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.S)]


def test_the_workflow_that_publishes_keeps_no_secret() -> None:
    (publishing,) = [one for one in workflows() if "publish" in one["jobs"]]
    assert publishing["permissions"] == {"contents": "read", "id-token": "write"}
    assert "HF_TOKEN" not in DOCUMENT
    assert "secrets." not in DOCUMENT + (ROOT / "action.yml").read_text()


def test_the_workflow_in_the_document_uses_inputs_that_exist() -> None:
    used = [
        step
        for workflow in workflows()
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "densenet-convert@" in step.get("uses", "")
    ]
    assert used
    for step in used:
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert {name for name, field in ACTION["inputs"].items() if field.get("required")} <= set(
            step["with"]
        )
