"""A folder to write in, beside the one to be: locked while its writer lives, cleared once it does not."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

if sys.platform != "win32":
    import fcntl

DAY = 24 * 60 * 60
# safetensors 0.8 leaves these behind when it is killed.
TEMPORARY = re.compile(r"\.tmp[0-9A-Za-z]{6}")


@contextmanager
def staging_folder(target: Path, names: Collection[str]) -> Iterator[Path]:
    """A new folder ``.NAME.HEX.partial`` beside ``target``, gone afterwards.

    Before it is made, those of ``target`` that killed writers left behind are cleared: real
    folders whose lock is free.  The first digits of HEX stand for the running system, as
    another machine's locks can't be seen; what another one left is cleared after a day.

    Args:
        target: what the folder is to be renamed to, or exchanged for.
        names: what may be deleted; a folder that holds anything else is left as it is.
    """
    for stale in _others(target):
        with locked(stale, wait=False) as held:
            if held:
                _clear(stale, names)
    while True:
        folder = target.parent / f".{target.name}.{_system()}{uuid4().hex[8:]}.partial"
        folder.mkdir()
        with locked(folder, wait=True) as held:
            if not held and not folder.exists():
                continue  # another writer took it for a stale one before it was locked
            try:
                yield folder
            finally:
                _clear(folder, names)
            return


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Holds the lock of a folder, and says whether it could be had; on Windows it never can.

    The system frees it when the process ends, however it ends.
    """
    descriptor = _lock(folder, wait)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path, wait: bool) -> int | None:
    if sys.platform != "win32":
        descriptor = None
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(descriptor), folder.lstat()):
                return descriptor
        if descriptor is not None:
            os.close(descriptor)
    return None


def _others(target: Path) -> list[Path]:
    """Returns the staging folders of ``target``, without those that another machine may be writing to."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.([0-9a-f]{{8}})[0-9a-f]{{24}}\.partial")
    found = []
    with suppress(OSError):
        for path in target.parent.iterdir():
            match = pattern.fullmatch(path.name)
            if match and (match[1] == _system() or path.lstat().st_mtime < time.time() - DAY):
                found.append(path)
    return found


def _system() -> str:
    """Eight digits of the running system, the same in all its containers."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _clear(folder: Path, names: Collection[str]) -> None:
    with suppress(OSError):
        if all(path.name in names or TEMPORARY.fullmatch(path.name) for path in folder.iterdir()):
            with suppress(OSError):
                folder.chmod(0o700)  # it has the mode of the one that it was exchanged for
            shutil.rmtree(folder, ignore_errors=True)
