"""Messages name Python's keywords and calls; the command line says its own options and commands instead."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import click

# `only=...`, or several of them with commas between.
KEYWORDS = re.compile(r"`(\w+=[^`]*)`")
CALL = re.compile(r"dc\.\w+\(.*\)")
# Functions whose commands are called otherwise.
COMMANDS = {"convert": "file", "convert_torchvision": "torchvision", "verify_exported": "verify"}


def as_command(message: str) -> str:
    """Returns a message with ``--only`` for ```only=...```, and a command for each line that is a call.

    What is no keyword of a command, or no literal value, stays as it is.
    """
    return "\n".join(map(_line_as_command, message.split("\n")))


def _line_as_command(line: str) -> str:
    if CALL.fullmatch(line):
        return _translated(line) or line
    return KEYWORDS.sub(lambda match: _translated(f"dc.options({match[1]})") or match[0], line)


def _translated(call: str) -> str | None:
    """Returns a call's arguments as the command line takes them, behind the command where there is one."""
    here = click.get_current_context()
    commands: dict[str, click.Command] = here.find_root().command.commands  # type: ignore[attr-defined]
    try:
        tree: Any = ast.parse(call, mode="eval").body
        name = COMMANDS.get(tree.func.attr, tree.func.attr)
        start = ["densenet-convert", name] if name in commands else []
        places = [shlex.quote(ast.literal_eval(one)) for one in tree.args]
        known = _options([*commands.values(), here.command, commands.get(name, here.command)])
        words = [(known[one.arg], ast.literal_eval(one.value)) for one in tree.keywords]
    except (SyntaxError, ValueError, KeyError):
        return None
    return " ".join([*start, *places, *(one for option, value in words for one in _words(option, value))])


def _options(commands: list[click.Command]) -> dict[str | None, click.Option]:
    """Returns options by Python's name of each; where two commands have one, the last command's."""
    found = [option for command in commands for option in command.params]
    return {option.name: option for option in found if isinstance(option, click.Option)}


def _words(option: click.Option, value: Any) -> Iterator[str]:
    """Yields an option as it is typed; ``...`` stands for any value."""
    flag = option.opts[-1]
    if value is ...:
        yield flag
    elif isinstance(value, bool):
        yield flag if value else option.secondary_opts[0]
    elif isinstance(value, list | tuple) and option.multiple:
        for one in value:
            yield from _words(option, one)
    else:
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        yield f"{flag} {shlex.quote(text.removeprefix('densenet') if option.name == 'arch' else text)}"
