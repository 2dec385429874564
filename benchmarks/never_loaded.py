"""Is a network that was never loaded told from one that was trained?

Usage: python benchmarks/never_loaded.py [--runs NETWORKS] [--device cpu|cuda] [--output FILE.json]

Small DenseNets of two sizes on scikit-learn's digits at 32 pixels.  Sources are trained for 20 epochs, and
then loaded with ``strict=False`` into networks whose names differ, as happens to people:

- every name bears a prefix: nothing is loaded;
- the names within dense layers are dotted, in a file with and without counts of batches: the dense layers
  are left out;
- the features bear a prefix: the head alone is loaded;
- the head bears another name: it is left out.

Each is saved at once; where dense layers are left out, or the head alone is loaded, it is trained for 5
epochs more and saved after each.  As many networks are sound: trained from scratch for 5 to 20 epochs,
fine-tuned, and in other dtypes.  All are files, which ``inspect`` and the checkup of a conversion read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from measuring import arguments, report
from torch import Tensor
from torch.nn.functional import cross_entropy
from transition_pooling import SMALL, digits

import densenet_convert as dc
from densenet_convert.densenet import DenseNet, DenseNetConfig
from densenet_convert.layouts.checkup import check_up
from densenet_convert.layouts.network import identify_network
from densenet_convert.layouts.never_loaded import AHEAD, FARTHER, farther_by, head_ahead_by, layers_of
from densenet_convert.layouts.samples import samples_of_memory
from densenet_convert.records import Options
from densenet_convert.source.read import read_checkpoint

SIZES = (
    replace(SMALL, growth_rate=8, block_config=(2, 2, 2), num_init_features=16),
    replace(SMALL, block_config=(3, 2)),
)
# As many layers as DenseNet-121: each has a small part of the gradient.
MANY_LAYERS = replace(SMALL, growth_rate=4, block_config=(6, 12, 24, 16), num_init_features=16)
DTYPES = (torch.float32, torch.float16, torch.float32, torch.bfloat16, torch.float32, torch.float64)
SOURCES, EPOCHS, BATCH = 6, 20, 64
PREFIX, DOTTED, COUNTED, FEATURES, HEAD = KINDS = (
    "a prefix: nothing is loaded",
    "dotted names, no counts in the file: the dense layers are left out",
    "dotted names, counts in the file: the dense layers are left out",
    "a prefix of the features: the head alone is loaded",
    "another head: the head is left out",
)
# Optimizer and rate of a training from scratch, and of a fine-tuning.
SCRATCH = (("SGD", 0.1), ("SGD", 0.02), ("Adam", 1e-3))
TUNING = (("SGD", 0.01), ("Adam", 1e-4), ("SGD", 0.001), ("Adam", 1e-3))
FAST = (("SGD", 0.1),)
SOUND = SCRATCHED, DEEP, TUNED, CAST = (
    "from scratch",
    "from scratch, with 58 dense layers",
    "fine-tuned",
    "in another dtype",
)

State = dict[str, Tensor]


class Job(NamedTuple):
    """A network to make, and what is told of it.

    Attributes:
        kind: one of ``KINDS``, or what a sound network is.
        seed: of everything that is drawn; its size and dtype, too.
        training: optimizer and rate.
        epochs: after which it is saved.
    """

    kind: str
    seed: int
    training: tuple[str, float]
    epochs: tuple[int, ...]


class Verdict(NamedTuple):
    """Whether a saved network is said to have layers that were never loaded.

    Attributes:
        farther, ahead: the factors that ``farther_by`` and ``head_ahead_by`` give.
        converted, inspected: what a conversion says, and ``inspect``.
    """

    kind: str
    training: tuple[str, float]
    epoch: int
    farther: float
    ahead: float
    converted: bool
    inspected: bool


def config_of(seed: int, kind: str) -> DenseNetConfig:
    return MANY_LAYERS if kind == DEEP else SIZES[seed % 2]


def train(network: DenseNet, seed: int, training: tuple[str, float], epochs: int) -> Iterator[State]:
    """Yields the state after each epoch."""
    (x, y), _ = digits(seed, "cpu")
    optimizer = optimizer_of(network, training)
    order = torch.Generator().manual_seed(seed)
    network.train().to(memory_format=torch.channels_last)  # faster
    for _ in range(epochs):
        for picked in torch.randperm(len(x), generator=order).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(network(x[picked]), y[picked]).backward()
            optimizer.step()
        yield copy_of(network)


def optimizer_of(network: DenseNet, training: tuple[str, float]) -> torch.optim.Optimizer:
    name, rate = training
    if name == "Adam":
        return torch.optim.Adam(network.parameters(), rate)
    return torch.optim.SGD(network.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=1e-4)


def copy_of(network: DenseNet) -> State:
    return {name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}


def make_source(seed: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    *_, state = train(DenseNet(config_of(seed, SCRATCHED)), seed, SCRATCH[0], EPOCHS)
    torch.save(state, f"{folder}/source-{seed}.pth")


def renamed(state: State, kind: str) -> State:
    """The names in the file that is loaded."""
    if kind == PREFIX:
        return {f"module.{name}": tensor for name, tensor in state.items()}
    if kind == FEATURES:
        return {name.replace("features.", "backbone.features."): tensor for name, tensor in state.items()}
    if kind == HEAD:
        return {name.replace("classifier.", "fc."): tensor for name, tensor in state.items()}
    kept = {n: t for n, t in state.items() if kind == COUNTED or not n.endswith("num_batches_tracked")}
    for part in ("norm1", "norm2", "conv1", "conv2"):
        kept = {n.replace(f".{part}.", f".{part[:4]}.{part[4]}."): t for n, t in kept.items()}
    return kept


def start_of(job: Job, folder: str) -> DenseNet:
    """The network before it is trained, if it is."""
    torch.manual_seed(1000 + job.seed)
    network = DenseNet(config_of(job.seed, job.kind))
    if job.kind in (SCRATCHED, DEEP):
        return network
    state = torch.load(f"{folder}/source-{job.seed % SOURCES}.pth")
    if job.kind in KINDS:
        state = renamed(state, job.kind)
    elif job.kind == TUNED and job.seed % 4 < 2:  # with a new head
        state = renamed(state, HEAD)
    network.load_state_dict(state, strict=False)
    return network


def judge(job: Job, folder: str) -> list[Verdict]:
    """Makes a network, and judges each state that is saved."""
    torch.set_num_threads(1)
    network = start_of(job, folder)
    states = {0: copy_of(network)}
    states |= dict(enumerate(train(network, job.seed, job.training, max(job.epochs)), 1))
    dtype = DTYPES[job.seed // 2 % len(DTYPES)]
    return [Verdict(job.kind, job.training, epoch, *verdict(states[epoch], dtype)) for epoch in job.epochs]


def verdict(state: State, dtype: torch.dtype) -> tuple[float, float, bool, bool]:
    """By how much some layers are behind, and whether a conversion and ``inspect`` say so."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "digits.pth")
        torch.save({n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}, path)
        checkpoint = read_checkpoint(path)
        network = identify_network(checkpoint, Options())
        found = (check_up(checkpoint, network.reading), dc.inspect(path).remarks)
    converted, inspected = (any(one.kind == "never-loaded" for one in remarks) for remarks in found)
    layers = layers_of(samples_of_memory(state, {}))
    return farther_by(layers), head_ahead_by(layers), converted, inspected


