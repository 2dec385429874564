"""README.md is short, its commands run, and the output that it shows is real."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from checkpoints import in_2017_names, save, state_dict_of
from click.testing import CliRunner

from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = "densenet-convert "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds chest.pth, as the page has it: names of 2017 under a prefix, three classes."""
    path = tmp_path_factory.mktemp("readme")
    names = in_2017_names(state_dict_of(replace(ARCHITECTURES["densenet121"], num_classes=3)))
    content = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in names.items()}}
    save(content, path / "chest.pth", legacy=True)
    (path / "names.txt").write_text("no finding\npneumonia\nedema\n")
    (path / "checkpoints").mkdir()
    return path


def blocks(*languages: str) -> Iterator[str]:
    return (text for language, text in BLOCK.findall(README) if language in languages)


def commands() -> list[str]:
    """Returns every command of ours that the page shows, in blocks and in tables."""
    lines = [line.removeprefix("$ ") for text in blocks("", "console") for line in text.splitlines()]
    lines += re.findall(r"^\| `(densenet-convert .*?)` \|", README, re.MULTILINE)
    return [line.partition(" #")[0].rstrip() for line in lines if line.startswith(COMMAND)]


def test_it_has_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


def test_the_output_that_it_shows_is_real_and_the_folder_loads_as_it_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    monkeypatch.chdir(folder)
    (shown,) = blocks("console")
    command, _, output = shown.removeprefix("$ ").partition("\n")
    found = CliRunner().invoke(main, shlex.split(command.removeprefix(COMMAND)))
    assert found.exit_code == 0, found.output
    assert (found.stdout, found.stderr) == (output, "")
    (loading,) = (text for text in blocks("python") if "timm" in text)
    exec(loading, {})


@pytest.mark.parametrize("command", commands())
def test_its_commands_are_ones_that_the_command_line_takes(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with main.make_context("densenet-convert", shlex.split(command.removeprefix(COMMAND))) as context:
        arguments = [*context._protected_args, *context.args]
        name, chosen, rest = main.resolve_command(context, arguments)
        assert isinstance(chosen, click.Command)
        assert chosen.make_context(name, rest, parent=context).params
