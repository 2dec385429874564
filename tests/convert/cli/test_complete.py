"""A shell completes what an argument or an option takes: commands, files, folders and known words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from densenet_convert.cli import main

PROGRAM = "densenet-convert"
VARIABLE = "_DENSENET_CONVERT_COMPLETE"
# What is free text, a number, or a name on the Hub.
FREE = {
    "--seed",
    "--mean",
    "--std",
    "--input-size",
    "--crop-pct",
    "--license-name",
    "--license-link",
    "--dataset",
    "--base-model",
    "--metric",
    "--reference-output",
    "--reference-input-size",
    "--prefix",
    "--only",
    "--head",
    "--key",
    "--key-a",
    "--key-b",
    "--jobs",
    "--dask",
    "repository",
    "--repo-id",
    "--revision",
    "--commit-message",
    "--token",
    "--identity",
    "--identity-provider",
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chest.pth").touch()
    (tmp_path / "export.pth").touch()
    (tmp_path / "my own.pth").touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "net.py").write_text("def build():\n    raise SystemExit\n")


def completed(*words: str) -> list[str]:
    """What is offered for the last word; ``FILE`` and ``DIR`` where the shell itself completes these."""
    offered = ShellComplete(main, {}, PROGRAM, VARIABLE).get_completions([*words[:-1]], words[-1])
    return [item.value if item.type == "plain" else item.type.upper() for item in offered]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["doc"], ["doctor"]),
        (["che"], ["FILE"]),
        (["exp"], ["export", "export.pth"]),
        (["file", "che"], ["FILE"]),
        (["chest.pth", "--gol"], ["--golden"]),
        (["convert", "--gol"], ["--golden"]),
        (["file", "chest.pth", "-o", ""], ["DIR"]),
        (["file", "chest.pth", "--layout", "ker"], ["keras-applications"]),
        (["file", "chest.pth", "--labels", "im"], ["imagenet1k"]),
        (["file", "chest.pth", "--labels", "na"], ["FILE"]),
        (["file", "chest.pth", "--labels", "che"], ["checkpoint", "checkpoints", "chest.pth"]),
        (["file", "chest.pth", "--license", "apa"], ["apache-2.0"]),
        (["file", "chest.pth", "--interpolation", "bi"], ["bilinear", "bicubic"]),
        (["file", "chest.pth", "--reference", "n"], ["net:build"]),
        (["file", "chest.pth", "--card-section", ""], ["FILE"]),
        (["file", "chest.pth", "--device", "c"], ["cpu", "cuda", "cuda:0"]),
        (["torchvision", "1"], ["121", "161", "169"]),
        (["torchvision", "--weights", "ran"], ["random"]),
        (["describe", ""], ["DIR"]),
        (["verify", ""], ["FILE"]),
        (["export", "x", "--to", "on"], ["onnx"]),
        (["export", "x", "--to", "op"], ["openvino"]),
        (["verify", "x", "--source", ""], ["FILE"]),
        (["verify", "x", "--images", ""], ["DIR"]),
        (["inspect", "x", ""], ["FILE"]),
        (["export", "x", "--to", "ker"], ["keras-applications"]),
        (["push", "x", "--license", "mi"], ["mit"]),
    ],
)
def test_what_is_offered(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.parametrize("command", main.commands)
def test_every_argument_and_option_is_completed_or_is_free_text(command: str) -> None:
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option) and parameter.is_flag:
            continue
        context = click.Context(main.commands[command], info_name=command)
        name = parameter.opts[0] if parameter.opts[0].startswith("--") else parameter.opts[-1]
        assert bool(parameter.shell_complete(context, "")) != (name in FREE), (command, name)


def script(shell: str) -> str:
    done = CliRunner().invoke(main, [], env={VARIABLE: f"{shell}_source"}, prog_name=PROGRAM)
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    assert f"{VARIABLE}={shell}_complete" in script(shell)


def require(shell: str, code: str = "") -> str:
    """Returns where a shell is, if it is there and ``code`` says that it will do."""
    path = shutil.which(shell)
    if path is None or (code and subprocess.run([path, "-c", code], check=False).returncode):
        pytest.skip(f"there is no {shell} here, or one that is too old")
    return path


def answers(shell: str, program: str, *, options: tuple[str, ...] = ()) -> list[str]:
    """The lines that a shell prints, in which ``densenet-convert`` is this source's command."""
    command = Path("bin", PROGRAM)
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom densenet_convert.cli import run\nrun()\n")
    command.chmod(0o755)
    done = subprocess.run(
        [shell, *options, "-c", program],
        env={**os.environ, "PATH": f"{command.parent.absolute()}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_bash_completes() -> None:
    bash = require("bash", "(( BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404 ))")
    ask = (
        '\nask() { COMPREPLY=(); COMP_WORDS=(densenet-convert "$@"); COMP_CWORD=$#; '
        '_densenet_convert_completion densenet-convert; echo "${COMPREPLY[*]}"; }\n'
        # Outside of a completion it has nothing to set: what it would set is shown.
        'compopt() { echo "$@"; }\n'
    )
    asked = "ask doc; ask chest.pth --lay; ask file chest.pth --license apa; ask che; ask describe ''"
    assert answers(bash, script("bash") + ask + asked) == [
        "doctor",
        "--layout",
        "apache-2.0",
        "-o default",
        "",
        "-o dirnames",
        "",
    ]


def test_zsh_completes() -> None:
    zsh = require("zsh")
    # The functions of its completion system work in its line editor alone: what they would get is shown.
    shown = (
        "compdef() {}; _describe() { print -l -- ${(P)3}; }; compadd() { print -l -- ${(P)@[-1]}; }\n"
        'ask() { words=(densenet-convert "$@"); CURRENT=$#words; _densenet_convert_completion; }\n'
        '_path_files() { echo "$@"; }\n'
    )
    asked = "\nask doc; ask file chest.pth --license apa; ask che; ask describe ''"
    lines = answers(zsh, shown + script("zsh") + asked, options=("-f",))
    assert lines[0].startswith("doctor:")
    assert lines[1:] == ["apache-2.0", "-f", "-/"]


def test_fish_completes() -> None:
    fish = require("fish")
    asked = [
        f"{PROGRAM} doc",
        f"{PROGRAM} file chest.pth --license apa",
        f"{PROGRAM} che",
        f"{PROGRAM} verify che",
    ]
    program = script("fish") + "".join(f"\ncomplete -C '{words}'" for words in asked)
    lines = answers(fish, program, options=("--no-config",))
    assert [line.split("\t")[0] for line in lines] == [
        "doctor",
        "apache-2.0",
        "checkpoints/",
        "chest.pth",
        "checkpoints/",
    ]
