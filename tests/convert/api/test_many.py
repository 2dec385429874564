"""Many sources end in one whole, verified folder each, or in an outcome that says why not."""

from __future__ import annotations

import gzip
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from checkpoints import SMALL, in_2017_names, save, state_dict_of

from densenet_convert import ConvertError
from densenet_convert.api import already_done
from densenet_convert.api import convert as conversion
from densenet_convert.api.many import Outcome, convert_job, convert_many
from densenet_convert.api.plan import SURE_SUFFIXES, Job, output_name, plan
from densenet_convert.errors import DeviceError, FolderError, ParityError, ReadError
from densenet_convert.executors import dask_executor, process_executor
from densenet_convert.folder.files import GOLDEN, file_sha256
from densenet_convert.folder.open import open_folder
from densenet_convert.records import Options


def checkpoints(folder: Path, number: int) -> list[Path]:
    """Small networks, each another one: a.pth, b.pth and so on."""
    folder.mkdir(exist_ok=True, parents=True)
    names = [f"{chr(ord('a') + seed)}.pth" for seed in range(number)]
    return [save(in_2017_names(state_dict_of(seed=seed)), folder / name) for seed, name in enumerate(names)]


def by_name(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    return {Path(outcome.folder).name: outcome for outcome in outcomes}


def statuses(outcomes: Iterable[Outcome]) -> dict[str, str]:
    return {name: outcome.status for name, outcome in sorted(by_name(outcomes).items())}


def require_whole(sources: Iterable[Path], output: Path) -> None:
    """Each has a folder of its own, all bytes of which agree with its receipt; nothing else is there."""
    expected = {source.stem: file_sha256(source) for source in sources}
    found = {folder.name: open_folder(folder).receipt["source"]["sha256"] for folder in output.iterdir()}
    assert found == expected


class Poisoned(Executor):
    """Submits the end of the process, in place of one job."""

    def __init__(self, executor: Executor, name: str) -> None:
        self.executor, self.name = executor, name

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if output_name(args[0].source) == self.name:
            return self.executor.submit(os._exit, 9)
        return self.executor.submit(fn, *args, **kwargs)


class Never(Executor):
    """Begins nothing, where the first job is not done at once."""

    def __init__(self, first: Outcome | None = None) -> None:
        self.first, self.given = first, list[Future[Any]]()

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        self.given.append(Future())
        if self.first is not None and len(self.given) == 1:
            self.given[0].set_result(self.first)
        return self.given[-1]


class Here(Executor):
    """Does everything in the process, and the thread, of the caller."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


# What is done.


def test_every_source_gets_a_folder_of_its_own_in_the_order_given(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 2)
    outcomes = list(convert_many(reversed(sources), tmp_path / "out", device="cpu"))
    assert [Path(outcome.source) for outcome in outcomes] == sources[::-1]
    assert [(o.status, o.network, o.error, o.exit_code) for o in outcomes] == 2 * [
        ("converted", "DenseNet", None, 0)
    ]
    for outcome in outcomes:
        assert (
            f'"self_sha256": "{outcome.receipt_sha256}"'
            in Path(outcome.folder, "conversion.json").read_text()
        )
    require_whole(sources, tmp_path / "out")


def test_options_hold_for_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("\n".join("abcde"))
    options: dict[str, Any] = {"golden": True, "labels": "names.txt", "multi_label": True, "license": "mit"}
    sources = checkpoints(tmp_path / "in", 2)
    assert all(o.status == "converted" for o in convert_many(sources, "out", device="cpu", **options))
    for source in sources:
        folder = Path("out", source.stem)
        assert (folder / GOLDEN).exists()
        assert open_folder(folder).receipt["labels"]["problem_type"] == "multi_label_classification"
        assert "license: mit" in (folder / "README.md").read_text()


def test_a_bar_can_be_drawn_over_the_sources(tmp_path: Path) -> None:
    said: list[Any] = []

    def progress(items: Sequence[Any], what: str) -> Iterable[Any]:
        said.extend((len(items), what))
        for number, item in enumerate(items, start=1):
            yield item
            said.append(number)

    list(convert_many(checkpoints(tmp_path / "in", 2), tmp_path / "out", device="cpu", progress=progress))
    assert said == [2, "checkpoints", 1, 2]


# Which sources there are.


def beginnings() -> dict[str, bytes]:
    """What torch, safetensors and Keras write, called otherwise than they call it, by name."""
    state = {"a.weight": torch.rand(2, 2)}
    archive, legacy = BytesIO(), BytesIO()
    torch.save(state, archive)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    keras = BytesIO()
    with zipfile.ZipFile(keras, "w") as file:
        file.writestr("metadata.json", "{}")
    return {
        "model.pth.tar-60": archive.getvalue(),
        "epoch_12": legacy.getvalue(),
        "weights.00012": safetensors.torch.save(state),
        "best.hdf5": b"\x89HDF\r\n\x1a\n" + bytes(8),
        "network.zip": keras.getvalue(),
        "old.t7": b"sys_info".ljust(257, b"\0") + b"ustar  \0",
    }


def others() -> dict[str, bytes]:
    """What may hold a checkpoint, and is read where it is named; and what never does."""
    arrays, archive, packed, tarred = BytesIO(), BytesIO(), BytesIO(), BytesIO()
    np.savez(arrays, a=np.ones(2))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("word/document.xml", "<a/>")
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("images/1.png"))
    packed.write(gzip.compress(b"a"))
    return {
        "arrays.npz": arrays.getvalue(),
        "array.npy": b"\x93NUMPY\x01\0",
        "labels.pkl": pickle.dumps({"a": np.ones(2)}),
        "model.pth.gz": packed.getvalue(),
        "thesis.docx": archive.getvalue(),
        "data.tar": tarred.getvalue(),
        "log.bin": b"epoch 1",
        "empty.dat": b"",
        "notes.txt": b"{}",
    }


def test_a_folder_stands_for_the_checkpoints_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sure = [f"damaged{i}{suffix}" for i, suffix in enumerate(SURE_SUFFIXES)] + ["UPPER.PTH"]
    hidden = {".out.0123.partial/model.safetensors": b"", ".editor.pth": b""}
    files = {**beginnings(), **others(), **dict.fromkeys(sure, b""), **hidden}
    for number, (name, data) in enumerate(files.items()):
        path = tmp_path / f"{number % 3}" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    found = [Path(job.source).name for job in plan([tmp_path], tmp_path / "out", Options())]
    assert sorted(found) == sorted([*beginnings(), *sure])
    assert caplog.messages == [f"{tmp_path}: 9 of {len(found) + 9} files are no checkpoints."]


def test_a_folder_of_nothing_that_begins_as_a_checkpoint_is_refused(tmp_path: Path) -> None:
    for name, data in others().items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(
        ReadError, match="holds no checkpoint: expected files that begin as torch, safetensors"
    ):
        plan([tmp_path], tmp_path / "out", Options())
    (job,) = plan([tmp_path / "labels.pkl"], tmp_path / "out", Options())
    assert job.source.endswith("labels.pkl")


def test_what_was_converted_is_no_source(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path, 2)
    for _ in range(2):
        outcomes = list(convert_many([tmp_path], tmp_path, device="cpu"))
        assert [Path(outcome.source) for outcome in outcomes] == sources
    with pytest.raises(ReadError, match=r"a is what densenet-convert wrote: verify, export and push take it"):
        plan([tmp_path / "a"], tmp_path / "out", Options())


def test_a_folder_that_cant_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(_: str, onerror: Callable[[OSError], None]) -> Any:
        yield onerror(PermissionError(13, "Permission denied", "secret"))

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(ReadError, match="secret can't be read: Permission denied"):
        plan([tmp_path], tmp_path / "out", Options())


def test_what_is_named_twice_is_one_source(tmp_path: Path) -> None:
    source, *_ = checkpoints(tmp_path / "in", 1)
    assert len(plan([source, tmp_path / "in", str(source)], tmp_path / "out", Options())) == 1


@pytest.mark.parametrize("other", ["in/b/x.ckpt", "hf://user/x@v2"])
def test_two_sources_of_one_stem_are_refused_before_anything_is_written(tmp_path: Path, other: str) -> None:
    first = tmp_path / "in" / "a" / "x.pth"
    second = other if other.startswith("hf://") else str(tmp_path / other)
    with pytest.raises(FolderError) as refused:
        convert_many([first, second], tmp_path / "out")
    assert str(first) in str(refused.value)
    assert second in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("here/chest.pth.tar", "chest"),
        ("v1.2.ckpt", "v1.2"),
        ("model", "model"),
        ("hf://timm/densenet121.tv_in1k", "densenet121"),
        ("hf://user/chest@v2/files/best.pt", "best"),
    ],
)
def test_a_folder_is_named_after_its_source(source: str, name: str) -> None:
    assert output_name(source) == name


# What fails.


def test_a_failure_in_the_middle_does_not_stop_the_rest(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 3)
    sources[1].write_text("no checkpoint")
    outcomes = by_name(convert_many([*sources, tmp_path / "gone.pth"], tmp_path / "out", device="cpu"))
    assert [outcome.status for outcome in outcomes.values()] == ["converted", "failed", "converted", "failed"]
    assert (outcomes["b"].error, outcomes["b"].exit_code) == ("ReadError", 1)
    assert str(outcomes["b"].message).startswith(f"{sources[1]} can't be read: ")
    assert str(outcomes["gone"].message).endswith("gone.pth can't be read: No such file or directory.")
    require_whole([sources[0], sources[2]], tmp_path / "out")


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (ParityError("They differ.", where="norm0", largest=1.0), 3, "They differ. The converter or"),
        (MemoryError(), 1, "x.pth: there is not enough memory. Free some"),
        (KeyError("of ours\nwith a\ttraceback"), 1, "x.pth: KeyError: 'of ours"),
        (RuntimeError(), 1, "x.pth: RuntimeError: no reason was given. "),
    ],
)
def test_whatever_goes_wrong_becomes_one_message(
    monkeypatch: pytest.MonkeyPatch, error: Exception, exit_code: int, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(conversion, "convert_source", fail)
    outcome = convert_job(Job("x.pth", "x"))
    assert (outcome.status, outcome.error, outcome.exit_code) == ("failed", type(error).__name__, exit_code)
    assert str(outcome.message).startswith(message)
    assert "\n" not in str(outcome.message)


# What is there already.


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 3)
    run = convert_many(sources, tmp_path / "out", device="cpu")
    first = next(run)
    run.close()  # type: ignore[attr-defined]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    written = (tmp_path / "out" / "a" / "conversion.json").stat()

    again = by_name(convert_many(sources, tmp_path / "out", device="cpu"))
    assert statuses(again.values()) == {"a": "skipped", "b": "converted", "c": "converted"}
    assert (again["a"].receipt_sha256, again["a"].network) == (first.receipt_sha256, first.network)
    assert (tmp_path / "out" / "a" / "conversion.json").stat() == written
    require_whole(sources, tmp_path / "out")


def test_a_folder_of_another_source_is_left_alone_without_force(tmp_path: Path) -> None:
    old, new = checkpoints(tmp_path / "in", 2)
    list(convert_many([old], tmp_path / "out", device="cpu"))
    new.replace(old)
    (failed,) = convert_many([old], tmp_path / "out", device="cpu")
    assert failed.error == "FolderError"
    assert f"is of another source than {old}, whose SHA-256 is {file_sha256(old)}" in str(failed.message)
    (forced,) = convert_many([old], tmp_path / "out", device="cpu", force=True)
    assert forced.status == "converted"
    require_whole([old], tmp_path / "out")


def test_a_folder_that_is_not_whole_is_left_alone_without_force(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 1)
    list(convert_many(sources, tmp_path / "out", device="cpu"))
    (tmp_path / "out" / "a" / "config.json").unlink()
    (failed,) = convert_many(sources, tmp_path / "out", device="cpu")
    assert str(failed.message).startswith(f"{tmp_path / 'out' / 'a'} exists and is not whole. ")
    assert str(failed.message).endswith("Name another `output=...`, or replace it with `force=True`.")
    (forced,) = convert_many(sources, tmp_path / "out", device="cpu", force=True)
    assert forced.status == "converted"
    require_whole(sources, tmp_path / "out")


@pytest.mark.parametrize("force", [False, True])
def test_what_someone_else_wrote_is_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "thesis.tex").write_text("mine")
    sources = checkpoints(tmp_path / "in", 1)
    (failed,) = convert_many(sources, tmp_path / "out", device="cpu", force=force)
    assert (failed.status, failed.error) == ("failed", "FolderError")
    assert [path.name for path in (tmp_path / "out" / "a").iterdir()] == ["thesis.tex"]


def test_golden_outputs_that_are_asked_for_and_missing_are_not_skipped_over(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 1)
    list(convert_many(sources, tmp_path / "out", device="cpu"))
    (failed,) = convert_many(sources, tmp_path / "out", device="cpu", golden=True)
    assert "it has golden outputs False, expected True. " in str(failed.message)


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({"key": "raw"}, {"key": "ema"}, "it has the state dict under raw, expected ema"),
        ({"only": "a", "key": "raw"}, {"only": "b", "key": "raw"}, "it has the prefix a., expected b."),
        ({"key": "raw"}, {"key": "raw", "layout": "monai"}, "No layout explains all"),
        ({"key": "raw"}, {"key": "none"}, "none"),
        ({"key": "raw"}, {"key": "raw", "arch": 169}, "it has the architecture None, expected densenet169"),
        ({"key": "raw"}, {"key": "raw", "labels": "names.txt"}, "names of the classes with the digest None"),
        ({"key": "raw"}, {"key": "raw", "multi_label": True}, "the problem type None, expected multi_label"),
        ({"key": "raw", "multi_label": True}, {"key": "raw"}, "multi_label_classification, expected None"),
        ({"key": "raw"}, {"key": "raw", "license": "mit"}, "it has the license None, expected mit"),
    ],
)
def test_what_was_converted_with_other_options_is_not_skipped(
    first: dict[str, Any], then: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("".join(f"{i}\n" for i in range(SMALL.num_classes)))
    prefixes = ("a.", "b.") if "only" in first else ("",)
    content = {
        name: {prefix + k: v for prefix in prefixes for k, v in state_dict_of(seed=seed).items()}
        for seed, name in enumerate(("raw", "ema"))
    }
    source = save(content, tmp_path / "a.pth")
    (done,) = convert_many([source], "out", device="cpu", **first)
    assert done.status == "converted", done.message
    (again,) = convert_many([source], "out", device="cpu", **first)
    assert again.status == "skipped", again.message
    (other,) = convert_many([source], "out", device="cpu", **then)
    assert other.status == "failed"
    assert message in str(other.message)


def test_what_a_folder_holds_lies_below_the_output_as_it_does_there(tmp_path: Path) -> None:
    for run in ("r1", "r2"):
        checkpoints(tmp_path / "runs" / run, 1)
    (tmp_path / "runs" / ".hidden").mkdir()
    checkpoints(tmp_path / "runs" / ".hidden", 1)
    (tmp_path / "empty").mkdir()
    jobs = plan([tmp_path / "runs", tmp_path / "empty"], tmp_path / "out", Options())
    assert [Path(job.folder).relative_to(tmp_path / "out").as_posix() for job in jobs] == ["r1/a", "r2/a"]


def test_a_source_on_the_hub_is_fetched_before_it_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = checkpoints(tmp_path / "in", 1)
    for module in (already_done, conversion):
        monkeypatch.setattr(module, "local_file", {"hf://user/net/a.pth": source}.__getitem__)
    for status in ("converted", "skipped"):
        (outcome,) = convert_many(["hf://user/net/a.pth"], tmp_path / "out", device="cpu")
        assert (outcome.source, outcome.status) == ("hf://user/net/a.pth", status)


def test_what_another_worker_wrote_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = checkpoints(tmp_path / "in", 1)
    convert = conversion.convert_source

    def twice(*args: Any, **options: Any) -> Any:
        convert(*args, **options)
        return convert(*args, **options)

    monkeypatch.setattr(conversion, "convert_source", twice)
    (outcome,) = convert_many(sources, tmp_path / "out", device="cpu")
    assert outcome.status == "skipped"
    require_whole(sources, tmp_path / "out")


# Where it is done.


def test_an_executor_of_threads_is_refused_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(DeviceError, match="threads.*process_executor"):
        convert_many([tmp_path / "a.pth"], tmp_path / "out", executor=executor)


def test_an_executor_that_works_in_this_process_is_refused_whatever_its_class(tmp_path: Path) -> None:
    outcomes = convert_many(checkpoints(tmp_path / "in", 1), tmp_path / "out", executor=Here())
    with pytest.raises(DeviceError, match="threads"):
        next(outcomes)
    assert not (tmp_path / "out").exists()


def test_threads_of_one_process_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, together = threading.Semaphore(1), []

    def prove(*_: Any, **__: Any) -> None:
        alone = begun.acquire(blocking=False)
        together.append(not alone)
        time.sleep(0.02)
        if alone:
            begun.release()
        raise FolderError("not wanted here")

    monkeypatch.setattr(conversion, "prove_parity", prove)
    jobs = [Job(str(source), str(tmp_path / source.stem)) for source in checkpoints(tmp_path / "in", 4)]
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(convert_job, [*jobs, *jobs]))
    assert {outcome.message for outcome in outcomes} == {"not wanted here"}
    assert together == 8 * [False]


def test_jobs_hold_no_tensor_and_no_place_that_depends_on_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (job,) = plan(["a.pth"], "out", Options(labels="names.txt"))
    assert (job.source, job.folder) == (str(tmp_path / "a.pth"), str(tmp_path / "out" / "a"))
    assert job.options.labels == str(tmp_path / "names.txt")
    assert plan(["a.pth"], "out", Options(labels="imagenet1k"))[0].options.labels == "imagenet1k"
    values = [job.source, job.folder, *asdict(job.options).values()]
    assert all(isinstance(value, str | bool | tuple | None) for value in values)
    sent = pickle.dumps((convert_job, job))
    assert len(sent) < 1000
    assert pickle.loads(sent) == (convert_job, job)


def test_closing_cancels_what_has_not_begun(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 3)
    done = Outcome(str(sources[0]), str(tmp_path / "out" / "a"), "converted")
    executor = Never(done)
    outcomes = convert_many(sources, tmp_path / "out", executor=executor)
    assert next(outcomes) == done
    outcomes.close()  # type: ignore[attr-defined]
    assert [future.cancelled() for future in executor.given] == [False, True, True]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that interrupts")
def test_ctrl_c_cancels_what_has_not_begun(tmp_path: Path) -> None:
    executor, sources = Never(), checkpoints(tmp_path / "in", 3)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            list(convert_many(sources, tmp_path / "out", executor=executor))
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert [future.cancelled() for future in executor.given] == 3 * [True]


def test_a_future_that_someone_cancels_is_a_failure_that_says_so(tmp_path: Path) -> None:
    class Cancelling(Never):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            future: Future[Any] = Future()
            assert future.cancel()
            future.set_running_or_notify_cancel()
            return future

    (outcome,) = convert_many([tmp_path / "a.pth"], tmp_path / "out", executor=Cancelling())
    assert (outcome.status, outcome.error) == ("failed", "CancelledError")
    assert "it was cancelled, or the cluster was lost. Run again" in str(outcome.message)


def test_processes_write_what_one_process_writes_and_share_the_cores(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 3)
    sources[1].write_text("no checkpoint")
    with process_executor(2) as executor:
        outcomes = list(convert_many(sources, tmp_path / "out", executor=executor, device="cpu"))
        pids = {executor.submit(os.getpid).result() for _ in range(20)}
        threads = executor.submit(torch.get_num_threads).result()
    assert statuses(outcomes) == {"a": "converted", "b": "failed", "c": "converted"}
    assert by_name(outcomes)["b"].error == "ReadError"
    assert os.getpid() not in pids
    assert threads <= max(1, (os.cpu_count() or 1) // 2)
    list(convert_many(sources, tmp_path / "here", device="cpu"))
    for name in ("a", "c"):
        weights = [(tmp_path / output / name / "model.safetensors") for output in ("out", "here")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_worker_that_is_killed_fails_its_own_job_and_another_takes_its_place(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 3)
    with process_executor(1) as executor:
        poisoned = Poisoned(executor, "b")
        outcomes = by_name(convert_many(sources, tmp_path / "out", executor=poisoned, device="cpu"))
        again = list(convert_many(sources, tmp_path / "out", executor=executor, device="cpu"))
    assert statuses(outcomes.values()) == {"a": "converted", "b": "failed", "c": "converted"}
    failed = outcomes["b"]
    assert (failed.error, failed.exit_code) == ("BrokenProcessPool", 1)
    assert str(failed.message).startswith(
        f"{sources[1]}: its process, or another one of its pool, was killed"
    )
    assert statuses(again) == {"a": "skipped", "b": "converted", "c": "skipped"}
    require_whole(sources, tmp_path / "out")


def test_workers_end_with_whoever_started_them_however_that_ends(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal\n"
        "from densenet_convert.executors import process_executor\n"
        "if __name__ == '__main__':\n"
        "    with process_executor(1) as executor:\n"
        "        executor.submit(os.getpid).result()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # Returns when the last of them has closed the pipe.
    done = subprocess.run([sys.executable, program], stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_pool_that_broke_ends_in_failures_and_the_next_run_goes_on(tmp_path: Path) -> None:
    sources = checkpoints(tmp_path / "in", 2)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        poisoned = Poisoned(executor, "a")
        outcomes = list(convert_many(sources, tmp_path / "out", executor=poisoned, device="cpu"))
        broken = list(convert_many(sources, tmp_path / "out", executor=executor, device="cpu"))
    for outcome in (*outcomes, *broken):
        assert (outcome.status, outcome.error) == ("failed", "BrokenProcessPool")
        assert "Run again: what is done is skipped." in str(outcome.message)
    assert statuses(convert_many(sources, tmp_path / "out", device="cpu")) == {
        "a": "converted",
        "b": "converted",
    }


def test_without_dask_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConvertError, match=r'pip install "densenet-convert\[dask\]"'), dask_executor("x:1"):
        pass
