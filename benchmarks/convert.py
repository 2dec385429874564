"""The command, with every proof, against the obvious script, as whole processes in alternation.

Usage: python benchmarks/convert.py [--runs N] [--output FILE.json]

DenseNet-169 from one checkpoint file, on the CPU.  Every round runs each command once,
in turn, so that a machine that slows down slows all of them; ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
MAKE_CHECKPOINT = """
import pathlib, sys
from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.random_weights import random_checkpoint
pathlib.Path(sys.argv[1]).write_bytes(random_checkpoint(ARCHITECTURES["densenet169"], 0))
"""


def measure(command: list[str], cwd: str) -> tuple[float, float]:
    """Wall time in seconds and peak resident memory in MiB of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return wall, usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def commands(checkpoint: Path, folder: str) -> dict[str, list[str]]:
    python = sys.executable
    tool = shutil.which("densenet-convert", path=str(Path(python).parent)) or "densenet-convert"
    convert = [tool, "torchvision", "--arch", "169", "--checkpoint", str(checkpoint)]
    return {
        "densenet-convert": [*convert, "--device", "cpu", "--output", f"{folder}/converted", "--force", "-q"],
        "obvious script": [
            python,
            str(HERE / "obvious.py"),
            str(checkpoint),
            f"{folder}/obvious.safetensors",
        ],
        "imports alone": [python, "-c", "import torch, torchvision, safetensors.torch"],
        "inspect": [tool, "inspect", str(checkpoint)],
        "torch.load": [python, "-c", f"import torch; torch.load({str(checkpoint)!r})"],
        "--help": [tool, "--help"],
        "import click": [python, "-c", "import click"],
    }


def machine() -> dict[str, object]:
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "safetensors")},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder, "densenet169.pth")
        # In a process of its own: a child's peak counts from what its parent had when it forked.
        subprocess.run([sys.executable, "-c", MAKE_CHECKPOINT, str(checkpoint)], check=True)
        todo = commands(checkpoint, folder)
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in todo}
        for run in range(arguments.runs + 1):
            for name, command in todo.items():
                sample = measure(command, folder)
                if run:  # the first round warms the file cache
                    samples[name].append(sample)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in samples.items()
    }
    wall = {name: row[0] for name, row in medians.items()}
    ours, theirs, imports = (wall[n] for n in ("densenet-convert", "obvious script", "imports alone"))
    report = {
        **machine(),
        "runs": arguments.runs,
        "seconds_and_mib": medians,
        "ratios": {
            "wall": ours / theirs,
            "wall without imports": (ours - imports) / (theirs - imports),
            "peak memory": medians["densenet-convert"][1] / medians["obvious script"][1],
            "inspect to torch.load": wall["inspect"] / wall["torch.load"],
            "--help to import click": wall["--help"] / wall["import click"],
        },
    }
    for name, (seconds, mib) in medians.items():
        low, high = min(s for s, _ in samples[name]), max(s for s, _ in samples[name])
        print(f"{name:<18}{seconds:7.3f} s ({low:.3f} to {high:.3f}) {mib:8.0f} MiB")
    for name, ratio in report["ratios"].items():
        print(f"{name:<24}{ratio:6.2f}")
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
