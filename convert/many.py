"""Many sources at once, on any executor of processes; a run that was interrupted goes on where it stopped.

    plan -> convert_job, for each Job in whatever process -> Outcome

What crosses processes is paths and plain options there, and an Outcome back, never a tensor: the workers
must see the same files.  What is there already, whole and of the same source, is skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Generator, Iterable, Iterator
from concurrent import futures
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from .card import license_of, network_name
from .errors import ConvertError, DeviceError, FolderError, ReadError, is_out_of_memory, some
from .folder import CARD, GOLDEN, digests, is_ours, open_folder
from .hub import SCHEME, SUFFIXES, local_file, parse
from .identify import identify_layout
from .labels import choose_labels
from .layouts import known_layouts
from .load import size_of
from .receipt import FILE_NAME, SEAL, config_from, describe_labels
from .records import IMAGENET, Outcome, Progress, Written
from .source_file import parse as parse_bytes
from .source_file import read_whole
from .told import told_by

if TYPE_CHECKING:
    AnyPath = str | os.PathLike[str]

THREADS = (
    "The executor's workers are threads of this process, and a conversion sets folders and flags that belong "
    "to the whole process. Give an executor of processes, such as that of process_executor(2)."
)
# Anew in each process, but for one that was forked.
_TOKEN = uuid4().hex


@dataclass(frozen=True)
class Job:
    """One conversion: what a worker is told.  For the options see ``convert``.

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


