"""Puts a finished folder in the place of another, so that an interruption leaves one of them whole."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

EXCHANGE = 2  # RENAME_EXCHANGE in linux/fs.h, RENAME_SWAP in macOS's sys/stdio.h
AT_FDCWD = -100


def put_in_place(new: Path, folder: Path, *, last: str) -> None:
    """Moves the content of the folder ``new`` to ``folder``; what is at ``new`` then can be deleted.

    Where the system can't exchange two folders in one step, files are replaced one by
    one, ``last`` as the last of them: until then the folder disagrees with its receipt
    and is refused.

    Args:
        new: a folder in the same parent folder, already on disk.
        folder: exists or not.
        last: name of the file that vouches for the others.
    """
    if not folder.exists():
        new.rename(folder)
    elif not _exchange(new, folder):
        _replace_files(new, folder, last)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Waits until a file or the entries of a folder are on disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows can't open a folder
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(a: Path, b: Path) -> bool:
    """Whether the system could exchange the two in one step."""
    if sys.platform not in ("linux", "darwin"):
        return False
    libc = ctypes.CDLL(None)
    names = os.fsencode(a), os.fsencode(b)
    try:
        if sys.platform == "linux":
            return bool(libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], EXCHANGE) == 0)
        return bool(libc.renamex_np(*names, EXCHANGE) == 0)
    except AttributeError:  # a C library without the function
        return False


def _replace_files(new: Path, folder: Path, last: str) -> None:
    names = sorted(path.name for path in new.iterdir() if path.name != last)
    for name in names:
        (new / name).replace(folder / name)
    for stale in folder.iterdir():
        if stale.is_file() and stale.name not in (*names, last):
            stale.unlink()
    sync(folder)
    (new / last).replace(folder / last)
    sync(folder)
