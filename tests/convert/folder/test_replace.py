"""A folder takes another's place and keeps its modes; what killed writers left is cleared, and no more."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from pathlib import Path

import pytest

from densenet_convert.folder import replace, staging
from densenet_convert.folder.replace import put_in_place
from densenet_convert.folder.staging import locked, staging_folder

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other modes and no such locks")
root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)
NAMES = ("a", "b", "last")


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def replaced(tmp_path: Path, *, force: bool = True) -> Path:
    """The folder ``out``, replaced by another."""
    with staging_folder(tmp_path / "out", NAMES) as new:
        for name in NAMES:
            (new / name).write_text("new")
        put_in_place(new, tmp_path / "out", last="last", loose="loose", force=force)
    return tmp_path / "out"


@pytest.fixture(params=[True, False], ids=["exchanged", "one by one"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(replace, "_exchange", lambda *_: False)


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_two_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    a, b = folder_of(tmp_path / "a", was="a"), folder_of(tmp_path / "b", was="b")
    assert replace._exchange(a, b)
    assert contents(a) == {"was": "b"}
    assert contents(b) == {"was": "a"}


@pytest.mark.usefixtures("exchange")
def test_a_folder_is_replaced_and_nothing_of_the_old_one_is_left(tmp_path: Path) -> None:
    folder_of(tmp_path / "out", a="old", last="old")
    assert contents(replaced(tmp_path)) == dict.fromkeys(NAMES, "new")
    assert names(tmp_path) == ["out"]


@posix
@pytest.mark.usefixtures("exchange")
def test_modes_of_a_replaced_folder_and_of_its_files_are_kept(tmp_path: Path) -> None:
    out = folder_of(tmp_path / "out", a="old", last="old")
    out.chmod(0o2750)
    (out / "a").chmod(0o640)
    (out / "last").chmod(0o444)
    (tmp_path / "new").touch()
    replaced(tmp_path)
    assert (mode(out), mode(out / "a"), mode(out / "last")) == (0o2750, 0o640, 0o444)
    assert mode(out / "b") == mode(tmp_path / "new")


@posix
def test_a_folder_that_is_not_to_be_written_to_is_replaced_all_the_same(tmp_path: Path) -> None:
    """Its old content is cleared as well, which needs the right to write."""
    folder_of(tmp_path / "out", a="old").chmod(0o555)
    assert contents(replaced(tmp_path)) == dict.fromkeys(NAMES, "new")
    assert mode(tmp_path / "out") == 0o555
    assert names(tmp_path) == ["out"]


@root
@pytest.mark.usefixtures("exchange")
def test_owners_and_groups_are_kept_where_root_replaces(tmp_path: Path) -> None:
    out = folder_of(tmp_path / "out", a="old", last="old")
    for path, owner, group in ((out, 1234, 2345), (out / "a", 3456, 4567)):
        os.chown(path, owner, group)
    replaced(tmp_path)
    assert (out.stat().st_uid, out.stat().st_gid) == (1234, 2345)
    assert ((out / "a").stat().st_uid, (out / "a").stat().st_gid) == (3456, 4567)
    assert (out / "b").stat().st_uid == os.geteuid()


@posix
def test_whoever_may_not_give_files_away_keeps_their_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    folder_of(tmp_path / "out", a="old").chmod(0o700)
    (tmp_path / "out" / "a").chmod(0o600)
    out = replaced(tmp_path)
    assert (mode(out), mode(out / "a")) == (0o700, 0o600)


@pytest.mark.parametrize("force", [False, True])
def test_an_empty_folder_is_taken(tmp_path: Path, force: bool) -> None:
    folder_of(tmp_path / "out")
    assert contents(replaced(tmp_path, force=force)) == dict.fromkeys(NAMES, "new")


def test_a_folder_that_holds_something_is_not_taken_without_force(tmp_path: Path) -> None:
    folder_of(tmp_path / "out", a="old")
    with pytest.raises(OSError, match="not empty|exists"):
        replaced(tmp_path, force=False)
    assert contents(tmp_path / "out") == {"a": "old"}
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_cant_wait_for_the_disk_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A disk that fails is."""

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            replace.sync(tmp_path)
    else:
        replace.sync(tmp_path)


def stale(target: Path, digits: str = "0" * 24, system: str | None = None, **files: str) -> Path:
    name = f".{target.name}.{system or staging._system()}{digits}.partial"
    return folder_of(target.parent / name, **files)


@posix
def test_what_a_killed_writer_left_is_cleared_by_the_next_one(tmp_path: Path) -> None:
    """Its name may hold what means something in a pattern; the old folder's mode may forbid writing."""
    target = tmp_path / "densenet(1.0)+"
    stale(target, "0" * 24)
    stale(target, "1" * 24, a="half", **{".tmpaZ09bq": "of safetensors"})
    stale(target, "2" * 24, a="old", b="old", last="old").chmod(0o555)
    with staging_folder(target, NAMES) as new:
        assert list(tmp_path.iterdir()) == [new]
    assert names(tmp_path) == []


@posix
def test_what_may_be_someone_elses_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    left = [
        stale(target, "0" * 24, a="", thesis="years of work"),
        stale(target, "1" * 24, system="ffffffff"),  # another machine's
        stale(tmp_path / "out2"),
        stale(target, "2" * 23),
        stale(target, "A" * 24),
    ]
    (tmp_path / f".out.{staging._system()}{'3' * 24}.partial").symlink_to(folder_of(tmp_path / "real", a=""))
    (tmp_path / f".out.{staging._system()}{'4' * 24}.partial").touch()
    before = {path: path.is_dir() and names(path) for path in tmp_path.iterdir()}
    assert set(left) < set(before)
    with staging_folder(target, NAMES):
        pass
    assert {path: path.is_dir() and names(path) for path in tmp_path.iterdir()} == before


@posix
def test_what_another_machine_left_is_cleared_after_a_day(tmp_path: Path) -> None:
    old = stale(tmp_path / "out", system="ffffffff", a="half")
    os.utime(old, times=(time.time() - 25 * 60 * 60,) * 2)
    with staging_folder(tmp_path / "out", NAMES):
        assert not old.exists()


@posix
def test_the_folder_of_a_writer_that_lives_is_left_alone(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "out", NAMES) as first:
        (first / "a").write_text("half")
        with staging_folder(tmp_path / "out", NAMES) as second:
            assert first != second
        assert contents(first) == {"a": "half"}
        with locked(first, wait=False) as held:
            assert not held


@posix
def test_a_writer_whose_folder_was_cleared_before_it_was_locked_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Path] = []
    lock = staging._lock

    def late(folder: Path, wait: bool) -> int | None:
        if not lost:
            lost.append(folder)
            folder.rmdir()
        return lock(folder, wait)

    monkeypatch.setattr(staging, "_lock", late)
    with staging_folder(tmp_path / "out", NAMES) as folder:
        assert list(tmp_path.iterdir()) == [folder]
        assert lost != [folder]


def test_where_folders_cant_be_locked_nothing_is_cleared_and_all_else_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_lock", lambda *_: None)
    left = stale(tmp_path / "out", a="half")
    assert contents(replaced(tmp_path)) == dict.fromkeys(NAMES, "new")
    assert set(tmp_path.iterdir()) == {left, tmp_path / "out"}


@posix
def test_a_system_without_a_number_of_its_own_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr("platform.node", lambda: "one")
    one = staging._system()
    monkeypatch.setattr("platform.node", lambda: "another")
    assert len(one) == 8
    assert one != staging._system()
