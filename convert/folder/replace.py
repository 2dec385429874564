"""Puts a finished folder in the place of another, so that an interruption leaves one of them whole."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from .staging import locked

EXCHANGE = 2  # RENAME_EXCHANGE in linux/fs.h, RENAME_SWAP in macOS's sys/stdio.h
AT_FDCWD = -100


def put_in_place(new: Path, folder: Path, *, last: str, loose: str, force: bool) -> None:
    """Moves the content of the folder ``new`` to ``folder``; what is at ``new`` then can be deleted.

    Where the system can't exchange two folders in one step, files are replaced one by
    one, ``last`` as the last of them: until then the folder disagrees with its receipt
    and is refused.

    Args:
        new: a folder in the same parent folder, already on disk.
        folder: exists or not; its mode and owner are kept, and those of its files.
        last: name of the file that vouches for the others.
        loose: name of a file without which a folder is whole. Where files are replaced one by one, it is
            taken away first and comes after ``last``: it is never another one than ``last`` names.
        force: replace ``folder`` where it exists and isn't empty.

    Raises:
        OSError: ENOTEMPTY or EEXIST among others, where ``force`` is off.
    """
    if folder.is_dir():
        _keep_modes(folder, new)
    try:
        new.rename(folder)
    except OSError:
        if not force or not folder.is_dir():
            raise
        if not _exchange(new, folder):
            with locked(folder, wait=True):  # one writer after the other
                _replace_files(new, folder, last, loose)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Waits until a file or the entries of a folder are on disk, where the system can tell."""
    if path.is_dir() and os.name == "nt":
        return  # Windows can't open a folder
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        if path.is_dir():
            return  # one may create files in it, not list them
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without it
            raise
    finally:
        os.close(descriptor)


def _keep_modes(old: Path, new: Path) -> None:
    """Gives a folder and its files the modes of another's and, where permitted, owners and groups."""
    if sys.platform == "win32":
        return
    for path in (*new.iterdir(), new):
        like = old if path == new else old / path.name
        if not like.exists():
            continue
        before = like.stat()
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):
                os.fchown(descriptor, -1, before.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            with suppress(OSError):
                os.fchown(descriptor, before.st_uid, -1)
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


def _replace_files(new: Path, folder: Path, last: str, loose: str) -> None:
    names = sorted(path.name for path in new.iterdir() if path.name not in (last, loose))
    (folder / loose).unlink(missing_ok=True)
    sync(folder)
    for name in names:
        if not (new / name).is_dir():  # a folder of others, which is there and stays
            (new / name).replace(folder / name)
    for stale in folder.iterdir():
        if stale.is_file() and stale.name not in (*names, last):
            stale.unlink()
    sync(folder)
    (new / last).replace(folder / last)
    sync(folder)
    if (new / loose).exists():
        (new / loose).replace(folder / loose)
        sync(folder)
