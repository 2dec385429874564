"""Peak memory and time of a training step, with and without memory_efficient, against torchvision.

Usage: python benchmarks/training_memory.py [--runs N] [--device cpu|cuda] [--output FILE.json]

DenseNet-121.  Each sample is a process of its own, in alternation: two steps of SGD on one batch, the
second of which is timed.  Memory is what the steps took at most above what the process had before: on a
GPU by torch's allocator, on the CPU by the process' resident memory.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from measuring import arguments, report

if TYPE_CHECKING:
    from torch import Tensor, nn

OURS, THEIRS = "densenet_convert", "torchvision"
BATCH = {"cpu": 8, "cuda": 64}
MIB = 1 << 20


def sample(library: str, memory_efficient: str, device: str) -> dict[str, float]:
    """Seconds and MiB of one training step, in this process."""
    import torch

    if library == OURS:
        from densenet_convert.densenet import densenet121
    else:
        from torchvision.models import densenet121
    torch.manual_seed(0)
    network = densenet121(memory_efficient=memory_efficient == "True").to(device).train()
    step = training_step(network, torch.rand(BATCH[device], 3, 224, 224, device=device))
    before = _peak(device)
    step()
    start = time.perf_counter()
    loss = step()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mib": _peak(device) - before, "loss": loss}


def training_step(network: nn.Module, x: Tensor) -> Callable[[], float]:
    """A step of SGD on one batch, each image of another class, which returns its loss."""
    import torch
    from torch.nn.functional import cross_entropy

    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    labels = torch.arange(len(x), device=x.device)

    def step() -> float:
        optimizer.zero_grad()
        loss = cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _peak(device: str) -> float:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    import torch

    return torch.cuda.max_memory_allocated() / MIB


def main() -> None:
    if len(sys.argv) == 5 and sys.argv[1] == "--one":
        print(json.dumps(sample(*sys.argv[2:])))
        return
    asked = arguments(__doc__, runs=5)
    cases = [(library, efficient) for efficient in (False, True) for library in (OURS, THEIRS)]
    samples: dict[tuple[str, bool], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(asked.runs):
        for (library, efficient), rows in samples.items():
            command = [sys.executable, __file__, "--one", library, str(efficient), asked.device]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    medians = {
        case: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for case, rows in samples.items()
    }
    result: dict[str, object] = {
        "batch": BATCH[asked.device],
        "medians": [
            {"library": library, "memory_efficient": efficient, **medians[library, efficient]}
            for library, efficient in cases
        ],
        "ratios": {
            f"{key}{', memory_efficient' * efficient}": medians[OURS, efficient][key]
            / medians[THEIRS, efficient][key]
            for efficient in (False, True)
            for key in ("peak_mib", "seconds")
        },
    }
    report(result, asked)


if __name__ == "__main__":
    main()
