"""Executors of processes, here and on a Dask cluster, each as a context manager."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

from .errors import DeviceError, quoted

Result = TypeVar("Result")

log = logging.getLogger("densenet_convert")

# Seconds to wait for Dask's scheduler.
PATIENCE = 10


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def process_executor(jobs: int) -> Iterator[futures.Executor]:
    """An executor of ``jobs`` processes of this machine, which share its cores.

    They are spawned: a script that uses them needs ``if __name__ == "__main__":``.
    """
    executor = _Processes(jobs)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def dask_executor(address: str) -> Iterator[futures.Executor]:
    """An executor of the workers of a Dask cluster, on each of which densenet-convert is installed.

    Args:
        address: the scheduler's, such as ``"tcp://127.0.0.1:8786"``.

    Raises:
        DeviceError: Dask is not installed, or no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise DeviceError('Dask is not installed here: pip install "densenet-convert[dask]".') from error
    try:
        # Dask waits without end for a port that is no number.
        if not re.fullmatch(r"(\w+://)?[^\s/]+:\d{1,5}", address):
            raise ValueError("expected an address like tcp://HOST:8786")
        client = Client(address, timeout=PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, futures.TimeoutError, ValueError, TypeError) as error:
        raise DeviceError(
            f"No Dask scheduler can be had at {quoted(address)}: {error}. "
            "Start one with `dask scheduler`, and give the address that it prints."
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            log.warning("%s has no worker yet: `dask worker %s` starts one. Waiting.", address, address)
        # Not pure: what a job came to before says nothing of the folder now.
        yield client.get_executor(pure=False)  # type: ignore[no-untyped-call]


class _Processes(futures.Executor):
    """Each worker is a pool of its own: where one is killed, one job fails, and a new one takes its place."""

    def __init__(self, jobs: int) -> None:
        self._threads = futures.ThreadPoolExecutor(jobs)
        self._threads_each = max(1, available_cores() // jobs)
        self._idle: SimpleQueue[futures.ProcessPoolExecutor] = SimpleQueue()
        for _ in range(jobs):
            self._idle.put(self._start())

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> futures.Future[Result]:
        return self._threads.submit(self._run, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        while not self._idle.empty():
            self._idle.get().shutdown(wait)

    def _run(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
        worker = self._idle.get()
        try:
            return worker.submit(fn, *args, **kwargs).result()
        except futures.BrokenExecutor:
            worker.shutdown()
            worker = self._start()
            raise
        finally:
            self._idle.put(worker)

    def _start(self) -> futures.ProcessPoolExecutor:
        """A fork would inherit torch's threads in whatever state they are."""
        from multiprocessing import get_context

        return futures.ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_prepare, initargs=(self._threads_each,)
        )


def _prepare(threads: int) -> None:
    """In a new worker: ends quietly on Ctrl-C, which reaches it too, and with whoever started it."""
    from multiprocessing import parent_process

    import torch

    def follow() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    signal.signal(signal.SIGINT, lambda *_: sys.exit(128 + signal.SIGINT))
    threading.Thread(target=follow, daemon=True).start()
    torch.set_num_threads(min(threads, torch.get_num_threads()))
