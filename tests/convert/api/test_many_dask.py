"""Dask's workers end in the same folders as one process, also where one of them is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from checkpoints import in_2017_names, save, state_dict_of

from densenet_convert.api.many import Outcome, convert_many
from densenet_convert.errors import DeviceError
from densenet_convert.executors import dask_executor
from densenet_convert.folder.files import file_sha256
from densenet_convert.folder.open import open_folder

distributed = pytest.importorskip("distributed")


@contextmanager
def cluster(workers: int = 2, **options: Any) -> Iterator[Any]:
    """Worker processes, each with a nanny that starts another one where it dies."""
    settings = {"processes": True, "threads_per_worker": 1, "dashboard_address": ":0", **options}
    with distributed.LocalCluster(n_workers=workers, **settings) as started:
        yield started


def checkpoints(folder: Path, number: int) -> list[Path]:
    names = [f"{chr(ord('a') + seed)}.pth" for seed in range(number)]
    return [save(in_2017_names(state_dict_of(seed=seed)), folder / name) for seed, name in enumerate(names)]


def require_whole(sources: list[Path], output: Path) -> None:
    """Each has a folder of its own, all bytes of which agree with its receipt."""
    for source in sources:
        claimed = open_folder(output / source.stem).receipt["source"]["sha256"]
        assert claimed == file_sha256(source)


def kill_a_busy_worker(client: Any) -> None:
    pids: dict[str, int] = client.run(os.getpid)
    assert len(set(pids.values())) == 2
    while not (busy := [address for address, keys in client.processing().items() if keys]):
        time.sleep(0.01)
    os.kill(pids[busy[0]], signal.SIGKILL)


def test_every_source_ends_in_one_whole_folder_though_a_worker_is_killed(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path, 8)
    sources[2].write_text("no checkpoint")
    outcomes: list[Outcome] = []
    with cluster() as started, distributed.Client(started) as client:
        with dask_executor(started.scheduler_address) as executor:
            for outcome in convert_many(sources, tmp_path / "out", executor=executor, device="cpu"):
                outcomes.append(outcome)
                if len(outcomes) == 2:
                    kill_a_busy_worker(client)
        with dask_executor(started.scheduler_address) as executor:
            again = list(convert_many(sources, tmp_path / "out", executor=executor, device="cpu"))
    ends = {Path(outcome.source): outcome for outcome in outcomes}
    assert len(outcomes) == len(ends) == 8
    failed = ends.pop(sources.pop(2))
    assert (failed.status, failed.error) == ("failed", "ReadError")
    # What was done when its worker was killed, and was given out again, is skipped by the next one.
    assert {outcome.status for outcome in ends.values()} <= {"converted", "skipped"}
    require_whole(sources, tmp_path / "out")
    assert sum(outcome.status == "skipped" for outcome in again) == 7


def test_a_source_that_kills_every_worker_is_a_failure_that_says_so(tmp_path: Path) -> None:
    from concurrent.futures import Executor

    class Poisoned(Executor):
        def __init__(self, executor: Any) -> None:
            self.executor = executor

        def submit(self, *_: Any, **__: Any) -> Any:
            return self.executor.submit(os._exit, 9)

    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster(1) as started,
        dask_executor(started.scheduler_address) as executor,
    ):
        (outcome,) = convert_many(checkpoints(tmp_path, 1), tmp_path / "out", executor=Poisoned(executor))
    assert (outcome.status, outcome.error, outcome.exit_code) == ("failed", "KilledWorker", 1)
    assert "was killed, as happens where there is not enough memory. Run again" in str(outcome.message)


def test_a_cluster_that_is_lost_ends_in_failures_and_the_next_run_goes_on(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path, 4)
    with cluster(1) as started, dask_executor(started.scheduler_address) as executor:
        run = convert_many(sources, tmp_path / "out", executor=executor, device="cpu")
        outcomes = [next(run)]
        started.close()
        outcomes += run
    assert len(outcomes) == 4
    assert outcomes[-1].status == "failed"
    assert "the cluster was lost. Run again: what is done is skipped." in str(outcomes[-1].message)
    assert all(o.status != "failed" for o in convert_many(sources, tmp_path / "out", device="cpu"))
    require_whole(sources, tmp_path / "out")


def test_a_worker_of_several_threads_does_every_job(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path, 3)
    with (
        cluster(1, threads_per_worker=3) as started,
        dask_executor(started.scheduler_address) as executor,
    ):
        outcomes = list(convert_many(sources, tmp_path / "out", executor=executor, device="cpu"))
    assert [outcome.status for outcome in outcomes] == 3 * ["converted"]
    require_whole(sources, tmp_path / "out")


def test_workers_that_are_threads_of_this_process_are_refused(tmp_path: Path) -> None:
    with (
        cluster(1, processes=False) as started,
        distributed.Client(started) as client,
        pytest.raises(DeviceError, match="threads of this process"),
    ):
        list(convert_many(checkpoints(tmp_path, 1), tmp_path / "out", executor=client.get_executor()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "address", ["", "localhost", "http://localhost:1", "tls://localhost:1", "tcp://localhost:x"]
)
def test_what_is_no_address_of_a_scheduler_is_refused_at_once(address: str) -> None:
    with pytest.raises(DeviceError, match="No Dask scheduler can be had at .*dask scheduler"):
        dask_executor(address).__enter__()


def test_where_no_scheduler_answers_the_message_says_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("densenet_convert.executors.PATIENCE", 1)
    with pytest.raises(DeviceError, match="Timed out trying to connect .*dask scheduler"):
        dask_executor("tcp://127.0.0.1:1").__enter__()


def test_a_cluster_without_workers_is_waited_for_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with cluster(0) as started, dask_executor(started.scheduler_address):
        assert "has no worker yet: `dask worker tcp://127.0.0.1:" in caplog.text
