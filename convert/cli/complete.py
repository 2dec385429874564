"""Completes files, folders and known words in a shell, for every argument and option that has such."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from glob import escape, glob
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell completes files and folders itself."""
    return [CompletionItem(incomplete, type="file")]


def folders(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell completes folders itself."""
    return [CompletionItem(incomplete, type="dir")]


def layouts(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of layouts."""
    from ..layouts import known_layouts

    return _beginning(incomplete, [layout.name for layout in known_layouts()])


def exports(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of layouts, and of what runs a network."""
    from ..api.exported import RUNTIMES

    return [*_beginning(incomplete, RUNTIMES), *layouts(context, parameter, incomplete)]


def licenses(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The Hub's identifiers of licenses."""
    from ..folder.card_fields import license_identifiers

    return _beginning(incomplete, license_identifiers())


def interpolations(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """How images can be resized."""
    from ..folder.preprocessing import INTERPOLATIONS

    return _beginning(incomplete, INTERPOLATIONS)


def devices(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns devices for a proof; which GPUs there are only torch knows, which takes seconds to import."""
    return _beginning(incomplete, ("auto", "cpu", "cuda", "cuda:0"))


def labels(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Whose names of classes there are, and files."""
    from ..records import IMAGENET, ORIGIN_CHECKPOINT

    return with_files(_beginning(incomplete, (IMAGENET, ORIGIN_CHECKPOINT)), incomplete)


def functions(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The functions of the modules in the working folder, none of which is imported: ``module:function``."""
    return _beginning(incomplete, _functions())


def _functions() -> Iterator[str]:
    for path in sorted(Path().glob("*.py")):
        with suppress(OSError, ValueError, SyntaxError):
            nodes = ast.parse(path.read_bytes()).body
            yield from (f"{path.stem}:{node.name}" for node in nodes if isinstance(node, ast.FunctionDef))


def with_files(words: list[CompletionItem], incomplete: str) -> list[CompletionItem]:
    """Returns the words, and the files that begin alike.

    Shells complete files themselves only where there is no word.  Names that would have to be quoted are
    left to them: one letter more, and no word begins so.
    """
    if not words:
        return [CompletionItem(incomplete, type="file")]
    found = sorted(glob(f"{escape(incomplete)}*"))  # noqa: PTH207 (named as they were begun)
    names = [name for name in found if shlex.quote(name) == name]
    return [*words, *map(CompletionItem, names)]


def _beginning(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
