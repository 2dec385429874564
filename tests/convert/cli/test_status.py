"""What a terminal shows while something is done: one line, which makes room for what is printed."""

from __future__ import annotations

import logging
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from checkpoints import save, state_dict_of
from click.testing import CliRunner

from densenet_convert import columns
from densenet_convert.api import many
from densenet_convert.cli import main, status
from densenet_convert.cli.reporting import draw_bars, set_up_logging

pty = pytest.importorskip("pty", reason="a terminal of POSIX")
fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")

WIDTHS = (60, 80, 120)
PHASES = logging.getLogger("densenet_convert.phases")


class Terminal:
    """Keeps what is written to it, and draws it as a terminal of its width does."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.written = ""

    @contextmanager
    def shown(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Stands for stdout and stderr."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self.width, 0, 0))
        reader = threading.Thread(target=self._read, args=(master,))
        reader.start()
        with os.fdopen(slave, "w") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            yield
        reader.join()

    def _read(self, master: int) -> None:
        with os.fdopen(master, "rb", buffering=0) as file:
            try:
                while data := file.read(4096):
                    self.written += data.decode()
            except OSError:  # the other end was closed
                pass

    def screens(self) -> Iterator[list[str]]:
        """Yields the lines that stand there, whenever a line ends or is drawn anew."""
        lines, column = [""], 0
        for letter in self.written:
            if letter in "\r\n":
                yield [line.rstrip() for line in lines]
                column = 0
            if letter == "\n":
                lines.append("")
            elif letter != "\r":
                if column == self.width:
                    lines.append("")
                    column = 0
                line = lines[-1].ljust(column)
                lines[-1] = line[:column] + letter + line[column + 1 :]
                column += 1
        yield [line.rstrip() for line in lines]

    def last(self) -> list[str]:
        """What stands there in the end."""
        *_, lines = self.screens()
        return [line for line in lines if line]


@pytest.fixture(autouse=True)
def no_handlers_stay() -> Iterator[None]:
    yield
    PHASES.handlers.clear()
    PHASES.setLevel(logging.NOTSET)
    PHASES.propagate = True


def done(job: many.Job, *_: Any) -> many.Outcome:
    """Says what a conversion does, a name that is longer than any terminal, and fails once."""
    PHASES.info("reading %s", "x" * 200)
    PHASES.info("comparing")
    if job.source.endswith("1.pth"):
        return many.Outcome(
            job.source, job.folder, "failed", error="ReadError", message="it is broken", exit_code=1
        )
    return many.Outcome(job.source, job.folder, "converted", "DenseNet-121", "0" * 64)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_batch_has_a_bar_with_the_phase_and_no_result_is_torn_by_it(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        save(state_dict_of(), tmp_path / f"{i}.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(many, "convert_job", done)
    terminal = Terminal(width)
    with terminal.shown(monkeypatch), pytest.raises(SystemExit):
        main(["file", "0.pth", "1.pth", "2.pth", "--output", "o"])
    drawn = [line for screen in terminal.screens() for line in screen]
    assert any(line.startswith("checkpoints:  33%|") and "1/3 [" in line for line in drawn)
    assert any("comparing" in line and "left" in line for line in drawn)
    assert max(map(len, drawn)) <= width
    last = "".join(terminal.last()).replace(" ", "")  # where a line is full, one may be at its end
    for i in (0, 2):
        assert f"o/{i}:converted,DenseNet-121" in last
    assert "error:1.pth:itisbroken" in last
    assert last.endswith("3sources:2converted,0skipped,1failed,ino")
    assert "checkpoints" not in last


@pytest.mark.parametrize("width", WIDTHS)
def test_a_phase_is_one_line_which_the_next_takes_and_which_is_gone_in_the_end(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(width)
    with terminal.shown(monkeypatch):
        set_up_logging(verbose=False)
        draw_bars(quiet=False)
        PHASES.info("reading %s", "x" * 200)
        PHASES.info("writing out")
        status.echo("a result")
        status.clear_status()
    screens = list(terminal.screens())
    assert any(len(screen) == 1 and screen[0].startswith("reading xxx") for screen in screens)
    assert ["writing out"] in screens
    assert ["a result", "writing out"] in screens
    assert terminal.last() == ["a result"]


def test_quiet_shows_no_line_on_a_terminal_and_no_program_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(80)
    with terminal.shown(monkeypatch):
        draw_bars(quiet=True)
        PHASES.warning("reading")
        assert status.progress_bar(quiet=True) is None
    assert terminal.written == ""
    with CliRunner().isolation() as (_, err, _output):
        draw_bars(quiet=False)
        PHASES.warning("reading")
        assert status.progress_bar(quiet=False) is None
    assert err.getvalue() == b""


@pytest.mark.parametrize("width", WIDTHS)
def test_no_table_is_wider_than_the_terminal_and_all_of_it_is_there(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [f"check{i}" for i in range(12)]
    rows = [(f"fault {'of a long name ' * i}", [f"{i}.{j}%" for j in range(12)]) for i in range(1, 4)]
    monkeypatch.setattr(columns, "columns", lambda *_: width)
    lines = list(columns.table("caught by each check alone", labels, rows))
    assert max(map(len, lines)) <= width
    cells = {word for line in lines for word in line.split()}
    assert {cell for _, row in rows for cell in row} <= cells
    assert set(labels) <= cells


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_are_wrapped_and_a_command_to_paste_is_not(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "columns", lambda *_: width)
    command = f"densenet-convert file {'x' * 200}"
    lines = columns.rows_as_text([("why", f"{'words ' * 40}\n{command}"), ("none", "")])
    assert command in lines
    assert max(len(line) for line in lines if line != command) <= width
    assert all(line.startswith("  ") for line in lines if line != command)
