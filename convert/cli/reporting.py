"""How a command reports: logging, results and errors."""

from __future__ import annotations

import gc
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .status import clear_status, echo, progress_bar, show_phases

if TYPE_CHECKING:
    from ..api.exported import Exported

Receipt = Mapping[str, Any]
SKIPPED = "skipped: it is there already, whole and as asked (--force converts it again)"


def draw_bars(quiet: bool) -> None:
    """Shows phases from here on; the Hub's client draws bars of its own, also where no terminal is."""
    show_phases(quiet)
    if progress_bar(quiet) is None:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # It would log addresses that sign in whoever has them, and repeat what an error says.
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"huggingface_hub\.")


class _Lines(logging.Handler):
    """Prints each record as a line on stderr, for which the status line makes room."""

    def emit(self, record: logging.LogRecord) -> None:
        echo(self.format(record), err=True)


def set_up_logging(verbose: bool) -> None:
    # Ours alone: what an HTTP client logs holds addresses that sign in whoever has them.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_Lines()])
    logging.getLogger("densenet_convert").setLevel(logging.INFO if verbose else logging.WARNING)


class Results:
    """The results of all folders: printed one by one, or together as one JSON document."""

    def __init__(self, status: str, *, as_json: bool, quiet: bool, verbose: bool) -> None:
        set_up_logging(verbose)
        draw_bars(quiet)
        # A process that ends soon: collecting its cycles costs more than it frees.
        gc.disable()
        self._status = status
        self._as_json = as_json
        self._verbose = verbose
        self._shows_text = not as_json and not quiet
        self._documents: list[dict[str, Any]] = []
        self._exit_code = 0

    @contextmanager
    def keeping_errors(self, folder: Path | str) -> Iterator[None]:
        """An error that is raised in the block is this folder's result."""
        try:
            yield
        except Exception as error:
            document = explain_error(error, folder=str(folder))
            self._exit_code = max(self._exit_code, document["error"]["exit_code"])
            self._documents.append(document)
        finally:
            clear_status()

    def add(
        self, folder: Path | str, receipt: Receipt, source: str | None = None, *, skipped: bool = False
    ) -> None:
        from ..folder.text import receipt_as_text
        from . import documents

        status = "skipped" if skipped else self._status
        self._documents.append(documents.receipt_as_json(receipt, status=status, folder=str(folder)))
        if self._shows_text:
            said = SKIPPED if skipped else status
            shown = receipt_as_text(receipt, source=source, verbose=self._verbose)
            echo(f"{folder}: {said}\n{shown}")

    def finish(self) -> int:
        """Returns the highest exit code, and prints the JSON document if that is asked for."""
        from .documents import SCHEMA_VERSION

        if self._as_json:
            many = {"schema_version": SCHEMA_VERSION, "conversions": self._documents}
            single = len(self._documents) == 1
            click.echo(json.dumps(self._documents[0] if single else many, indent=2))
        return self._exit_code


@contextmanager
def reporting_errors(as_json: bool = False, indent: int | None = 2, /, **where: str) -> Iterator[None]:
    """Reports an error that is raised in the block, as JSON too if that is asked for, and exits."""
    try:
        yield
    except Exception as error:
        document = explain_error(error, **where)
        if as_json:
            echo(json.dumps(document, indent=indent))
        click.get_current_context().exit(document["error"]["exit_code"])
    finally:
        clear_status()


def explain_error(error: Exception, **where: str) -> dict[str, Any]:
    """Prints why, with a traceback where nobody expected it, and returns the document of it."""
    from traceback import format_exception

    from ..errors import is_expected
    from . import documents

    if isinstance(error, BrokenPipeError):  # whoever read what was printed has gone
        raise error
    if not is_expected(error):
        echo("".join(format_exception(error)).rstrip("\n"), err=True)
    document = documents.error_as_json(error, **where)
    echo(f"error: {document['error']['message']}", err=True)
    return document


def show_exported(file: Exported, status: str, folder: str, *, as_json: bool, quiet: bool) -> None:
    """Prints what was written, or verified, and what is proven of it."""
    from . import documents

    if as_json:
        click.echo(json.dumps(documents.exported_as_json(file, status=status, folder=folder), indent=2))
    elif not quiet:
        click.echo(file)
