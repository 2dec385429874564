"""However a run ends, the old folder or the new one is there, whole: kill -9, SIGINT, ulimit, no space.

Two small networks are proven once. The tests then run this file as a program, which writes
them by forked children, as often as one likes.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from checkpoints import in_2017_names, save, state_dict_of

import densenet_convert
from densenet_convert.api import convert as conversion
from densenet_convert.errors import FolderError
from densenet_convert.folder import replace
from densenet_convert.folder.open import open_folder
from densenet_convert.folder.write import write_folder

TESTS = Path(__file__).parents[2]
# Whoever isn't root may mount something in a namespace where he is.
UNSHARE = ("unshare", "--mount") if os.name == "nt" or os.geteuid() == 0 else ("unshare", "-r", "--mount")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def proven(folder: Path, seed: int) -> Any:
    """What write_folder takes: a small network, converted as far as that."""
    path = save(in_2017_names(state_dict_of(seed=seed)), folder / "source.pth")
    with (
        mock.patch.object(conversion, "write_folder", side_effect=InterruptedError) as stopped,
        pytest.raises(InterruptedError),
    ):
        densenet_convert.convert(path, folder / "out", device="cpu")
    return stopped.call_args.args[0]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pickle of the two networks."""
    folder = tmp_path_factory.mktemp("proven")
    path = folder / "both.pickle"
    path.write_bytes(pickle.dumps([proven(folder, seed) for seed in (0, 1)]))
    return path


