"""Which sources become which folders, before any of them is converted."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import FolderError, ReadError, first_few, quoted
from ..folder.files import is_ours
from ..folder.labels import is_named_file
from ..formats.beginnings import BEGINNING, looks_like_checkpoint
from ..formats.foreign import foreign_folder
from ..hub.fetch import SCHEME, local_file, parse_address
from ..records import AnyPath, Options
from ..source.file import first_bytes

log = logging.getLogger("densenet_convert")

# Only checkpoints' names end so: one that is damaged is reported, and not passed over.
SURE_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".h5", ".keras")


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


def plan(sources: Iterable[AnyPath], output: AnyPath, options: Options) -> tuple[Job, ...]:
    """Returns the jobs that ``convert_many`` does.

    Args:
        sources: checkpoints, here or as ``hf://USER/NAME[@REVISION][/FILE]``, or folders. A folder stands
            for every file in it that begins as a checkpoint does, or whose name ends in one of
            ``SURE_SUFFIXES``, but for what was converted; the others are counted.
        output: parent of the folders that are written; each is named after its source, and what a
            folder holds lies there as it does in that folder.
        options: hold for every source.

    Raises:
        FolderError: two sources would be written to one folder.
        ReadError: there is no checkpoint in any folder, or one can't be read.
    """
    sources = list(sources)
    if is_named_file(options.labels):
        labels = os.path.abspath(str(options.labels))  # noqa: PTH100 (keeps links, as they were named)
        options = replace(options, labels=labels)
    elif isinstance(options.labels, list):
        options = replace(options, labels=tuple(options.labels))
    sections = tuple(os.path.abspath(one) for one in options.card_sections)  # noqa: PTH100
    options = replace(options, card_sections=sections)
    found = [pair for named in sources for pair in _files(os.fspath(named))]
    if ours := [named for named in sources if is_ours(Path(named))]:
        raise ReadError(
            f"{quoted(os.fspath(ours[0]))} is what densenet-convert wrote: verify, export and push take it."
        )
    if sources and not found:
        _refuse_empty(sources)
    jobs: dict[str, Job] = {}
    # A file that is named alone and by its folder is one source; its folder says where it lies.
    for source, place in dict(sorted(found, key=lambda pair: pair[1] != "")).items():
        folder = os.path.abspath(Path(output, place, output_name(source)))  # noqa: PTH100
        if folder in jobs:
            raise FolderError(
                f"{jobs[folder].source} and {source} would both be written to {folder}. "
                "Convert one of them with another `output=...`, or rename it."
            )
        jobs[folder] = Job(source, folder, options)
    return tuple(jobs.values())


def sources_in(named: str) -> list[str]:
    """Returns what ``inspect`` looks at: the checkpoints and the converted folders in a folder, or the name.

    Raises:
        ReadError: there is none in the folder, or it can't be read.
    """
    if named.startswith(SCHEME) or not Path(named).is_dir() or is_ours(Path(named)):
        return [named]
    found = sorted(path for path in _walk(named) if _is_of_interest(path))
    if not found:
        _refuse_empty([named])
    return found


def _is_of_interest(path: str) -> bool:
    return is_ours(Path(path)) or _is_checkpoint(path)


def _refuse_empty(sources: Sequence[AnyPath]) -> None:
    """Raises ReadError for folders in which no file is a checkpoint."""
    _refuse_foreign_folders(sources)
    raise ReadError(
        f"{first_few([os.fspath(named) for named in sources])} holds no checkpoint: expected files that "
        "begin as torch, safetensors or Keras write them. Name a file itself if it is another one."
    )


def _refuse_foreign_folders(sources: Iterable[AnyPath]) -> None:
    """Raises ReadError for a folder that is, as a whole, a checkpoint or a model of another library."""
    for source in sources:
        if not os.path.isdir(source):  # noqa: PTH112
            continue
        if found := foreign_folder(os.listdir(source)):  # noqa: PTH208
            kind, advice = found
            raise ReadError(f"{os.fspath(source)} can't be read: it is {kind}. {advice}")


def output_name(source: str) -> str:
    """Returns what a source's folder is called: ``"chest"`` for ``"here/chest.pth.tar"``.

    A name on the Hub without a file gives the repository's name.
    """
    if source.startswith(SCHEME):
        repository, _, file = parse_address(source)
        source = file or repository
    name = Path(source).name
    return re.sub(r"(\.pth\.tar|\.weights\.h5|\.[A-Za-z]\w*)$", "", name) or name


def _files(source: str) -> Iterator[tuple[str, str]]:
    """Yields the files that a source stands for, each with the folder below the source that holds it."""
    if source.startswith(SCHEME):
        yield source, ""
        return
    path = os.path.abspath(local_file(source))  # noqa: PTH100
    if not Path(path).is_dir():
        yield path, ""
        return
    files = sorted(one for one in _walk(path) if not is_ours(Path(one)))
    found = [file for file in files if _is_checkpoint(file)]
    if found and len(found) < len(files):
        log.warning("%s: %d of %d files are no checkpoints.", source, len(files) - len(found), len(files))
    for file in found:
        yield file, os.path.relpath(os.path.dirname(file), path)  # noqa: PTH120


def _is_checkpoint(file: str) -> bool:
    if file.lower().endswith(SURE_SUFFIXES):
        return True
    return looks_like_checkpoint(first_bytes(Path(file), BEGINNING))


def _walk(folder: str) -> Iterator[str]:
    """Yields the files in a folder, and the converted folders in it as they are."""

    def refuse(error: OSError) -> None:
        raise ReadError(f"{error.filename} can't be read: {error.strerror}.") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        if is_ours(Path(parent)):
            folders.clear()
            yield parent
            continue
        # Hidden ones too: what a killed writer left behind, or an editor's copies.
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield os.path.join(parent, name)  # noqa: PTH118
