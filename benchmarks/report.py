"""What `--report` adds to a conversion, as whole processes in alternation.

Usage: python benchmarks/report.py [--runs N] [--device cpu|cuda] [--output FILE.json]

DenseNet-121 from one checkpoint file, converted without a report and with one.  Processor time is what the
process had of all cores, user and system: where others share the machine it says more than the clock.
"""

from __future__ import annotations

import os
import statistics
from tempfile import TemporaryDirectory

from measuring import TOOL, arguments, make_checkpoints, measure, report

WITHOUT, WITH = "conversion", "conversion with --report"


def main() -> None:
    asked = arguments(__doc__, runs=5)
    samples: dict[str, list[tuple[float, float]]] = {WITHOUT: [], WITH: []}
    with TemporaryDirectory() as folder:
        (checkpoint,) = make_checkpoints(folder, 1, "densenet121")
        convert = [TOOL, "file", checkpoint, "--output", f"{folder}/converted", "--force", "-q"]
        convert += ["--device", asked.device]
        for run in range(asked.runs + 1):
            for name, more in ((WITHOUT, []), (WITH, ["--report", f"{folder}/page.html"])):
                before = processor()
                wall, _ = measure([*convert, *more], folder)
                if run:  # the first round warms the file cache
                    samples[name].append((wall, processor() - before))
    wall, used = (
        {name: statistics.median(row[i] for row in rows) for name, rows in samples.items()} for i in (0, 1)
    )
    result: dict[str, object] = {
        "seconds": wall,
        "processor_seconds": used,
        "report_adds_seconds": wall[WITH] - wall[WITHOUT],
        "report_adds_processor_seconds": used[WITH] - used[WITHOUT],
        "ratios": {"wall": wall[WITH] / wall[WITHOUT], "processor": used[WITH] / used[WITHOUT]},
    }
    report(result, asked)


def processor() -> float:
    """Seconds of processor time of all processes that were waited for."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
