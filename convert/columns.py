"""Text that a terminal is wide enough for; where there is no terminal, lines are as long as they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import TextIO

# A name is not cut below this, nor is a row wrapped.
NARROWEST = 24
LABEL = 12
USUAL = 80
FREE = 1 << 20
# Lines that are there to be pasted are left whole.
COMMAND = "densenet-convert "


def columns(stream: TextIO | None = None) -> int:
    """Returns how wide what is printed to a stream, by default to stdout, may be."""
    stream = stream or sys.stdout
    if stream is None or not stream.isatty():
        return FREE
    # 0 is what a terminal says whose size nobody set.
    return os.get_terminal_size(stream.fileno()).columns or USUAL


def wrapped(text: str, indent: str = "") -> list[str]:
    """Returns a text in lines that fit; those behind the first are indented."""
    lines = []
    for line in text.splitlines() or [""]:
        if line.startswith(COMMAND):
            lines.append(line)
        else:
            width = max(columns(), NARROWEST)
            lines += wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return lines


def rows_as_text(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Returns a line for each label and its text, or several where it does not fit; no text, no line."""
    shown = [(label, text) for label, text in rows if text]
    width = max(LABEL, *(len(label) + 2 for label, _ in shown)) if shown else LABEL
    lines = []
    for label, text in shown:
        first, *rest = text.splitlines()
        lines += wrapped(f"  {label:<{width}}{first}", indent=" " * (width + 2))
        for line in rest:
            lines += wrapped(line)
    return lines


def table(title: str, labels: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Yields the lines of a table; columns that do not fit follow in a second one below, and so on."""
    whole = [(title, labels), *rows]
    sizes = [max(6, *(len(cells[i]) for _, cells in whole)) + 1 for i in range(len(labels))]
    longest = max(len(name) for name, _ in whole)
    width = max(min(longest, columns() - max(sizes, default=0)), NARROWEST)
    for begin, end in _parts(sizes, columns() - width):
        for name, cells in whole:
            cut = name if len(name) <= width else f"{name[: width - 3]}..."
            part = zip(cells[begin:end], sizes[begin:end], strict=True)
            yield f"{cut:<{width}}" + "".join(f"{cell:>{size}}" for cell, size in part)
        if end < len(labels):
            yield ""


def _parts(sizes: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Yields from which column to which a part of a table goes; each has one at least."""
    begin, used = 0, 0
    for i, size in enumerate(sizes):
        if i > begin and used + size > room:
            yield begin, i
            begin, used = i, 0
        used += size
    yield begin, len(sizes)
