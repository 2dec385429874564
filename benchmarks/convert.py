"""The command, with every proof, against the obvious script, as whole processes in alternation.

Usage: python benchmarks/convert.py [--runs N] [--device cpu|cuda] [--output FILE.json]

DenseNet-169 from one checkpoint file.  Every round runs each command once, in turn, so that a
machine that slows down slows all of them; ratios are of medians.
"""

from __future__ import annotations

import statistics
import sys
from tempfile import TemporaryDirectory

from measuring import HERE, TOOL, arguments, make_checkpoints, measure, report


def commands(checkpoint: str, folder: str, device: str) -> dict[str, list[str]]:
    python = sys.executable
    convert = [TOOL, "torchvision", "--arch", "169", "--checkpoint", checkpoint]
    obvious = [python, str(HERE / "obvious.py"), checkpoint, f"{folder}/obvious.safetensors", device]
    return {
        "densenet-convert": [
            *convert,
            "--device",
            device,
            "--output",
            f"{folder}/converted",
            "--force",
            "-q",
        ],
        "obvious script": obvious,
        "imports alone": [python, "-c", "import torch, torchvision, safetensors.torch"],
        "inspect": [TOOL, "inspect", checkpoint],
        "torch.load": [python, "-c", f"import torch; torch.load({checkpoint!r})"],
        "--help": [TOOL, "--help"],
        "import click": [python, "-c", "import click"],
    }


def main() -> None:
    asked = arguments(__doc__, runs=15)
    with TemporaryDirectory() as folder:
        (checkpoint,) = make_checkpoints(folder, 1)
        todo = commands(checkpoint, folder, asked.device)
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in todo}
        for run in range(asked.runs + 1):
            for name, command in todo.items():
                sample = measure(command, folder)
                if run:  # the first round warms the file cache
                    samples[name].append(sample)
    walls = {name: [wall for wall, _ in rows] for name, rows in samples.items()}
    wall = {name: statistics.median(times) for name, times in walls.items()}
    memory = {name: statistics.median(mib for _, mib in rows) for name, rows in samples.items()}
    ours, theirs, imports = (wall[n] for n in ("densenet-convert", "obvious script", "imports alone"))
    result: dict[str, object] = {
        "seconds": wall,
        "seconds_from_to": {name: [min(times), max(times)] for name, times in walls.items()},
        "peak_mib": memory,
        "ratios": {
            "wall": ours / theirs,
            "wall without imports": (ours - imports) / (theirs - imports),
            "peak memory": memory["densenet-convert"] / memory["obvious script"],
            "inspect to torch.load": wall["inspect"] / wall["torch.load"],
            "--help to import click": wall["--help"] / wall["import click"],
        },
    }
    report(result, asked)


if __name__ == "__main__":
    main()
