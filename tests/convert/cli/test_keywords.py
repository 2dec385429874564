"""In Python a message names keywords and calls; on the command line options and commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.cli.keywords import KEYWORDS, as_command

CONVERT = Path(dc.__file__).parent
# What holds an option of the command on purpose.
ON_PURPOSE = {
    "left out by --only": "receipts hold it, and are compared with it",
    "--final-relu or --no-final-relu": "likewise",
    " --source ": "the command that a pull request, or a card, shows to whoever reads it",
    " --source FILE` compares with the file that was converted as well.": "likewise",
}
OPTIONS = [
    (command.name or "", option)
    for command in main.commands.values()
    for option in command.params
    if isinstance(option, click.Option)
]


def in_words_of(command: str, message: str) -> str:
    with click.Context(main) as parent, click.Context(main.commands[command], parent):
        return as_command(message)


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda one: getattr(one, "name", one))
def test_every_option_is_said_by_its_keyword_or_as_the_command_takes_it(
    command: str, option: click.Option
) -> None:
    assert in_words_of(command, f"Name another `{option.name}=...`.") == f"Name another {option.opts[-1]}."


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("Say so by `final_relu=False`.", "Say so by --no-final-relu."),
        ("Ask for `arch='densenet121'`, or `device='cpu'`.", "Ask for --arch 121, or --device cpu."),
        ("`license='other', license_name='NAME'`", "--license other --license-name NAME"),
        ("dc.convert('my file', head='')", "densenet-convert file 'my file' --head ''"),
        ("dc.convert('x', datasets=['a', 'b'])", "densenet-convert file x --dataset a --dataset b"),
        ("dc.convert('x', mean=(0.5, 0.25), arch=121)", "densenet-convert file x --mean 0.5,0.25 --arch 121"),
        ("dc.inspect('x', key='ema')", "densenet-convert inspect x --key ema"),
    ],
)
def test_values_and_calls_are_said_as_they_are_typed(message: str, command: str) -> None:
    assert in_words_of("file", f"First:\n{message}\nlast.") == f"First:\n{command}\nlast."


@pytest.mark.parametrize(
    "text",
    [
        "a file only=3.pth",
        "`nothing=...`",
        "`only=`",
        "`only=x`",
        "dc.convert(SOURCE, OUTPUT)",
        "`license: ...`",
    ],
)
def test_a_stranger_s_text_stays_as_it_is(text: str) -> None:
    assert in_words_of("file", text) == text


def constants() -> Iterator[tuple[str, str]]:
    """Yields each text in the code of convert/ that a message may be made of, with its place."""
    for path in sorted(CONVERT.rglob("*.py")):
        if path.parent.name == "cli" or path.name in (
            "pytest_plugin.py",
            "style.py",
        ):  # pytest's options; CSS
            continue
        tree = ast.parse(path.read_text())
        documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                yield f"{path.relative_to(CONVERT)}:{node.lineno}", node.value


def test_no_message_names_an_option_of_the_command() -> None:
    found = {text: place for place, text in constants() if re.search(r"(?<!\S)[`(]?--[a-z]", text)}
    assert found.keys() == ON_PURPOSE.keys(), found


def test_every_keyword_that_a_message_names_is_said_as_an_option() -> None:
    known = {option.name for _, option in OPTIONS}
    named = {word for _, text in constants() for word in re.findall(r"`(\w+)=", text)}
    assert len(named) > 15
    assert named <= known
    for place, text in constants():
        assert not KEYWORDS.search(in_words_of("file", text)), place


def test_an_error_says_in_python_what_python_takes_and_on_the_command_line_what_that_does(
    tmp_path: Path,
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(dc.ConvertError) as caught:
        dc.convert("x.pth", taken)
    assert "Name another `output=...`, or replace it with `force=True`." in str(caught.value)
    done = CliRunner().invoke(main, ["file", "x.pth", "--output", str(taken)])
    assert "Name another --output, or replace it with --force." in done.stderr
