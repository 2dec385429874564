"""What `benchmarks/gpu.py` shows, step by step; tests/gpu holds each architecture by the same functions.

A step tells of each case as it is done, in a flat dict; what failed bears a "problem".
"""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import inference
import torch
import torchvision
from click.testing import CliRunner
from torch import Tensor, nn
from training_memory import MIB, training_step

from densenet_convert.api.convert import convert
from densenet_convert.api.verify import verify
from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES, DenseNet, DenseNetConfig
from densenet_convert.proof.determinism import deterministic, device_name, full_precision, tf32
from densenet_convert.proof.golden import compare_golden, take_golden
from densenet_convert.proof.inputs import draw, measured_shape
from densenet_convert.proof.selftest.run import SMALL, run_self_test
from densenet_convert.proof.tolerance import Setting, logits_of, measure, orders, precisions
from densenet_convert.results import Measured
from densenet_convert.source.random_weights import random_checkpoint, random_network

ROOT = Path(__file__).parents[1]
WARM_UP, SAMPLES = 3, 20
# In the self-test's first round one fault of so many, and one clean run, stand for all.
FEW = 10
# A third of what `densenet-convert prove` does: they take longest.
CLEAN_RUNS = 200
# One layer in each of two blocks: tracing a network for the compiler takes longest.
TINY = replace(SMALL, block_config=(1, 1))

Result = dict[str, Any]
Emit = Callable[[Result], None]
Calls = Mapping[str, Callable[[], Result]]


@dataclass(frozen=True)
class Asked:
    """How the steps run: ``quick`` is a tiny network, each thing once and no compiler."""

    device: torch.device
    quick: bool = False

    @property
    def networks(self) -> dict[str, DenseNetConfig]:
        return {"tiny": TINY} if self.quick else ARCHITECTURES

    @property
    def timed(self) -> dict[str, DenseNetConfig]:
        both = {name: ARCHITECTURES[name] for name in ("densenet121", "densenet169")}
        return {"tiny": TINY} if self.quick else both

    @property
    def batches(self) -> tuple[int, int]:
        return (1, 2) if self.quick else (1, 64)

    @property
    def side(self) -> int:
        return 64 if self.quick else 224

    @property
    def compiler(self) -> str:
        return "eager" if self.quick else "inductor"


def each(calls: Calls, emit: Emit) -> None:
    """Tells of every call; one that fails doesn't stop the rest."""
    for name, call in calls.items():
        try:
            emit({"case": name, **call()})
        except Exception as error:
            emit({"case": name, "problem": described(error)})


def described(error: object) -> str:
    """What went wrong, without the machine's paths, and no longer than a paragraph."""
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    return re.sub(r"(?<![\w.])(?:/[^\s/:'\"]+)+/", ".../", text)[:400]


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


# The gpu tests.


class Outcomes:
    """Tells of each test as it ends; in parallel too, for workers report to the process that started them."""

    def __init__(self, emit: Emit) -> None:
        self.emit, self.passed = emit, 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.passed:
            return
        self.passed += report.passed
        name = report.nodeid.partition("::")[2]
        shown = {"case": name, "outcome": report.outcome, "seconds": round(report.duration, 2)}
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            shown["problem"] = described(crash.message if crash else report.longreprtext[-400:])
        self.emit(shown)


