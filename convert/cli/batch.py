"""Converts several sources, and prints what comes of each and, in the end, of all."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .keywords import as_command
from .reporting import draw_bars, reporting_errors, set_up_logging
from .status import echo, progress_bar

if TYPE_CHECKING:
    from ..api.many import Outcome

# Where the folders of several sources are written, unless the user says so.
PARENT = "converted"


class Printing(NamedTuple):
    """How what comes of the sources is printed."""

    as_json: bool
    jsonl: bool
    quiet: bool
    verbose: bool

    @property
    def as_text(self) -> bool:
        """Whether anything but errors is printed for people."""
        return not (self.as_json or self.jsonl or self.quiet)


def convert_batch(
    sources: Sequence[str],
    output: Path,
    jobs: int | None,
    dask: str | None,
    printing: Printing,
    options: Mapping[str, Any],
) -> int:
    """Prints what comes of each source, and returns the highest exit code."""
    from . import documents

    set_up_logging(printing.verbose)
    draw_bars(printing.quiet)
    outcomes, as_given = [], _as_given([*sources, output])
    indent = None if printing.jsonl else 2
    with reporting_errors(printing.as_json or printing.jsonl, indent, folder=str(output)):
        from ..api.many import convert_many

        with _executor(jobs, dask) as executor:
            progress = progress_bar(printing.quiet)
            for one in convert_many(sources, output, executor=executor, progress=progress, **options):
                if one.message is not None:
                    one = replace(one, message=as_command(one.message))
                outcomes.append(one)
                _print(one, printing, as_given)
    if printing.as_json:
        click.echo(json.dumps(documents.outcomes_as_json(outcomes), indent=2))
    elif printing.as_text:
        _repeat_failures(outcomes, as_given)
        click.echo(f"{_counted(outcomes)}, in {output}")
    return max((one.exit_code for one in outcomes), default=0)


def _print(one: Outcome, printing: Printing, as_given: Callable[[str], str]) -> None:
    from . import documents

    if printing.jsonl:
        echo(json.dumps(documents.outcome_as_json(one)))
    elif one.message is not None:
        echo(f"error: {as_given(_naming_source(one, one.message))}", err=True)
    elif printing.as_text:
        echo(f"{as_given(str(one.folder))}: {one.status}, {one.network}")


def _counted(outcomes: Sequence[Outcome]) -> str:
    """``"3 sources: 1 converted, 1 skipped, 1 failed"``."""
    counts = Counter(outcome.status for outcome in outcomes)
    counted = ", ".join(f"{counts[status]:,} {status}" for status in ("converted", "skipped", "failed"))
    return f"{len(outcomes):,} sources: {counted}"


def _repeat_failures(outcomes: Sequence[Outcome], as_given: Callable[[str], str]) -> None:
    """Prints the beginning of each failure again, which may have been long ago."""
    from ..errors import quoted

    failed = [(one, one.message) for one in outcomes if one.message is not None]
    if failed and len(outcomes) > 1:
        click.echo(f"{len(failed):,} of {len(outcomes):,} failed:", err=True)
        for one, message in failed:
            first = _naming_source(one, message.splitlines()[0])
            click.echo(f"  {quoted(as_given(first))}", err=True)


def _naming_source(one: Outcome, message: str) -> str:
    return message if one.source in message else f"{one.source}: {message}"


def _as_given(named: Iterable[str | Path]) -> Callable[[str], str]:
    """Returns what puts what the user named in place of the absolute paths that were made of it."""
    given = {os.path.abspath(one): os.path.join(one, "")[:-1] for one in named}  # noqa: PTH100, PTH118
    # The longest comes first, for another one may be a folder that it is in.
    paths = "|".join(re.escape(path) for path in sorted(given, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.-])(?:{paths})(?![\w-]|\.\w)")
    return lambda text: pattern.sub(lambda found: given[found[0]], text)


def _executor(jobs: int | None, dask: str | None) -> AbstractContextManager[Executor | None]:
    """Returns what runs the conversions; None within it is this process."""
    from ..executors import dask_executor, process_executor

    if dask:
        return dask_executor(dask)
    if jobs:
        return process_executor(jobs)
    return nullcontext()