def convert_many(
    sources: Iterable[AnyPath],
    output: AnyPath,
    *,
    executor: futures.Executor | None = None,
    arch: str | int | None = None,
    layout: str | None = None,
    prefix: str | None = None,
    only: str | None = None,
    head: str | None = None,
    key: str | None = None,
    device: str = "auto",
    force: bool = False,
    golden: bool = False,
    labels: AnyPath | None = None,
    multi_label: bool = False,
    license: str | None = None,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Converts and proves every source, each into a folder of its own; what fails does not stop the rest.

    A folder that is there already is skipped where it is whole, of the same source and what these options
    ask for, be there golden outputs or a license beside it; with ``force`` it is converted again.

    Args:
        sources: see ``plan``.
        output: see ``plan``.
        executor: where it is done: any executor of ``concurrent.futures`` whose workers are processes that
            see the same files, such as those of ``process_executor`` and ``dask_executor``, which stays
            the caller's; None for one after the other in this process.
        arch, layout, prefix, only, head, key, device, force, golden, labels, multi_label, license: see
            ``convert``; they hold for every source.
        progress: wraps the jobs as they are done, and is told what they are.

    Returns:
        What came of each source, in the order in which they are done.  Closing the iterator cancels what has
        not begun.

    Raises:
        ConvertError: see ``plan``.
        DeviceError: the executor's workers are threads.

    Examples:
        >>> for outcome in dc.convert_many(["old.pth"], "many", device="cpu"):
        ...     print(outcome.status, outcome.network)
        converted DenseNet-121
    """
    found = {"arch": arch, "layout": layout, "prefix": prefix, "only": only, "head": head, "key": key}
    options = {"device": device, "force": force, "golden": golden, "labels": labels, "license": license}
    jobs = plan(sources, output, **found, **options, multi_label=multi_label)
    if isinstance(executor, futures.ThreadPoolExecutor):
        raise DeviceError(THREADS)
    return _outcomes(jobs, executor, progress)


def plan(sources: Iterable[AnyPath], output: AnyPath, **options: Any) -> tuple[Job, ...]:
    """The jobs that ``convert_many`` does.

    Args:
        sources: checkpoints, here or as ``hf://USER/NAME[@REVISION][/FILE]``, or folders. A folder stands
            for every file in it whose name ends in one of ``SUFFIXES``, but for what was converted.
        output: parent of the folders that are written; each is named after its source's stem, and what a
            folder holds lies there as it does in that folder.
        options: the other attributes of ``Job``.

    Raises:
        FolderError: two sources would be written to one folder.
        ReadError: there is no checkpoint in any folder, or one can't be read.
    """
    sources = list(sources)
    if (labels := options.get("labels")) not in (None, IMAGENET):
        options["labels"] = os.path.abspath(labels)  # noqa: PTH100 (keeps links, as they were named)
    found = [pair for named in sources for pair in _files(os.fspath(named))]
    if ours := [named for named in sources if is_ours(Path(named))]:
        raise ReadError(
            f"{some([os.fspath(ours[0])])} is what densenet-convert wrote: verify, export and push take it."
        )
    if sources and not found:
        raise ReadError(
            f"{some([os.fspath(named) for named in sources])} holds no checkpoint, "
            f"expected names that end in {', '.join(SUFFIXES)}."
        )
    jobs: dict[str, Job] = {}
    # What is named twice, alone and by its folder, is one source; its folder says where it lies.
    for source, place in dict(sorted(found, key=lambda pair: pair[1] != "")).items():
        folder = os.path.abspath(Path(output, place, stem(source)))  # noqa: PTH100
        if folder in jobs:
            raise FolderError(
                f"{jobs[folder].source} and {source} would both be written to {folder}. "
                "Convert one of them with another --output, or rename it."
            )
        jobs[folder] = Job(source, folder, **options)
    return tuple(jobs.values())


def stem(source: str) -> str:
    """``"chest"`` of ``"here/chest.pth.tar"``; of a name on the Hub without a file the repository's."""
    if source.startswith(SCHEME):
        repository, _, file = parse(source)
        source = file or repository
    name = Path(source).name
    return re.sub(r"(\.pth\.tar|\.weights\.h5|\.[A-Za-z]\w*)$", "", name) or name


def convert_job(job: Job, home: tuple[str, int] | None = None) -> Outcome:
    """Does one job, in whatever process; never raises what can be told in an outcome.

    Args:
        job: what to do.
        home: the process that asks, where this one must be another.

    Raises:
        DeviceError: it is the same one.
    """
    if home == _process():
        raise DeviceError(THREADS)
    try:
        return _convert(job)
    except Exception as error:  # of whatever kind: a pickled one may not come through
        return _failed(job, error)


def _files(source: str) -> Iterator[tuple[str, str]]:
    """What a source stands for, and for each the folder below the source that holds it."""
    if source.startswith(SCHEME):
        yield source, ""
        return
    path = os.path.abspath(local_file(source))  # noqa: PTH100
    if not Path(path).is_dir():
        yield path, ""
        return
    for file in sorted(_walk(path)):
        yield file, os.path.relpath(os.path.dirname(file), path)  # noqa: PTH120


def _walk(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise ReadError(f"{error.filename} can't be read: {error.strerror}.") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        if is_ours(Path(parent)):
            folders.clear()
            continue
        # Hidden ones too: what a killed writer left behind, or an editor's copies.
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(parent, name)  # noqa: PTH118


def _outcomes(
    jobs: tuple[Job, ...], executor: futures.Executor | None, progress: Progress | None
) -> Iterator[Outcome]:
    one_by_one = (convert_job(job) for job in jobs)
    with closing(one_by_one if executor is None else _spread(jobs, executor)) as outcomes:
        # The bar is asked first: it counts a job when it is asked for the next one.
        counted = jobs if progress is None else progress(jobs, "checkpoints")
        yield from (outcome for _, outcome in zip(counted, outcomes, strict=True))


def _spread(jobs: tuple[Job, ...], executor: futures.Executor) -> Generator[Outcome, None, None]:
    waiting: dict[futures.Future[Outcome], Job] = {}
    try:
        for job in jobs:
            waiting[_submit(executor, job)] = job
        for future in futures.as_completed(waiting):
            error = futures.CancelledError() if future.cancelled() else future.exception()
            if isinstance(error, DeviceError | KeyboardInterrupt):  # not the job's
                raise error
            yield future.result() if error is None else _failed(waiting[future], error)
    finally:
        for future in waiting:
            future.cancel()


def _submit(executor: futures.Executor, job: Job) -> futures.Future[Outcome]:
    try:
        return executor.submit(convert_job, job, _process())
    except Exception as error:  # of a pool that is broken
        future: futures.Future[Outcome] = futures.Future()
        future.set_exception(error)
        return future


def _process() -> tuple[str, int]:
    """This process, also where others have its number, on another machine, or its memory, after a fork."""
    return _TOKEN, os.getpid()


def _convert(job: Job) -> Outcome:
    from .pipeline import convert

    options = asdict(job)
    places = options.pop("source"), options.pop("folder")
    if job.force or not os.path.lexists(job.folder):
        try:
            return _done(job, "converted", convert(*places, **options))
        except FolderError:
            # Dask gives a job to a second worker where the first one only seemed to be dead.
            if job.force or not os.path.lexists(job.folder):
                raise
    return _done(job, "skipped", _require_done(job))


def _require_done(job: Job) -> Written:
    """What is there already.

    Raises:
        FolderError: it is not whole, not of this source, or is not what was asked for.
        ConvertError: the source can't be had, or is not what was asked for.
    """
    advice = "Name another --output, or replace it with --force."
    try:
        written = open_folder(Path(job.folder))
    except FolderError as error:
        raise FolderError(f"{job.folder} exists and is not whole. {error} {advice}") from error
    claimed = written.receipt["source"]["sha256"]
    data = read_whole(local_file(job.source))
    found = hashlib.sha256(data).hexdigest()
    if claimed != found:
        raise FolderError(
            f"{job.folder} exists and is of another source than {job.source}, whose SHA-256 is {found}: "
            f"the receipt names {claimed}. {advice}"
        )
    if other := _other(job, written, data):
        raise FolderError(f"{job.folder} exists and was converted otherwise than is asked: {other}. {advice}")
    return written


def _other(job: Job, written: Written, data: bytearray) -> str | None:
    """In what a folder is other than a conversion with these options would be; None where it is not."""
    receipt = written.receipt
    config = config_from(receipt["config"])
    content = parse_bytes(data, Path(job.source), job.key)
    layout = identify_layout(
        content.tensors,
        known_layouts(),
        layout=job.layout,
        prefix=job.prefix,
        only=job.only,
        head=job.head,
    )
    explained = layout.explain(content.tensors)
    kept = {one["source_name"]: one["name"] for one in receipt["tensors"] if one["source_name"] is not None}
    _, told = told_by(content.layers, content.format, content.tensors, layout)
    labels = describe_labels(
        choose_labels(
            receipt["source"]["origin"],
            config,
            asked=job.labels,
            multi_label=job.multi_label,
            implied=told or layout.problem_type,
        )
    )
    card = written.folder / CARD
    compared = {
        "the state dict under": (receipt["source"]["container"], content.container),
        "the layout": (receipt["source"]["layout"], layout.name),
        "the prefix": (receipt["source"]["prefix"], layout.prefix),
        "the architecture": (
            size_of(config),
            f"densenet{str(job.arch).removeprefix('densenet')}" if job.arch else size_of(config),
        ),
        "the tensors": (sorted(kept.items()), sorted(explained.targets.items())),
        "names of the classes with the digest": (receipt["labels"]["sha256"], labels["sha256"]),
        "the problem type": (receipt["labels"]["problem_type"], labels["problem_type"]),
        "golden outputs": (GOLDEN in digests(receipt), job.golden or GOLDEN in digests(receipt)),
        "the license": (license_of(card), job.license) if job.license else (None, None),
    }
    return next(
        (
            f"it has {what} {some([str(found)])}, expected {some([str(expected)])}"
            for what, (found, expected) in compared.items()
            if found != expected
        ),
        None,
    )


def _done(job: Job, status: Literal["converted", "skipped"], written: Written) -> Outcome:
    network = network_name(config_from(written.receipt["config"]))
    digest = json.loads((written.folder / FILE_NAME).read_bytes())[SEAL]
    return Outcome(job.source, job.folder, status, network, digest)


def _failed(job: Job, error: BaseException) -> Outcome:
    name = type(error).__name__
    again = "Run again: what is done is skipped."
    if isinstance(error, ConvertError):
        message = str(error)
    elif isinstance(error, futures.BrokenExecutor) or name == "KilledWorker":  # the latter is Dask's
        message = (
            f"{job.source}: its process, or another one of its pool, was killed, as happens where there is "
            f"not enough memory. {again} Fewer processes need less of it."
        )
    elif isinstance(error, futures.CancelledError):
        message = f"{job.source}: it was cancelled, or the cluster was lost. {again}"
    elif is_out_of_memory(error):
        message = f"{job.source}: there is not enough memory. Free some, or take fewer processes. {again}"
    else:
        reason = some([" ".join(str(error).split())]) or "no reason was given"
        message = (
            f"{job.source}: {name}: {reason}. Every worker needs the same densenet-convert; "
            "if they have it, report this message."
        )
    exit_code = error.exit_code if isinstance(error, ConvertError) else 1
    return Outcome(job.source, job.folder, "failed", error=name, message=message, exit_code=exit_code)
