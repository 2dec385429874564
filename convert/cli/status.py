"""The line on a terminal that says what is being done: a phase, or a bar with the phase behind it.

Phases are what the package logs to ``densenet_convert.phases``.  There is one line at a time, and it is taken
away before anything else is printed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..columns import columns
from ..records import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

PHASES = logging.getLogger("densenet_convert.phases")
# How long it took, how long it will, and no rate: what is counted takes seconds or minutes each.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"
_LONGEST_NAME = 24
SELF_TEST = "self-test"


class StatusLine(logging.Handler):
    """Shows each phase that is logged, and bars, on stderr, where that is a terminal."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._line: tqdm[Any] | None = None
        self._counts: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Shows a phase: alone, or behind the bar that stands."""
        phase = record.getMessage()
        if self._line is not None and self._counts is not None:
            # The steps of the self-test are conversions, too, and too short for anybody to read.
            if self._counts != SELF_TEST:
                self._line.set_postfix_str(_shortened(phase, _LONGEST_NAME))
            return
        if self._line is None:
            self._line = _tqdm(bar_format="{desc}")
        self._line.set_description_str(_shortened(phase, columns(sys.stderr) - 1))

    def bar(self, items: Sequence[Any], what: str) -> Iterable[Any]:
        """Goes through ``items``, and counts them in a bar."""
        self.clear()
        self._line, self._counts = _tqdm(items, desc=what, bar_format=_BAR), what
        yield from self._line
        self.clear()

    def clear(self) -> None:
        """Takes the line away."""
        if self._line is not None:
            self._line.close()
        self._line, self._counts = None, None


_STATUS = StatusLine()


def progress_bar(quiet: bool) -> Progress | None:
    """Returns what draws bars; None where nobody sees them."""
    return _STATUS.bar if _is_seen(quiet) else None


def show_phases(quiet: bool) -> None:
    """Shows what is being done from here on, where somebody sees it."""
    PHASES.removeHandler(_STATUS)
    PHASES.setLevel(logging.NOTSET)
    if _is_seen(quiet):
        # As lines they are for whoever asked for lines.
        PHASES.propagate = PHASES.isEnabledFor(logging.INFO)
        PHASES.setLevel(logging.INFO)
        PHASES.addHandler(_STATUS)


def clear_status() -> None:
    """Takes the line away, for what was to be done is done."""
    _STATUS.clear()


def echo(text: str, *, err: bool = False) -> None:
    """Prints lines, for which the status line and every bar make room."""
    if "tqdm" not in sys.modules:  # nothing stands there
        click.echo(text, err=err)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        click.echo(text, err=err)


def _is_seen(quiet: bool) -> bool:
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


def _tqdm(*arguments: Any, **options: Any) -> tqdm[Any]:
    from tqdm import tqdm

    # What is left is told by the mean rate of all that is done, and each item is drawn: they take long.
    fixed: dict[str, Any] = {"leave": False, "dynamic_ncols": True, "smoothing": 0, "miniters": 1}
    return tqdm(*arguments, mininterval=0, file=sys.stderr, **fixed, **options)


def _shortened(text: str, length: int) -> str:
    """Cuts the middle out of a text that is longer."""
    if len(text) <= length:
        return text
    half = max(length - 3, 0) // 2
    return f"{text[: length - 3 - half]}...{text[len(text) - half :]}"
