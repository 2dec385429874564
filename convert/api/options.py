"""What the public functions share: one conversion as a value, and what is checked before it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..records import Options

if TYPE_CHECKING:
    import os

    AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Job:
    """One conversion, as a worker gets it.

    Attributes:
        source: a file's absolute path, or ``hf://USER/NAME[@REVISION][/FILE]``.
        folder: absolute path of what is to be written.
        options: what the user says of it.
    """

    source: str
    folder: str
    options: Options = field(default_factory=Options)


def optional_path(given: AnyPath | None) -> Path | None:
    """Returns the path, or None if none was given."""
    return None if given is None else Path(given)
