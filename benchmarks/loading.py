"""From weights on this disk to a network: DenseNet.from_pretrained against torchvision and timm.

Usage: python benchmarks/loading.py [--runs N] [--device cpu|cuda] [--output FILE.json]

DenseNet-169.  Each sample is a process of its own, in alternation, and times nothing but the call:
imports are done, the files are in the system's cache, nothing is downloaded.  "used" goes on to move the
network to the device and to sum every weight, for a mapped file is read only then.  Memory is what the
call and that sum added to the process: "private" is a copy, "mapped" is the file itself, which processes
share and the system may drop.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import TOOL, arguments, make_checkpoints, report

FILE_NAME = "densenet169-b2777c0a.pth"
PEERS = (
    "DenseNet.from_pretrained",
    "torchvision densenet169(weights=...)",
    "timm create_model(pretrained=True)",
)


def loader(peer: str, folder: str) -> Callable[[], object]:
    """The call that is timed; what it imports is imported here."""
    if peer == PEERS[0]:
        import safetensors.torch

        from densenet_convert.densenet import DenseNet

        return lambda: DenseNet.from_pretrained(f"{folder}/converted")
    if peer == PEERS[1]:
        import torch
        import torchvision

        torch.hub.set_dir(folder)
        return lambda: torchvision.models.densenet169(weights="IMAGENET1K_V1", progress=False).eval()
    import safetensors.torch  # noqa: F401
    import timm

    weights = {"file": f"{folder}/converted/model.safetensors"}
    name = "densenet169.tv_in1k"
    return lambda: timm.create_model(name, pretrained=True, pretrained_cfg_overlay=weights).eval()


def sample(peer: str, folder: str, device: str) -> dict[str, float]:
    """Seconds and MiB of one call, in this process."""
    load = loader(peer, folder)
    import torch

    torch.zeros(1, device=device).sum().item()  # the device's own start is nobody's
    private, mapped = _memory()
    start = time.perf_counter()
    network = load()
    loaded = time.perf_counter()
    assert isinstance(network, torch.nn.Module)
    total = sum(float(tensor.sum()) for tensor in network.to(device).state_dict().values())
    used = time.perf_counter()
    more_private, more_mapped = _memory()
    return {
        "loaded": loaded - start,
        "used": used - start,
        "private_mib": more_private - private,
        "mapped_mib": more_mapped - mapped,
        "sum": total,
    }


def _memory() -> tuple[float, float]:
    """Resident memory of this process in MiB: its own, and of files."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows["RssAnon"].split()[0]) / 1024, int(rows["RssFile"].split()[0]) / 1024


def prepare(folder: str) -> None:
    """The weights as each peer has them: converted, and as torchvision's file in torch's hub folder."""
    (checkpoint,) = make_checkpoints(folder, 1)
    convert = [TOOL, "torchvision", "--arch", "169", "--checkpoint", checkpoint, "-q"]
    subprocess.run([*convert, "--output", f"{folder}/converted"], check=True)
    Path(folder, "checkpoints").mkdir()
    shutil.move(checkpoint, Path(folder, "checkpoints", FILE_NAME))


def main() -> None:
    if len(sys.argv) == 5 and sys.argv[1] == "--one":
        print(json.dumps(sample(*sys.argv[2:])))
        return
    asked = arguments(__doc__, runs=9)
    samples: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS}
    with TemporaryDirectory() as folder:
        prepare(folder)
        for run in range(asked.runs + 1):
            for peer, rows in samples.items():
                command = [sys.executable, __file__, "--one", peer, folder, asked.device]
                row = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                if run:  # the first round warms the file cache
                    rows.append(row)
    sums = {row["sum"] for rows in samples.values() for row in rows}
    if len(sums) != 1:
        raise SystemExit(f"The networks are not the same: their weights sum to {sums}.")
    medians = {
        peer: {key: statistics.median(row[key] for row in rows) for key in rows[0] if key != "sum"}
        for peer, rows in samples.items()
    }
    ours = medians[PEERS[0]]
    ratios = {
        f"{key} to {peer.split()[0]}": ours[key] / medians[peer][key]
        for peer in PEERS[1:]
        for key in ("loaded", "used")
    }
    report({"medians": medians, "ratios": ratios}, asked)


if __name__ == "__main__":
    main()
