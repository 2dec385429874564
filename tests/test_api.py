"""What SemVer covers, as text: the public names, the options of every command, the exit codes.

``python tests/test_api.py`` writes tests/api.txt anew; a change of it belongs into CHANGELOG.md.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import densenet_convert
from densenet_convert import errors
from densenet_convert.cli import main

SNAPSHOT = Path(__file__).with_name("api.txt")
MODULES = {
    "densenet_convert": densenet_convert.__all__,
    "densenet_convert.densenet": importlib.import_module("densenet_convert.densenet").__all__,
    "densenet_convert.executors": ["dask_executor", "process_executor"],
    "densenet_convert.layout": ["Drop", "Layout", "Rule"],
}


def names() -> Iterator[str]:
    for module, public in MODULES.items():
        for name in sorted(public):
            found = getattr(importlib.import_module(module), name)
            yield from _described(f"{module}.{name}", found)


def _described(path: str, found: object) -> Iterator[str]:
    if dataclasses.is_dataclass(found):
        yield path
        for field in dataclasses.fields(found):
            yield f"  {field.name}: {field.type}"
    elif inspect.isclass(found) and issubclass(found, Exception):
        yield f"{path}({found.__bases__[0].__name__})"
    elif callable(found):
        yield f"{path}{inspect.signature(found)}"
        for name, method in vars(found).items():
            if inspect.isclass(found) and not name.startswith("_"):
                yield f"  {name}{inspect.signature(getattr(method, '__func__', method))}"
    else:
        yield path


def commands() -> Iterator[str]:
    for name, command in main.commands.items():
        yield f"densenet-convert {name}"
        for parameter in command.params:
            choices = getattr(parameter.type, "choices", ())
            kind = "|".join(choices) or parameter.type.name
            flags = " ".join((*parameter.opts, *parameter.secondary_opts))
            many = " (repeated)" if parameter.multiple or parameter.nargs == -1 else ""
            yield f"  {flags} {kind}{many}{' (required)' if parameter.required else ''}"


def exit_codes() -> Iterator[str]:
    for name, found in vars(errors).items():
        if inspect.isclass(found) and issubclass(found, errors.ConvertError):
            yield f"{name} {found.exit_code}"


def snapshot() -> str:
    return "\n".join([*names(), "", *commands(), "", *exit_codes(), ""])


def test_nothing_that_semver_covers_has_changed_unnoticed() -> None:
    assert snapshot() == SNAPSHOT.read_text()


@pytest.mark.parametrize("module", ["densenet_convert", "densenet_convert.densenet"])
def test_type_checkers_know_every_public_name_and_no_others(module: str) -> None:
    """What is imported when it is first used stands in a block that only they read."""
    tree = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text())
    known = {name for node in tree.body for name in _names_for_checkers(node)}
    assert set(MODULES[module]) <= known
    assert "__getattr__" not in known


def _names_for_checkers(node: ast.stmt) -> Iterator[str]:
    """Yields what a statement of a module defines where ``TYPE_CHECKING`` holds."""
    if isinstance(node, ast.If):
        hidden = isinstance(node.test, ast.UnaryOp)  # not TYPE_CHECKING
        for inner in [] if hidden else node.body:
            yield from _names_for_checkers(inner)
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.AnnAssign):
        yield ast.unparse(node.target)


def test_every_public_name_says_what_it_is() -> None:
    for module, public in MODULES.items():
        for name in public:
            found = getattr(importlib.import_module(module), name)
            assert not callable(found) or (found.__doc__ or "").strip(), name


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
