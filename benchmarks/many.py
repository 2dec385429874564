"""What one more checkpoint costs in a run over many, against the obvious script for one.

Usage: python benchmarks/many.py [--runs N] [--device cpu|cuda] [--output FILE.json]

DenseNet-169.  Every round runs the obvious script once, and `densenet-convert file` over two and
over six checkpoints, in turn; a further checkpoint costs a quarter of the difference.
"""

from __future__ import annotations

import statistics
import sys
from tempfile import TemporaryDirectory

from measuring import HERE, TOOL, arguments, make_checkpoints, measure, report

FEW, MANY = 2, 6


def main() -> None:
    asked = arguments(__doc__, runs=5)
    walls: dict[str, list[float]] = {"obvious": [], "few": [], "many": []}
    with TemporaryDirectory() as folder:
        files = make_checkpoints(folder, MANY)
        script = [sys.executable, str(HERE / "obvious.py")]
        obvious = [*script, files[0], f"{folder}/obvious.safetensors", asked.device]
        convert = [TOOL, "file", "--output", f"{folder}/out", "--force", "--device", asked.device, "-q"]
        for _ in range(asked.runs):
            walls["obvious"].append(measure(obvious, folder)[0])
            walls["few"].append(measure([*convert, *files[:FEW]], folder)[0])
            walls["many"].append(measure([*convert, *files], folder)[0])
    medians = {name: statistics.median(times) for name, times in walls.items()}
    further = (medians["many"] - medians["few"]) / (MANY - FEW)
    result: dict[str, object] = {
        "seconds": medians,
        "further_checkpoint_seconds": further,
        "ratios": {"further checkpoint to obvious script": further / medians["obvious"]},
    }
    report(result, asked)


if __name__ == "__main__":
    main()
