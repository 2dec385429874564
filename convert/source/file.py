"""A checkpoint's file: its bytes, and what they hold.  Needs no torch."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from ..errors import ReadError, SeveralError
from ..formats.raw import Whole
from ..formats.recognise import Content, read_content
from ..formats.untrusted import FormatError
from ..formats.untrusted import SeveralError as SeveralFound


def read_whole(path: Path) -> bytearray:
    """The bytes of a regular file.

    Raises:
        ReadError: it is missing, empty, a pipe, a device or a folder, or can't be read.
    """
    with os.fdopen(_open_regular(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            data = bytearray(size)
        except MemoryError as error:
            raise ReadError(
                f"{path} can't be read: there is no memory for its {size:,} bytes. Free some and run again."
            ) from error
        view = memoryview(data)
        try:
            while view and (count := file.readinto(view)):
                view = view[count:]
            more = file.read(1)
        except OSError as error:
            raise ReadError(f"{path} can't be read: {error.strerror}.") from error
    if view or more:
        raise ReadError(f"{path} changed its size while it was read. Wait until it is whole, and run again.")
    return data


def map_whole(path: Path) -> mmap.mmap:
    """The bytes of a regular file, of which only those that are looked at are read.

    Raises:
        ReadError: as ``read_whole``.
    """
    descriptor = _open_regular(path)
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ReadError(f"{path} can't be read: {error}.") from error
    finally:
        os.close(descriptor)


def parse_checkpoint(data: Whole, path: Path, key: str | None = None) -> Content:
    """Returns what the bytes hold.

    Raises:
        SeveralError: they hold several state dicts, which differ.
        ReadError: they are in no known format, or not sound; the message names ``path``.
    """
    try:
        return read_content(data, key, path.name)
    except SeveralFound as error:
        raise SeveralError(f"{path} can't be read: {error}", error.keys) from error
    except FormatError as error:
        raise ReadError(f"{path} can't be read: {error}") from error
    except MemoryError as error:
        raise ReadError(
            f"{path} can't be read: there is not enough memory. Free some and run again."
        ) from error


def first_bytes(path: Path, count: int) -> bytes:
    """Returns up to so many bytes of a regular file; none of what is missing, empty or can't be read."""
    try:
        with os.fdopen(_open_regular(path), "rb", buffering=0) as file:
            return file.read(count)
    except (ReadError, OSError):
        return b""


def _open_regular(path: Path) -> int:
    try:
        # A pipe would be waited for, were it opened in the usual way.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ReadError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}.") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        raise ReadError(f"{path} is empty. Download or copy it again.")
    raise ReadError(f"{path} is no regular file. Name the checkpoint file itself.")
