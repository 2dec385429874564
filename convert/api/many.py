"""``convert_many``: many sources, on any executor of processes; an interrupted run goes on where it stopped.

    plan -> convert_job, for each Job in whatever process -> Outcome

What crosses processes is paths and plain options there, and an Outcome back, never a tensor: the workers
must see the same files.  What is there already, whole and of the same source, is skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from ..errors import ConvertError, DeviceError, FolderError, is_out_of_memory, quoted
from ..folder.receipt import FILE_NAME, SEAL, config_from
from ..folder.records import Written
from ..folder.wording import network_name
from ..records import AnyPath, LabelSource, Numbers, Progress, Size, options_from
from ..shown import Shown
from .already_done import require_done
from .plan import Job, plan
from .target import is_there

THREADS = (
    "The executor's workers are threads of this process, and a conversion sets folders and flags that belong "
    "to the whole process. Give an executor of processes, such as that of process_executor(2)."
)
# Anew in each process, but for one that was forked.
_TOKEN = uuid4().hex


@dataclass(frozen=True, repr=False)
class Outcome(Shown):
    """The result of one source.

    Attributes:
        source: its absolute path, or ``hf://...``.
        folder: its absolute path; whole, and of this source, unless ``status`` is ``"failed"``.
        status: ``"converted"``, ``"skipped"`` because it was there already, or ``"failed"``.
        network: such as ``"DenseNet-169"``; None where it failed.
        receipt_sha256: the digest that conversion.json ends with; None where it failed.
        error: name of the error's class; None unless it failed.
        message: what is wrong, and what to do; None unless it failed.
        exit_code: 0 unless it failed.
    """

    source: str
    folder: Path
    status: Literal["converted", "skipped", "failed"]
    network: str | None = None
    receipt_sha256: str | None = None
    error: str | None = None
    message: str | None = None
    exit_code: int = 0

    def __str__(self) -> str:
        if self.message is None:
            return f"{self.folder}: {self.status}, {self.network}"
        named = "" if self.source in self.message else f"{self.source}: "
        return f"error: {named}{self.message}"

    def _shown(self) -> dict[str, object]:
        """Returns what was converted, to which folder, and with which result."""
        return {
            "source": self.source,
            "folder": self.folder,
            "status": self.status,
            "network": self.network,
            "message": self.message,
        }


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
    final_relu: bool | None = None,
    key: str | None = None,
    reference: str | None = None,
    reference_output: str | None = None,
    reference_input_size: str | None = None,
    ignore_config: bool = False,
    device: str = "auto",
    force: bool = False,
    golden: bool = False,
    labels: LabelSource | None = None,
    multi_label: bool = False,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    input_size: Size | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    datasets: Sequence[str] = (),
    base_model: str | None = None,
    metrics: Sequence[str] = (),
    card_sections: Sequence[AnyPath] = (),
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
        arch, layout, prefix, only, head, final_relu, key: see ``convert``; they hold for every source.
        reference, reference_output, reference_input_size: likewise; workers import it by themselves.
        ignore_config, device, force, golden, labels, multi_label: likewise.
        mean, std, input_size, interpolation, crop_pct: likewise.
        license, license_name, license_link, datasets, base_model, metrics, card_sections: likewise.
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
    options = options_from(locals())
    jobs = plan(sources, output, options)
    if isinstance(executor, futures.ThreadPoolExecutor):
        raise DeviceError(THREADS)
    return _outcomes(jobs, executor, progress)


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
    from ..proof.prove import ProofExtras
    from .convert import convert_source

    folder = Path(job.folder)
    if not is_there(folder, job.options):
        try:
            return _done(job, convert_source(job.source, folder, job.options, ProofExtras()))
        except FolderError:
            # Dask gives a job to a second worker where the first one only seemed to be dead.
            if not is_there(folder, job.options):
                raise
    return _done(job, require_done(job.source, folder, job.options))


def _done(job: Job, written: Written) -> Outcome:
    network = network_name(config_from(written.receipt["config"]))
    digest = json.loads((written.folder / FILE_NAME).read_bytes())[SEAL]
    status: Literal["converted", "skipped"] = "skipped" if written.skipped else "converted"
    return Outcome(job.source, Path(job.folder), status, network, digest)


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
        reason = quoted(" ".join(str(error).split())) or "no reason was given"
        message = (
            f"{job.source}: {name}: {reason}. Every worker needs the same densenet-convert; "
            "if they have it, report this message."
        )
    exit_code = error.exit_code if isinstance(error, ConvertError) else 1
    folder = Path(job.folder)
    return Outcome(job.source, folder, "failed", error=name, message=message, exit_code=exit_code)