def tests(asked: Asked, emit: Emit) -> None:
    import pytest

    outcomes = Outcomes(emit)
    # On the CPU they are skipped, one and all.
    arguments = [str(ROOT / "tests" / "gpu"), "-m", "gpu", "-q", "--rootdir", str(ROOT)]
    # This process may be a test's own, whose handler of crashes is to stay.
    arguments += ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
    if not asked.quick and find_spec("xdist"):
        # Who has compiled last takes no test that another could run meanwhile.
        arguments += ["-n", str(min(8, max(1, (os.cpu_count() or 1) // 2))), "--dist", "worksteal"]
    code = pytest.main(arguments, plugins=[outcomes])
    require(code == 0, f"pytest ended with {int(code)}")
    require(asked.device.type == "cpu" or outcomes.passed > 0, "not one test ran")


# Conversion, golden outputs and bounds, which the gpu tests call too.


def conversion(asked: Asked, emit: Emit) -> None:
    each({name: partial(convert_and_verify, c, asked.device) for name, c in asked.networks.items()}, emit)


def convert_and_verify(config: DenseNetConfig, device: torch.device) -> Result:
    """The command, as anyone would call it, on random weights in a file of 2017; then `verify`."""
    with TemporaryDirectory() as scratch:
        source, folder = str(Path(scratch, "source.pth")), str(Path(scratch, "converted"))
        Path(source).write_bytes(random_checkpoint(config, 0))
        on = ["--device", device.type, "--json"]
        differences = [
            difference_of(command("file", source, "--output", folder, *on)["verification"], device),
            difference_of(command("verify", folder, *on)["verification"], device),
            difference_of(command("verify", folder, "--source", source, *on)["verification"], device),
        ]
    return {"difference": max(differences), "verified": "with and without its source"}


def command(*arguments: str) -> Result:
    """What densenet-convert prints as JSON."""
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    require(result.exit_code == 0, f"{arguments[0]} ended with {result.exit_code}: {result.output}")
    printed: Result = json.loads(result.stdout)
    return printed


def difference_of(proof: Result, device: torch.device) -> float:
    """The largest of a proof that ran on the device, against torchvision, in deterministic float32."""
    require(proof["device"] == device_name(device), f"it ran on {proof['device']}")
    require("torchvision" in proof["reference"], f"it was held against {proof['reference']}")
    require(proof["dtype"] == "float32", f"it ran in {proof['dtype']}")
    flags = proof["flags"]
    require(flags["deterministic_algorithms"] and flags["cudnn.deterministic"], f"the flags are {flags}")
    allowed = any(value for name, value in flags.items() if name.endswith("allow_tf32"))
    require("tf32" not in flags.values() and not allowed, f"TF32 is on: {flags}")
    differences: dict[str, float] = proof["largest_difference"]
    require(set(differences.values()) == {0.0}, f"the largest differences are {differences}")
    return max(differences.values())


def golden(asked: Asked, emit: Emit) -> None:
    each({name: partial(golden_both_ways, c, asked.device) for name, c in asked.networks.items()}, emit)


def golden_both_ways(config: DenseNetConfig, device: torch.device) -> Result:
    """torchvision's outputs of one device, and ours of the other, as shares of their bounds."""
    cpu = torch.device("cpu")
    ours, theirs = pair(config, cpu)
    ways = {"of the CPU": (cpu, device), "on the CPU": (device, cpu)}
    shares = {
        way: compare_golden(ours, take_golden(theirs, config, taken_on), config, held_on)
        for way, (taken_on, held_on) in ways.items()
    }
    require(all(0 < share < 1 for share in shares.values()), f"the shares of the bounds are {shares}")
    return {f"share of the bound, {way}": share for way, share in shares.items()}


def bounds(asked: Asked, emit: Emit) -> None:
    with compiling(compile_subject, asked.networks, asked):
        subjects = {name: Subject.of(config, asked.device) for name, config in asked.networks.items()}
        for setting in (*precisions(asked.device), *orders(2)):
            each(bounds_in(setting, subjects), emit)
    each(bounds_in(compiled_by(asked.compiler), subjects), emit)


@dataclass(frozen=True)
class Subject:
    """Two networks of one function, in float32, an input, and torchvision's logits in float64."""

    ours: nn.Module
    theirs: nn.Module
    x: Tensor
    exact: Tensor

    @classmethod
    def of(cls, config: DenseNetConfig, device: torch.device) -> Subject:
        with deterministic(device):
            ours, theirs = pair(config, device)
            x = draw(measured_shape(config), seed=0).to(device)
            return cls(ours, theirs, x, logits_of(deepcopy(theirs).double(), x.double()))


def within_bound(setting: Setting, subject: Subject) -> Measured:
    """Our error in a setting, which is one, and within the bound of torchvision's own."""
    with deterministic(subject.x.device):
        found = measure(setting, subject.ours, subject.theirs, subject.x, subject.exact)
    require(found.ours > 0, "there is no error, so nothing was measured")
    require(found.holds, f"an error of {found.ours} exceeds its bound, {found.bound}")
    return found


def bounds_in(setting: Setting, subjects: Mapping[str, Subject]) -> Calls:
    def bound_of(subject: Subject) -> Result:
        found = within_bound(setting, subject)
        return {"ours": found.ours, "torchvision": found.theirs, "bound": found.bound}

    return {f"{name}, {setting.name}": partial(bound_of, subject) for name, subject in subjects.items()}


def compiled_by(backend: str) -> Setting:
    """torch.compile as a setting; what was compiled before is forgotten."""

    def run(network: nn.Module, x: Tensor) -> Tensor:
        torch.compiler.reset()
        return logits_of(torch.compile(network, backend=backend), x)

    return Setting("compile", torch.float32, run)


@contextmanager
def compiling(
    call: Callable[[DenseNetConfig, int, Asked], None], networks: Mapping[str, DenseNetConfig], asked: Asked
) -> Iterator[None]:
    """Meanwhile compiles ours and torchvision's of each network, at once, in processes of their own.

    torch keeps what comes of it on the disk, which spares who compiles them again, one after the other, the
    better part of a minute for each.  What fails here fails there again, and is told of.
    """
    calls = [partial(call, config, which, asked) for config in networks.values() for which in (0, 1)]
    with ProcessPoolExecutor(len(calls), get_context("spawn")) as pool:
        for one in calls if not asked.quick else ():
            pool.submit(one)
        yield


def compile_subject(config: DenseNetConfig, which: int, asked: Asked) -> None:
    with deterministic(asked.device):
        x = draw(measured_shape(config), seed=0).to(asked.device)
        compiled_by(asked.compiler).run(pair(config, asked.device)[which], x)


# Times.


def times(asked: Asked, emit: Emit) -> None:
    for calls in (forward_passes(asked), training_steps(asked), end_to_end(asked)):
        each(calls, emit)
    with compiling(compile_timed, asked.timed, asked):
        pass  # nothing is timed beside it
    batch = asked.batches[-1]
    each(
        {
            f"compiled, {name}, batch {batch}, bfloat16": partial(compiled_forward, config, batch, asked)
            for name, config in asked.timed.items()
        },
        emit,
    )


def forward_passes(asked: Asked) -> Calls:
    return {
        f"forward, {name}, batch {batch}, {precision}": partial(forward, config, batch, precision, asked)
        for name, config in asked.timed.items()
        for batch in asked.batches
        for precision in PRECISIONS
    }


def training_steps(asked: Asked) -> Calls:
    (name, config), batch = next(iter(asked.timed.items())), asked.batches[-1]
    efficient = replace(config, memory_efficient=True)
    case = f"training step, {name}, batch {batch}, float32"
    return {
        case: partial(train, config, batch, asked),
        f"{case}, memory_efficient": partial(train, efficient, batch, asked),
    }


def end_to_end(asked: Asked) -> Calls:
    name, config = next(iter(asked.timed.items()))
    return {f"conversion and verification, {name}": partial(convert_and_verify_timed, config, asked)}


PRECISIONS: dict[str, tuple[torch.dtype, Callable[[], AbstractContextManager[None]]]] = {
    "float32": (torch.float32, full_precision),
    "TF32": (torch.float32, tf32),
    "bfloat16": (torch.bfloat16, nullcontext),
}


def forward(config: DenseNetConfig, batch: int, precision: str, asked: Asked) -> Result:
    dtype, entered = PRECISIONS[precision]
    x = draw((batch, 3, asked.side, asked.side), seed=0).to(asked.device, dtype)
    ours, theirs = (network.to(dtype) for network in pair(config, asked.device))
    with entered():
        return beside(partial(logits_of, ours, x), partial(logits_of, theirs, x), asked)


def compiled_forward(config: DenseNetConfig, batch: int, asked: Asked) -> Result:
    x = draw((batch, 3, asked.side, asked.side), seed=0).to(asked.device, torch.bfloat16)
    torch.compiler.reset()
    ours, theirs = (
        torch.compile(network.to(torch.bfloat16), backend=asked.compiler)
        for network in pair(config, asked.device)
    )
    return beside(partial(logits_of, ours, x), partial(logits_of, theirs, x), asked)


def compile_timed(config: DenseNetConfig, which: int, asked: Asked) -> None:
    x = draw((asked.batches[-1], 3, asked.side, asked.side), seed=0).to(asked.device, torch.bfloat16)
    logits_of(torch.compile(pair(config, asked.device)[which].to(torch.bfloat16), backend=asked.compiler), x)


def train(config: DenseNetConfig, batch: int, asked: Asked) -> Result:
    x = draw((batch, 3, asked.side, asked.side), seed=0).to(asked.device)
    with full_precision():
        ours, theirs = (training_step(network.train(), x) for network in pair(config, asked.device))
        peaks = {"ours_peak_mib": peak_mib(ours, asked), "torchvision_peak_mib": peak_mib(theirs, asked)}
        return {**beside(ours, theirs, asked), **peaks}


def peak_mib(first_step: Callable[[], object], asked: Asked) -> float | None:
    """What the first step takes at most above what there was, by torch's allocator; None on the CPU."""
    if asked.device.type == "cpu":
        first_step()
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    first_step()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def convert_and_verify_timed(config: DenseNetConfig, asked: Asked) -> Result:
    """In a process that has imported everything: from a file to a folder, and that folder's proof again."""
    with TemporaryDirectory() as scratch:
        source, folder = Path(scratch, "source.pth"), Path(scratch, "converted")
        source.write_bytes(random_checkpoint(config, 0))
        on = asked.device.type
        return medians(
            {
                "conversion": lambda: convert(source, folder, device=on, force=True),
                "verification": lambda: verify(folder, device=on),
            },
            asked,
        )


def beside(ours: Callable[[], object], theirs: Callable[[], object], asked: Asked) -> Result:
    found = medians({"ours": ours, "torchvision": theirs}, asked)
    return {**found, "ratio": found["ours_ms"] / found["torchvision_ms"]}


def medians(runs: Mapping[str, Callable[[], object]], asked: Asked) -> Result:
    """Median milliseconds of each run, in alternation, after a warm-up of each."""
    warm_up, samples = (0, 1) if asked.quick else (WARM_UP, SAMPLES)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(warm_up + samples):
        for name, run in runs.items():
            one = milliseconds(run, asked.device)
            if i >= warm_up:
                taken[name].append(one)
    found: Result = {f"{name}_ms": statistics.median(all_of_it) for name, all_of_it in taken.items()}
    return {**found, **{f"{name}_from_to": [min(t), max(t)] for name, t in taken.items()}, "samples": samples}


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """By CUDA's events; on the CPU by the clock."""
    if device.type == "cpu":
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1000
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begun.record()
    run()
    ended.record()
    ended.synchronize()
    return float(begun.elapsed_time(ended))


# The self-test.


def self_test(asked: Asked, emit: Emit) -> None:
    """First some of the faults: all of them may take longer than there is time."""
    every = 40 * FEW if asked.quick else FEW
    calls = {f"one fault of {every}": partial(proven, asked, every)}
    if not asked.quick:
        calls["every fault"] = partial(proven, asked, 1)
    each(calls, emit)


def proven(asked: Asked, every: int) -> Result:
    found = run_self_test(
        device=asked.device.type,
        clean_runs=CLEAN_RUNS,
        progress=lambda items, _: list(items)[::every],
    )
    shown = {
        "injected": sum(row.injected for row in found.rows),
        "located": sum(row.located for row in found.rows),
        "clean runs": -(-found.clean_runs // every),
        "false alarms": len(found.false_alarms),
    }
    require(found.device == device_name(asked.device), f"it ran on {found.device}")
    require(found.holds, f"{shown}; escaped: {found.escaped[:3]}; false alarms: {found.false_alarms[:3]}")
    require(0 < shown["injected"] == shown["located"], f"{shown}")
    return shown


# Networks.


@cache
def state_of(config: DenseNetConfig) -> dict[str, Tensor]:
    return random_network(config, 0).state_dict()


def pair(config: DenseNetConfig, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """Ours and torchvision's network of the same random weights, in eval mode."""
    kept = ("growth_rate", "block_config", "num_init_features", "bn_size", "num_classes", "memory_efficient")
    theirs = torchvision.models.DenseNet(**{name: getattr(config, name) for name in kept})
    state = state_of(replace(config, memory_efficient=False))
    for network in (ours := DenseNet(config), theirs):
        network.load_state_dict(state)
    return ours.to(device).eval(), theirs.to(device).eval()


# The other runtimes beside torch.


def runtimes(asked: Asked, emit: Emit) -> None:
    """Compares what is installed: time, error and memory of each, beside torch's eager mode."""
    device = asked.device.type
    kinds = inference.ON_ANY[:2] if asked.quick else inference.kinds_on(device)
    batches = (1,) if asked.quick else inference.BATCHES
    for name, config in asked.timed.items():
        for row in inference.compare(name, config, device, 1, batches, kinds):
            emit({"case": f"{name}, {row['runtime']}, images: {row['batch']}", **row})


STEPS: dict[str, Callable[[Asked, Emit], None]] = {
    "tests": tests,
    "conversion": conversion,
    "golden": golden,
    "bounds": bounds,
    "times": times,
    "runtimes": runtimes,
    "self-test": self_test,
}
