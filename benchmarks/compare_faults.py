"""How often `compare` names the exact cause of a fault, and how often `--repair` gives A again.

Usage: python benchmarks/compare_faults.py [--arch small|121|161|169|201] [--sites N] [--pairs N]
           [--repairs N] [--seed N] [--output FILE.json]

The faults are those of the self-test's catalogue that leave a network to compare: of placement, axes, values
and dtypes, and drawn pairs of all tensors of one shape.  Each is injected into a conversion of random
weights, written to a file and compared with the sound file.  What loses nothing is repaired, too, with its
proof, and the folder is compared with the sound file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from safetensors.torch import save_file
from torch import Tensor

import densenet_convert as dc
from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.layouts.explain import explain
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.proof.load import load_model
from densenet_convert.proof.selftest.clean import random_source
from densenet_convert.proof.selftest.faults import (
    TABLE,
    Draw,
    Fault,
    exchange,
    exchanges,
    pairs_of_one_shape,
    transforms,
    values,
)
from densenet_convert.proof.selftest.run import SMALL
from densenet_convert.records import Loaded

PAIRS = "drawn pairs of one shape"
# What each kind of fault must be called. A flipped last bit moves a number by one unit in the last place.
CAUSES = {
    "two fields of a batch norm exchanged": ("exchanged",),
    "two tensors of a dense layer exchanged": ("exchanged",),
    "two tensors of one shape exchanged": ("exchanged",),
    "two batch norms exchanged": ("exchanged",),
    PAIRS: ("exchanged",),
    "axes permuted": ("axes",),
    "RGB and BGR exchanged": ("channels",),
    "classifier rows permuted": ("rows",),
    "an element moved by 1 ulp": ("last-place",),
    "a bit flipped": ("bit-flip", "last-place"),
    "a tensor left at its initial value": ("initial",),
    "a round trip through float16": ("rounded",),
    "a round trip through bfloat16": ("rounded",),
    "all through float16 and back": ("rounded",),
    "all through bfloat16 and back": ("rounded",),
    "wrong num_batches_tracked": ("counters",),
}
LOSSLESS = ("exchanged", "axes", "channels")


class Judged(NamedTuple):
    """The result for one fault: the causes that were named, and whether they are exact."""

    kind: str
    exact: bool
    said: str


def catalogue(loaded: Loaded, sites: int, pairs: int, seed: int) -> Iterator[Fault]:
    """Yields the faults that change something and leave a network."""
    draw = Draw(Random(seed), sites)
    found = [*exchanges(loaded, draw), *transforms(loaded, draw), *values(loaded, draw)]
    every = list(pairs_of_one_shape(loaded.renamed))
    drawn = Random(seed).sample(every, min(pairs, len(every)))
    found += [exchange(PAIRS, {a: b, b: a}, loaded) for a, b in drawn]
    yield from (fault for fault in found if not fault.nothing)


def with_fault(loaded: Loaded, fault: Fault) -> Mapping[str, Tensor]:
    """Returns the canonical tensors of a conversion into which a fault was injected."""
    renamed = loaded.renamed
    if fault.place != TABLE:
        return {**renamed.tensors, **fault.inject(renamed.tensors)}
    reading = explain(
        renamed.reading.__class__(fault.inject(renamed.reading)),
        renamed.checkpoint.tensors,
        expect_drops=False,
    )
    return rename_tensors(renamed.checkpoint, reading).tensors


def written(tensors: Mapping[str, Tensor], path: Path) -> Path:
    """Writes tensors, each with memory of its own."""
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return path


def judge(fault: Fault, a: Path, b: Path) -> Judged:
    """Compares both files, and holds the causes against the fault that was injected."""
    found = dc.compare(a, b)
    causes = {one.cause for one in found.differences}
    names = {name for one in found.differences for name in one.names}
    exact = len(causes) == 1 and causes <= set(CAUSES[fault.name]) and names <= fault.where
    said = "; ".join(f"{one.cause}: {one.text}" for one in found.differences)
    return Judged(fault.name, exact and not found.same, said)


def repaired(a: Path, b: Path, folder: Path) -> bool:
    """Whether the repair, which is proven before it is written, gives what A is."""
    try:
        done = dc.compare(a, b, repair=folder, force=True, device="cpu").repaired
    except dc.ConvertError:
        return False
    assert done is not None
    steps = {step["step"] for step in done.receipt["rewrites"]}
    return bool(steps) and dc.compare(a, folder).same


def sound(arch: str, seed: int, scratch: Path) -> Loaded:
    """Returns a conversion of random weights."""
    config = SMALL if arch == "small" else ARCHITECTURES[f"densenet{arch}"]
    checkpoint, network = random_source(config, seed, scratch)
    return load_model(rename_tensors(checkpoint, network.reading), network.config)


def run(arch: str, sites: int, pairs: int, repairs: int, seed: int) -> dict[str, object]:
    """Injects, compares and repairs; returns the counts."""
    rows: dict[str, list[int]] = {}
    missed: list[str] = []
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        loaded = sound(arch, seed, scratch)
        a = written(loaded.renamed.tensors, scratch / "a.safetensors")
        lossless = []
        for fault in catalogue(loaded, sites, pairs, seed):
            b = written(with_fault(loaded, fault), scratch / "b.safetensors")
            judged = judge(fault, a, b)
            row = rows.setdefault(fault.name, [0, 0])
            row[0] += 1
            row[1] += judged.exact
            missed += [] if judged.exact else [f"{fault.name}, {sorted(fault.where)[:2]}: {judged.said}"]
            lossless += [fault] if CAUSES[fault.name][0] in LOSSLESS else []
        tried = mended = 0
        for fault in islice(Random(seed).sample(lossless, len(lossless)), repairs):
            b = written(with_fault(loaded, fault), scratch / "b.safetensors")
            tried += 1
            ok = repaired(a, b, scratch / "mended")
            mended += ok
            missed += [] if ok else [f"not repaired: {fault.name}, {sorted(fault.where)[:2]}"]
    total, exact = (sum(row[i] for row in rows.values()) for i in range(2))
    return {
        "network": arch,
        "faults": total,
        "exact": exact,
        "share": exact / total,
        "kinds": {kind: {"injected": n, "exact": k} for kind, (n, k) in rows.items()},
        "repairs": {"tried": tried, "equal": mended},
        "missed": missed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="small")
    parser.add_argument("--sites", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--repairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    begun = time.perf_counter()
    result = run(asked.arch, asked.sites, asked.pairs, asked.repairs, asked.seed)
    result["seconds"] = round(time.perf_counter() - begun, 1)
    text = json.dumps(result, indent=2)
    print(text)
    if asked.output is not None:
        asked.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
