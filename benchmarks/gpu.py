"""All that a GPU has to show, in one command of eight minutes at most: `make gpu`.

Usage: python benchmarks/gpu.py [--device cuda|cpu] [--quick] [--output FILE.json] [--commit COMMIT]

Needs no network and no .venv: the package, what it imports, and pytest.  Each step is a process of its own
that is ended at its limit.  The JSON is written with every result, so that a run that is cut short has shown
what it came to; a step that was ended is "cut short" in it, and one that was not reached "skipped".
--quick takes a tiny network, each thing once and no limits, in this process: the tests run that on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_steps import Asked, Emit, Result

ROOT = Path(__file__).parents[1]
# Seconds.  The last step gets what the others leave of the sum.
LIMITS = {
    "tests": 60,
    "conversion": 90,
    "golden": 30,
    "bounds": 60,
    "times": 110,
    "runtimes": 70,
    "self-test": 60,
}
LAST = list(LIMITS)[-1]
PASSED, FAILED, CUT, SKIPPED = "passed", "failed", "cut short", "skipped"
END: dict[str, Any] = {"end": True}


def main(arguments: list[str] | None = None) -> int:
    start = time.monotonic()
    given = parse(arguments)
    if not given.step:
        limits = ", ".join(f"{name} {limit}" for name, limit in LIMITS.items())
        print(f"at most {sum(LIMITS.values())} seconds: {limits} or what the others leave", flush=True)
    if find_spec("densenet_convert") is None:
        how = "python -m pip install --no-deps --no-build-isolation -e ."
        print(f"error: densenet_convert is not installed: {how}", file=sys.stderr)
        return 2
    import torch
    from gpu_steps import Asked

    asked = Asked(torch.device(given.device), given.quick)
    if given.step:
        return tell(given.step, asked)
    if given.device == "cuda" and not torch.cuda.is_available():
        print(f"error: torch {torch.__version__} finds no CUDA device here", file=sys.stderr)
        return 2
    record = {**circumstances(asked, given.commit), "steps": []}
    return run_all(asked, record, given.output, start)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", help="what is here, where git doesn't know")
    parser.add_argument("--step", choices=list(LIMITS), help="this one alone, told line by line as JSON")
    return parser.parse_args(arguments)


def run_all(asked: Asked, record: dict[str, Any], output: Path | None, start: float) -> int:
    """Every step in turn, and the exit code: 1 if one did not pass; the last may be cut short."""
    steps = record["steps"] = [
        {"name": name, "limit": limit, "seconds": 0.0, "status": SKIPPED, "results": []}
        for name, limit in LIMITS.items()
    ]
    for step in steps:
        if step["name"] == LAST:
            step["limit"] = round(start + sum(LIMITS.values()) - time.monotonic(), 1)
        if step["limit"] > 0:
            run_step(asked, step, lambda: write(record, output))
    return int(any(s["status"] != PASSED for s in steps[:-1]) or steps[-1]["status"] == FAILED)


def run_step(asked: Asked, step: dict[str, Any], save: Callable[[], None]) -> None:
    print(f"{step['name']}, at most {step['limit']} s", flush=True)
    start = time.monotonic()

    def emit(result: Result) -> None:
        step["results"].append(result)
        step["seconds"] = round(time.monotonic() - start, 1)
        print(f"  {line(result)}", flush=True)
        save()

    step["status"] = CUT  # until it has ended
    save()
    ended = (run_here if asked.quick else run_apart)(step["name"], asked, step["limit"], emit)
    step["seconds"] = round(time.monotonic() - start, 1)
    failed = any("problem" in result for result in step["results"])
    step["status"] = FAILED if failed else PASSED if ended else CUT
    print(f"{step['name']}: {step['status']}, {step['seconds']} s", flush=True)
    save()


def line(result: Result) -> str:
    """The result in words; the JSON has more digits, and what samples were from and to."""
    shown = {key: value for key, value in result.items() if not isinstance(value, list)}
    case = shown.pop("case")
    return f"{case}: " + ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()
    )


def run_here(name: str, asked: Asked, _limit: float, emit: Emit) -> bool:
    """In this process, without a limit."""
    import gpu_steps

    try:
        gpu_steps.STEPS[name](asked, emit)
    except Exception as error:
        emit({"case": "the step", "problem": gpu_steps.described(error)})
    return True


def run_apart(name: str, asked: Asked, limit: float, emit: Emit) -> bool:
    command = [sys.executable, __file__, "--step", name, "--device", asked.device.type]
    return hear(command, limit, emit)


def hear(command: list[str], limit: float, emit: Emit) -> bool:
    """Passes on what a process tells, and ends it with all it started; False if it ran into its limit."""
    deadline = time.monotonic() + limit
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    lines: Queue[str] = Queue()
    # What the process started may hold the pipe open, so that waiting for its end could last for ever.
    Thread(target=lambda: [*map(lines.put, process.stdout or ()), lines.put("")], daemon=True).start()
    try:
        while line := lines.get(timeout=max(0, deadline - time.monotonic())):
            result = json.loads(line)
            if result == END:
                return True
            emit(result)
        code = process.wait(timeout=max(0, deadline - time.monotonic()))
        emit({"case": "the process", "problem": f"it ended with {code} before its end"})
        return True
    except (Empty, subprocess.TimeoutExpired):
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tell(name: str, asked: Asked) -> int:
    """A step in a process of its own; whatever else prints goes to stderr."""
    from densenet_convert.proof.determinism import CUBLAS_WORKSPACE

    # cuBLAS reads it as it starts, which may be before a conversion does.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    shown = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def emit(result: Result) -> None:
        print(json.dumps(result), file=shown, flush=True)

    run_here(name, asked, 0, emit)
    emit(END)
    return 0


def write(record: dict[str, Any], output: Path | None) -> None:
    """Whole at any moment."""
    if output:
        part = output.with_suffix(".part")
        part.write_text(json.dumps(record, indent=2) + "\n")
        part.replace(output)


def circumstances(asked: Asked, commit: str | None) -> dict[str, Any]:
    """Device, driver, versions, commit and date; nothing of whose machine it is."""
    import torch

    from densenet_convert.proof.determinism import device_name

    cuda = asked.device.type == "cuda"
    return {
        "command": f"python benchmarks/gpu.py --device {asked.device.type}{' --quick' * asked.quick}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "device": device_name(asked.device),
        "driver": output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "safetensors")},
            "cuda": torch.version.cuda if cuda else None,
            "cudnn": torch.backends.cudnn.version() if cuda else None,
        },
        "commit": commit or commit_here(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def commit_here() -> str | None:
    """With "-dirty" where anything but what was recorded differs from it; None without git."""
    commit = output_of("git", "rev-parse", "HEAD")
    compared = (".", ":!benchmarks/results", ":!docs")
    if commit and output_of("git", "diff", "--quiet", "HEAD", "--", *compared) is None:
        commit += "-dirty"
    return commit


def output_of(*command: str) -> str | None:
    """Its first line; None where it is not there or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0]


if __name__ == "__main__":
    # So that what it started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
