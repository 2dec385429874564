"""The options of a conversion, as a value that can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Job:
    """One conversion, as a worker gets it.  For the options see ``convert``.

    Attributes:
        source: a file's absolute path, or ``hf://USER/NAME[@REVISION][/FILE]``.
        folder: absolute path of what is to be written.
    """

    source: str
    folder: str
    arch: str | int | None = None
    layout: str | None = None
    prefix: str | None = None
    only: str | None = None
    head: str | None = None
    key: str | None = None
    device: str = "auto"
    force: bool = False
    golden: bool = False
    labels: str | None = None
    multi_label: bool = False
    license: str | None = None


def optional_path(given: AnyPath | None) -> Path | None:
    """Returns the path, or None if none was given."""
    return None if given is None else Path(given)
