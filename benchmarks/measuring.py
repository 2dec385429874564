"""What every benchmark shares: the machine, one process measured from outside, and where results go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
TOOL = shutil.which("densenet-convert", path=str(Path(sys.executable).parent)) or "densenet-convert"

MAKE_CHECKPOINTS = """
import pathlib, sys
from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.source.random_weights import random_checkpoint
for seed in range(int(sys.argv[2])):
    data = random_checkpoint(ARCHITECTURES[sys.argv[3]], seed)
    pathlib.Path(sys.argv[1], f"{seed}.pth").write_bytes(data)
"""


def arguments(description: str | None, *, runs: int, device: bool = True) -> argparse.Namespace:
    """The options that benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--output", type=Path)
    if device:
        parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser.parse_args()


def make_checkpoints(folder: str, count: int, architecture: str = "densenet169") -> list[str]:
    """Files of a DenseNet with random weights, in torchvision's names of 2017.

    In a process of its own: a child's peak counts from what its parent had when it forked.
    """
    subprocess.run([sys.executable, "-c", MAKE_CHECKPOINTS, folder, str(count), architecture], check=True)
    return [f"{folder}/{seed}.pth" for seed in range(count)]


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


def report(result: dict[str, object], arguments: argparse.Namespace) -> None:
    """Prints the result with the machine, the versions and the command, and writes it where asked."""
    text = json.dumps({**machine(arguments), **result}, indent=2) + "\n"
    print(text, end="")
    if arguments.output:
        arguments.output.write_text(text)


def machine(arguments: argparse.Namespace) -> dict[str, object]:
    device = getattr(arguments, "device", "cpu")
    return {
        "command": f"python benchmarks/{Path(sys.argv[0]).name} --runs {arguments.runs} --device {device}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "device": _device_name(device),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "safetensors")},
        },
        "runs": arguments.runs,
    }


def _device_name(device: str) -> str:
    if device == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(device)
