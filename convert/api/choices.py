"""Asks which of several state dicts in a file is meant, by the commands that convert one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import ArchitectureError, LayoutError, ReadError, SeveralError
from ..formats.raw import Whole
from ..layouts.network import CALL, call_for, identify_network
from ..records import Options
from ..source.beside import settings_beside
from ..source.file import parse_checkpoint, read_whole
from ..source.read import Opened, open_checkpoint

# Each is read anew.
MOST_CHOICES = 8


def open_chosen(path: Path, options: Options, source: str) -> Opened:
    """Reads a file, in which one state dict is meant.

    Args:
        path: where it lies.
        options: what the user says of it.
        source: what the user calls it.

    Raises:
        SeveralError: it holds several that differ; the message ends with a call for each.
        ReadError: as ``open_checkpoint``.
    """
    try:
        return open_checkpoint(path, key=options.key, ignore_config=options.ignore_config)
    except SeveralError as error:
        message = with_calls(error, read_whole(path), path, options, source)
        raise SeveralError(message, error.keys) from error


def with_calls(error: SeveralError, data: Whole, path: Path, options: Options, source: str) -> str:
    """Returns the error's message with a call for each state dict of a DenseNet, which was tried.

    Args:
        error: what was raised when the file was read.
        data: the whole of the file.
        path: where it lies.
        options: what the user says of it.
        source: what the user calls it.
    """
    calls = list(_calls(error, data, path, options, source))
    if not calls:
        return str(error)
    more = len(error.keys) - MOST_CHOICES
    rest = f", and {more:,} more take their `key=...` likewise" if more > 0 else ""
    sentence = "Each of these converts one" if len(calls) > 1 else "This converts one"
    return "\n".join([f"{error} {sentence}{rest}:", *calls])


def _calls(error: SeveralError, data: Whole, path: Path, options: Options, source: str) -> Iterator[str]:
    """Yields the call for each key that gets through, or the first that is advised for it."""
    settings = settings_beside(path, ignore_config=options.ignore_config)
    if options.final_relu is None:
        options = replace(options, final_relu=settings.get("final_relu"))
    for key in error.keys[:MOST_CHOICES]:
        chosen = replace(options, key=key)
        try:
            content = parse_checkpoint(data, path, key)
            identify_network(content, chosen, settings.get("norm_eps"), source=source)
        except (LayoutError, ArchitectureError) as refusal:
            lines = [line for line in str(refusal).splitlines() if line.startswith(CALL)]
            yield from lines[:1]
        except ReadError:
            continue
        else:
            if call := call_for(source, chosen):
                yield call
