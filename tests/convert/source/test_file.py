"""Only what has a size and an end is read, and only once it is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from densenet_convert.errors import ReadError
from densenet_convert.source import file as source_file
from densenet_convert.source.file import map_whole, read_whole

READERS = [read_whole, map_whole]


@pytest.mark.parametrize("read", READERS)
def test_the_bytes_are_those_of_the_file(read: object, tmp_path: Path) -> None:
    assert callable(read)
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    assert bytes(read(path)[:]) == bytes(range(256))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "No such file"),
        ("empty", "is empty"),
        ("folder", "is no regular file"),
        ("fifo", "is no regular file"),
        ("a NUL in the name", "null (byte|character)"),
    ],
)
def test_what_has_no_bytes_is_refused_at_once(read: object, kind: str, message: str, tmp_path: Path) -> None:
    assert callable(read)
    path = tmp_path / ("\0" if "NUL" in kind else "file")
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ReadError, match=message):
        read(path)


def test_a_file_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_: int) -> bytearray:
        raise MemoryError

    (tmp_path / "file").write_bytes(bytes(1234))
    monkeypatch.setattr(source_file, "bytearray", no_memory, raising=False)
    with pytest.raises(ReadError, match="there is no memory for its 1,234 bytes"):
        read_whole(tmp_path / "file")


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_whose_size_changes_meanwhile_is_refused(
    change: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    opened = source_file._open_regular
    size = os.fstat

    class Status:
        st_size = 100 - change

    def open_then_change(path: Path) -> int:
        descriptor = opened(path)
        monkeypatch.setattr(source_file.os, "fstat", lambda _: Status)
        return descriptor

    monkeypatch.setattr(source_file, "_open_regular", open_then_change)
    try:
        with pytest.raises(ReadError, match="changed its size while it was read"):
            read_whole(path)
    finally:
        monkeypatch.setattr(source_file.os, "fstat", size)