def run_here(function: str, both: Path, folder: Path, *rest: object, within: tuple[str, ...] = ()) -> Any:
    """What a function below returns, in a process of its own."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*within, sys.executable, "-B", __file__, function, str(both), str(folder), json.dumps(rest)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("force", [False, True])
def test_kill_9_at_120_random_moments_leaves_the_old_folder_or_the_new_one(
    both: Path, tmp_path: Path, force: bool
) -> None:
    landed = run_here("interrupt", both, tmp_path, signal.SIGKILL, 120, force)
    assert sum(landed.values()) == 120
    # On an idle machine about 40, 170 and 90; other processes move that.
    assert set(landed) == {"before", "within", "after"}, landed
    assert landed["within"] >= 30, landed
    # The last run was not killed, and cleared what the others had left.
    assert names(tmp_path) == {"out"}


def test_ctrl_c_at_60_random_moments_leaves_the_old_folder_or_the_new_one(both: Path, tmp_path: Path) -> None:
    landed = run_here("interrupt", both, tmp_path, signal.SIGINT, 60, True)
    assert sum(landed.values()) == 60
    assert names(tmp_path) == {"out"}


def test_kill_9_where_folders_cant_be_exchanged_leaves_a_folder_that_is_whole_or_refused(
    both: Path, tmp_path: Path
) -> None:
    landed = run_here("interrupt", both, tmp_path, signal.SIGKILL, 60, True, False)
    assert sum(landed.values()) == 60
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("exchange", [True, False])
def test_of_two_writers_with_force_one_wins(both: Path, tmp_path: Path, exchange: bool) -> None:
    assert run_here("race", both, tmp_path, 15, True, exchange) == {"written": 30}


def test_of_two_writers_without_force_one_wins_and_the_other_says_so(both: Path, tmp_path: Path) -> None:
    ends = run_here("race", both, tmp_path, 15, False)
    assert ends.pop("written") == 15
    assert ends == {
        f"{tmp_path / 'out'} exists and is left alone. "
        "Name another `output=...`, or replace it with `force=True`.": 15
    }


def test_a_file_over_the_limit_of_ulimit_is_an_error_and_leaves_the_old_folder(
    both: Path, tmp_path: Path
) -> None:
    messages = run_here("limit", both, tmp_path)
    assert len(messages) == 11
    for message in messages.values():
        assert message.startswith(f"{tmp_path / 'out'} can't be written: ")
        assert "File too large" in message


@pytest.mark.skipif(sys.platform != "linux", reason="a small file system is mounted as Linux can")
def test_a_full_file_system_is_an_error_and_leaves_the_old_folder(both: Path, tmp_path: Path) -> None:
    mount = [*UNSHARE, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    tried = subprocess.run(mount, stderr=subprocess.PIPE, text=True)
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    messages = run_here("fill", both, tmp_path, within=UNSHARE)
    assert len(messages) > 10
    for message in messages.values():
        assert message.startswith(f"{tmp_path / 'out'} can't be written: ")
        assert "No space left on device" in message


# What runs in the process of its own.


def interrupt(
    one: Any, other: Any, folder: Path, number: int, times: int, force: bool, exchange: bool = True
) -> Counter[str]:
    """Interrupts writers at random moments: how many before, within and after their writing."""
    out, draw, landed = folder / "out", random.Random(0), Counter[str]()
    without_exchange(exchange)
    seconds = statistics.median(timed(one, folder / "timed") for _ in range(9))
    shutil.rmtree(folder / "timed")
    if force:
        write_folder(one, out)
    for _ in range(times):
        before, present = source_in(out), names(folder)
        written = one if before == source(other) else other
        child, _, pipe = started(written, out, seconds / 10, force)
        time.sleep(draw.uniform(0, 1.3 * seconds))
        os.kill(child, number)
        assert wait(child) in (0, -signal.SIGKILL, -signal.SIGINT)
        os.close(pipe)
        after = source_in(out)
        assert after in (before, source(written)) or (after == "refused" and not exchange), (before, after)
        left = names(folder) - present - {"out"}
        landed["within" if left else "before" if after == before else "after"] += 1
        if not force:
            shutil.rmtree(out, ignore_errors=True)
    write_folder(one, out, force=force)
    assert source_in(out) == source(one)
    return landed


def timed(verified: Any, folder: Path) -> float:
    """Seconds that a child takes to replace a folder."""
    child, start, pipe = started(verified, folder, 0, True)
    assert os.read(pipe, 1)
    end = time.monotonic()
    os.close(pipe)
    assert wait(child) == 0
    return end - start


def started(verified: Any, folder: Path, pause: float, force: bool) -> tuple[int, float, int]:
    """A child that is about to write, the time, and a pipe that says when it has."""
    reading, writing = os.pipe()

    def write() -> None:
        os.write(writing, b".")
        time.sleep(pause)
        write_folder(verified, folder, force=force)
        os.write(writing, b".")

    child = fork(write)
    os.close(writing)
    os.read(reading, 1)
    return child, time.monotonic(), reading


def race(one: Any, other: Any, folder: Path, times: int, force: bool, exchange: bool = True) -> Counter[str]:
    """Lets two children write to one folder at once: how they ended."""
    ends, out = Counter[str](), folder / "out"
    without_exchange(exchange)
    for turn in range(times):
        if force and turn % 2:
            write_folder(one, out)
        start, (reading, writing) = time.monotonic() + 0.05, os.pipe()

        def compete(verified: Any, start: float = start, writing: int = writing) -> None:
            time.sleep(max(0, start - time.monotonic()))
            os.write(writing, (attempt(verified, out, force=force) + "\n").encode())

        children = [fork(lambda it=it, compete=compete: compete(it)) for it in (one, other)]  # type: ignore[misc]
        assert [wait(child) for child in children] == [0, 0]
        os.close(writing)
        with os.fdopen(reading) as lines:
            ends.update(lines.read().splitlines())
        assert source_in(out) in (source(one), source(other))
        assert names(folder) == {"out"}
        shutil.rmtree(out)
    return ends


def limit(one: Any, other: Any, folder: Path) -> dict[int, str]:
    """What is said where no file may be larger than so many bytes."""
    import resource

    def limit_to(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    out, messages = folder / "out", {}
    write_folder(other, out)
    sizes = sorted(path.stat().st_size for path in out.iterdir())
    write_folder(one, out, force=True)
    for size in (0, 1, 100, *(size // 2 for size in sizes), *(size - 1 for size in sizes)):
        limit_to(size)
        messages[size] = attempt(other, out, force=True)
        limit_to(resource.RLIM_INFINITY)
        assert source_in(out) == source(one)
        assert names(folder) == {"out"}
    limit_to(sizes[-1])
    write_folder(other, out, force=True)
    return messages


def fill(one: Any, other: Any, folder: Path) -> dict[int, str]:
    """What is said where so many bytes are left; nobody else sees what is mounted here."""

    def mount(size: int, how: str = "") -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{how}size={size}", "tmpfs", str(folder)], check=True)

    out, messages = folder / "out", {}
    mount(1 << 20)
    write_folder(one, out)
    system = os.statvfs(folder)
    taken = (system.f_blocks - system.f_bfree) * system.f_bsize
    for free in range(0, taken, system.f_bsize):
        mount(taken + free, "remount,")
        messages[free] = attempt(other, out, force=True)
        assert source_in(out) == source(one), messages[free]
        assert names(folder) == {"out"}
    mount(2 * taken, "remount,")
    write_folder(other, out, force=True)
    return messages


def attempt(verified: Any, folder: Path, *, force: bool) -> str:
    try:
        write_folder(verified, folder, force=force)
    except FolderError as error:
        return str(error)
    return "written"


def source(verified: Any) -> str:
    return str(verified.loaded.renamed.checkpoint.sha256)


def source_in(folder: Path) -> str:
    """The digest of the source that a folder was written from, once every byte of it agrees."""
    if not os.path.lexists(folder):
        return "absent"
    try:
        return str(open_folder(folder).receipt["source"]["sha256"])
    except FolderError:
        return "refused"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def without_exchange(exchange: bool) -> None:
    if not exchange:
        mock.patch.object(replace, "_exchange", return_value=False).start()


def fork(function: Callable[[], object]) -> int:
    """A child that calls a function; nothing else is done there, however that ends."""
    parent = os.getpid()
    try:
        child = os.fork()
        if child == 0:
            function()
            os._exit(0)
        return child
    except BaseException as error:
        if os.getpid() == parent:
            raise
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        traceback.print_exc()
        os._exit(1)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(function: str, both: str, folder: str, rest: str) -> None:
    torch.set_num_threads(1)
    one, other = pickle.loads(Path(both).read_bytes())
    json.dump(globals()[function](one, other, Path(folder), *json.loads(rest)), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
