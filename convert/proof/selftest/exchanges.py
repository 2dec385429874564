"""Exchanges of two tensors of one shape: all of them in eval, some in training, by names alone.

Each goes through the real renaming, with a faulty table, of the two names alone.  What that gives to which
name goes into the recorded steps, which are named anew.  Nothing is computed, so that no pair is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from ...executors import available_cores, process_executor
from ...folder.open import open_folder
from ...folder.recover import recover_checkpoint
from ...layout import Reading
from ...layouts.explain import explain
from ...layouts.rename import rename_tensors
from ...records import Checkpoint, Loaded
from ..recorder import Recorder
from ..storages import INPUT
from .checks import FirstDifferences, Recorded, run_checks
from .faults import at, pairs_of_one_shape, with_targets
from .judging import network_with
from .replay import Leaves, Replay, SymbolicRecorder

EVAL, TRAINING = "every pair of one shape, in eval", "drawn pairs of one shape, in training"
# Drawn of all pairs for the training step, whose names take longer to make.
DRAWN = 1000
# Pairs that are judged in one call; more calls than CALLS_HERE are spread over processes, JOBS at most.
CHUNK, CALLS_HERE, JOBS = 500, 10, 8


@dataclass(frozen=True)
class Counted:
    """The results of some exchanges, in fields of ``FaultKind``, and of ``SelfTest`` for ``escaped``."""

    injected: int
    nothing: int
    caught: int
    located: int
    escaped: tuple[str, ...]


@dataclass(frozen=True)
class Renaming:
    """The material for renaming two tensors of a sound conversion, in whatever process.

    Attributes:
        folder: the conversion as it was written.
        reading: how its source is read.
        sources: the source's name of each canonical one.
        dtype: in which both networks compute.
    """

    folder: Path
    reading: Reading
    sources: Mapping[str, str | None]
    dtype: torch.dtype

    def exchanged(self, a: str, b: str) -> dict[str, Tensor]:
        """Returns what the renaming gives to two canonical names, with a table that exchanges them."""
        given = {str(self.sources[a]): b, str(self.sources[b]): a}
        faulty = replace(self.reading, layout=with_targets(self.reading, given))
        explained = explain(faulty, given, expect_drops=False)
        tensors = rename_tensors(_checkpoint(self.folder, self.dtype), explained).tensors
        return {name: tensors[name] for name in (a, b)}


@lru_cache(maxsize=1)
def _checkpoint(folder: Path, dtype: torch.dtype) -> Checkpoint:
    """The source's tensors, as the networks hold them."""
    checkpoint = recover_checkpoint(open_folder(folder))
    floats = {n: t.to(dtype) for n, t in checkpoint.tensors.items() if t.is_floating_point()}
    return replace(checkpoint, tensors={**checkpoint.tensors, **floats})


@lru_cache(maxsize=1)
def _known(_: Path) -> Recorder:
    """Keeps the digests of one folder's tensors."""
    return Recorder()


def record_sound(loaded: Loaded, recorded: Recorded, device: torch.device) -> tuple[Replay, Replay]:
    """Records a sound conversion in eval and in training, to be named anew.

    Args:
        loaded: the conversion.
        recorded: what its reference computed.
        device: where both run.
    """
    recorders = SymbolicRecorder(), SymbolicRecorder()
    model = network_with(loaded, loaded.renamed.tensors).to(device, recorded.x.dtype)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    _, results = run_checks(model, recorded, FirstDifferences(loaded.renamed.source_names), recorders)
    known = Recorder()
    inputs, theirs = (recorded.x, recorded.trained), (recorded.in_eval, recorded.in_training)
    in_eval, in_training = (
        Replay(ours, other, named, Leaves({**tensors, INPUT: x}, known))
        for ours, other, named, x in zip(recorders, theirs, results, inputs, strict=True)
    )
    return in_eval, in_training


@contextmanager
def exchanges_to_judge(
    loaded: Loaded, renaming: Renaming, replays: tuple[Replay, Replay]
) -> Iterator[list[tuple[str, Callable[[], Counted]]]]:
    """Gives calls that count all pairs in eval, and some in training, where names tell anything.

    Each has its name, under which what they give is added up.
    """
    pairs = list(pairs_of_one_shape(loaded.renamed))
    drawn = Random(0).sample(pairs, min(DRAWN, len(pairs)))
    with _calling(len(pairs)) as call:
        calls = []
        for name, replay, some in zip((EVAL, TRAINING), replays, (pairs, drawn), strict=True):
            if "logits" in replay.unknown:
                continue
            chunks = [some[i : i + CHUNK] for i in range(0, len(some), CHUNK)]
            calls += [(name, call(count_exchanges, renaming, replay, chunk)) for chunk in chunks]
        yield calls


def count_exchanges(renaming: Renaming, replay: Replay, pairs: list[tuple[str, str]]) -> Counted:
    """Counts how many of these exchanges names tell, and at one of the two tensors."""
    nothing = caught = located = 0
    escaped = []
    for a, b in pairs:
        given = Leaves(renaming.exchanged(a, b), _known(renaming.folder))
        if replay.is_sound(given):
            nothing += 1
            continue
        found = FirstDifferences({})
        found.judge(replay.judge(given))
        error = found.first.get("names")
        caught += error is not None
        if error is not None and error.where in at(a, b):
            located += 1
        else:
            escaped.append(f"{a} and {b} exchanged: {error or 'not caught'}")
    return Counted(len(pairs) - nothing, nothing, caught, located, tuple(escaped))


def sum_by_name(counted: Iterable[tuple[str, Counted]]) -> dict[str, Counted]:
    """Adds up what came of the calls of each name."""
    sums: dict[str, Counted] = {}
    for name, one in counted:
        before = sums.get(name, Counted(0, 0, 0, 0, ()))
        sums[name] = Counted(
            before.injected + one.injected,
            before.nothing + one.nothing,
            before.caught + one.caught,
            before.located + one.located,
            before.escaped + one.escaped,
        )
    return sums


@contextmanager
def _calling(pairs: int) -> Iterator[Callable[..., Callable[[], Counted]]]:
    """Gives what prepares a call: here, or of many pairs in processes, which begin at once."""
    if pairs <= CHUNK * CALLS_HERE:
        yield partial
        return
    with process_executor(min(JOBS, available_cores())) as executor:
        yield lambda *call: executor.submit(*call).result
