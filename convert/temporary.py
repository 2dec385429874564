"""Temporary files, and one message where they can't be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from .errors import FolderError


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards.

    Raises:
        FolderError: it, or a file within it, can't be written.
    """
    try:
        with TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise FolderError(
            f"A temporary file can't be written or read: {error}. Free space where it lies, or name another "
            "folder with TMPDIR."
        ) from error