def jobs(runs: int) -> list[Job]:
    """So many that were never loaded, so many sound ones, and some that are trained at a high rate."""
    never = []
    for seed in range(runs):
        kind, number = KINDS[seed % len(KINDS)], seed // len(KINDS)
        last = (1, 2, 1, 3, 5)[number % 5] if kind in (DOTTED, COUNTED, FEATURES) else 0
        never.append(Job(kind, seed, TUNING[number % len(TUNING)], tuple(range(last + 1))))
    for seed in range(runs // 40):
        never += [Job(kind, seed, FAST[0], (1, 2, 3)) for kind in (DOTTED, COUNTED)]
    sound = [Job(DEEP, seed, SCRATCH[seed], (1, 2)) for seed in range(len(SCRATCH))]
    for seed in range(runs // 10):
        sound.append(Job(SCRATCHED, seed, SCRATCH[seed % len(SCRATCH)], (1, 5, 7, 9, 11, 14, 20)))
        # Of the seeds of these no one stands for float32.
        sound.append(Job(CAST, 2 + 4 * seed + seed % 2, TUNING[0], (0,)))
    for seed in range(3 * runs // 40):
        sound.append(Job(TUNED, seed, (*TUNING, *FAST)[seed % 5], (1, 2, 3, 5)))
    return [*never, *sound]


def counted(found: list[Verdict]) -> dict[str, int]:
    """How many there are, and of how many it is said."""
    return {
        "of": len(found),
        "converted": sum(one.converted for one in found),
        "inspected": sum(one.inspected for one in found),
    }


def by_epoch(found: list[Verdict], kind: str) -> dict[str, dict[str, int]]:
    of_kind = [one for one in found if one.kind == kind]
    epochs = sorted({one.epoch for one in of_kind})
    return {str(epoch): counted([one for one in of_kind if one.epoch == epoch]) for epoch in epochs}


def margins(sound: list[Verdict], never: list[Verdict], factor: str, limit: float) -> dict[str, Any]:
    """The largest factor of sound networks, from where it is told, and the least after each epoch."""
    least: dict[str, float] = {}
    for one in never:
        least[str(one.epoch)] = min(getattr(one, factor), least.get(str(one.epoch), float("inf")))
    most = max(getattr(one, factor) for one in sound)
    return {"sound_at_most": most, "said_from": limit, "never_loaded_at_least": dict(sorted(least.items()))}


def judge_all(runs: int) -> list[Verdict]:
    with TemporaryDirectory() as folder, ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(make_source, folder=folder), range(SOURCES)))
        return list(chain.from_iterable(pool.map(partial(judge, folder=folder), jobs(runs))))


def main() -> None:
    asked = arguments(__doc__, runs=200)
    found = judge_all(asked.runs)
    slow = [one for one in found if one.kind in KINDS and one.training not in FAST]
    fast = [one for one in found if one.kind in KINDS and one.training in FAST]
    sound = [one for one in found if one.kind in SOUND]
    trained = [one for one in slow if one.epoch]
    dense = [one for one in trained if one.kind in (DOTTED, COUNTED)]
    result: dict[str, Any] = {
        "untrained": counted([one for one in slow if one.epoch == 0]),
        "after_one_epoch": counted([one for one in trained if one.epoch == 1]),
        "false_alarms": counted(sound),
        "never_loaded": {kind: by_epoch(slow, kind) for kind in KINDS},
        "at_rate_0.1": {kind: by_epoch(fast, kind) for kind in (DOTTED, COUNTED)},
        "sound": {kind: counted([one for one in sound if one.kind == kind]) for kind in SOUND},
        "dense_layers_behind": margins(sound, dense, "farther", FARTHER),
        "features_behind": margins(sound, [one for one in trained if one.kind == FEATURES], "ahead", AHEAD),
    }
    report(result, asked)


if __name__ == "__main__":
    main()
