"""What one more checkpoint costs in a run over many, against the obvious script for one.

Usage: python benchmarks/many.py [--runs N] [--output FILE.json]

DenseNet-169, on the CPU.  Every round runs the obvious script once, and `densenet-convert file` over
two and over six checkpoints, in turn; a further checkpoint costs a quarter of the difference.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from convert import HERE, machine, measure

MAKE_CHECKPOINTS = """
import pathlib, sys
from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.random_weights import random_checkpoint
for seed in range(6):
    data = random_checkpoint(ARCHITECTURES["densenet169"], seed)
    pathlib.Path(sys.argv[1], f"{seed}.pth").write_bytes(data)
"""
FEW, MANY = 2, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    python = sys.executable
    tool = shutil.which("densenet-convert", path=str(Path(python).parent)) or "densenet-convert"
    walls: dict[str, list[float]] = {"obvious": [], "few": [], "many": []}
    with TemporaryDirectory() as folder:
        measure([python, "-c", MAKE_CHECKPOINTS, folder], folder)
        files = [f"{folder}/{seed}.pth" for seed in range(MANY)]
        obvious = [python, str(HERE / "obvious.py"), files[0], f"{folder}/obvious.safetensors"]
        convert = [tool, "file", "--output", f"{folder}/out", "--force", "--device", "cpu", "-q"]
        for _ in range(arguments.runs):
            walls["obvious"].append(measure(obvious, folder)[0])
            walls["few"].append(measure([*convert, *files[:FEW]], folder)[0])
            walls["many"].append(measure([*convert, *files], folder)[0])
    medians = {name: statistics.median(times) for name, times in walls.items()}
    further = (medians["many"] - medians["few"]) / (MANY - FEW)
    result = {
        **machine(),
        "runs": arguments.runs,
        "wall_seconds": medians,
        "further_checkpoint_seconds": further,
        "ratio_to_obvious_script": further / medians["obvious"],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
