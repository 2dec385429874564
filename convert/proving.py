"""Proves the proof: injects every fault of the catalogue, and scores each check alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet, DenseNetConfig, architecture_of, config_file
from densenet_convert.densenet.blank import NothingDrawn

from .devices import choose_device, plain_torch
from .errors import ConvertError, FolderError, ParityError, some
from .folder import open_folder, recover_checkpoint
from .identify import identify_again, identify_layout
from .layout import Layout
from .layouts import known_layouts
from .load import check_values, choose_config, load_model
from .proof.comparisons import compare_bytes
from .proof.determinism import deterministic, device_name, environment
from .proof.faults import IN_FILES, NETWORK, TABLE, TENSORS, Fault, all_faults
from .proof.peers import PEERS, STRICT_LOAD, notice
from .proof.preprocessing import compare_preprocessing
from .proof.references import load_reference
from .proof.scoring import CHECKS as KINDS
from .proof.scoring import Recorded, Scores, record_reference, score
from .proof.verification import verify_model
from .proof.written_faults import written_faults
from .random_weights import random_checkpoint
from .read import read_checkpoint
from .records import Checkpoint, Loaded, Progress, Proven, Renamed, Row, Verified
from .rename import rename_tensors
from .scratch import scratch_folder
from .tensors import tensor_sha256
from .write import write_folder

# Every part of a real one: four blocks, three transitions, odd widths.
SMALL = DenseNetConfig(
    growth_rate=4, block_config=(2, 3, 1, 2), num_init_features=8, bn_size=2, num_classes=5
)
# Exchanged in a network of full size, beside those inside a layer.
PAIRS = 1000
CLEAN_RUNS = 200

BEFORE, AFTER = ("load",), ("read-back", "preset")
FUNCTIONAL = ("layers", "forward", "placement", "gradients", "statistics")
CHECKS = (*BEFORE, "bytes", *FUNCTIONAL, *AFTER)

# The error that each check raised; None where it raised none.
Findings = dict[str, ConvertError | None]


@dataclass(frozen=True)
class Judged:
    """What came of one fault.

    Attributes:
        fault: what was injected.
        findings: of each check that could run.
        peers: for each of other people's checks that could run, whether it would notice.
    """

    fault: Fault
    findings: Findings
    peers: dict[str, bool]

    @property
    def shown(self) -> list[ConvertError]:
        """What would be shown of it: by the step that loads, by the first check of the network, or of files.

        Bytes compared through the map are left out: a wrong map agrees with them.
        """
        files = self.fault.place == IN_FILES
        groups = [[check] for check in AFTER] if files else [BEFORE, FUNCTIONAL]
        firsts = (next((e for check in group if (e := self.findings.get(check))), None) for group in groups)
        return [error for error in firsts if error]

    @property
    def located(self) -> bool:
        """Whether it is shown, and every message names the tensor, the layer, the file or the field."""
        return bool(self.shown) and all(map(self._locates, self.shown))

    def _locates(self, error: ConvertError) -> bool:
        if isinstance(error, ParityError):
            return error.where in self.fault.where
        return any(_names(str(error), name) for name in self.fault.where)


@dataclass(frozen=True)
class _Subject:
    clean: Verified
    recorded: Recorded
    device: torch.device
    folder: Path
    scratch: Path

    @property
    def loaded(self) -> Loaded:
        return self.clean.loaded


def prove(
    folder: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    pairs: int | None = None,
    clean_runs: int = CLEAN_RUNS,
    progress: Progress | None = None,
) -> Proven:
    """Injects the catalogue of faults into a sound conversion, and counts what the proof makes of it.

    Args:
        folder: one that was converted; by default a small network of random weights.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        pairs: number of pairs of one shape to exchange beside those inside a layer. By default all of
            the small network's, and 1,000 of another's.
        clean_runs: number of conversions without a fault.
        progress: wraps what is gone through, and is told what it is.

    Raises:
        ConvertError: the folder is not sound.
    """
    progress = progress or (lambda items, _: items)
    chosen = choose_device(device)
    if pairs is None and folder is not None:
        pairs = PAIRS
    with plain_torch(), scratch_folder() as scratch, deterministic(chosen):
        checkpoint, layout = _source_of(folder, scratch)
        subject = _subject(checkpoint, layout, chosen, scratch)
        judged = [
            _judge(fault, subject)
            for fault in progress(all_faults(subject.loaded, pairs), "faults of table, tensors and network")
        ]
        judged += [
            _judge_written(fault, subject)
            for fault in progress(list(written_faults(subject.folder)), "faults of files")
        ]
        alarms = [
            message
            for i in progress(range(clean_runs), "clean runs")
            if (message := _clean_run(i, None if folder is None else (checkpoint, layout), chosen, scratch))
        ]
        return Proven(
            network=_describe(subject.loaded),
            device=device_name(chosen),
            rows=tuple(_rows(judged)),
            clean_runs=clean_runs,
            false_alarms=tuple(alarms),
            escaped=tuple(_escaped(judged)),
            environment=environment(chosen),
        )


def _source_of(folder: str | os.PathLike[str] | None, scratch: Path) -> tuple[Checkpoint, Layout]:
    """What was converted, and what it is in."""
    if folder is None:
        return _random(SMALL, 0, scratch)
    written = open_folder(Path(folder))
    checkpoint = recover_checkpoint(written)
    names = checkpoint.tensors.keys()
    return checkpoint, identify_again(names, known_layouts(), written.receipt, whole=False)


def _random(config: DenseNetConfig, seed: int, scratch: Path) -> tuple[Checkpoint, Layout]:
    file = scratch / "checkpoint.pth"
    file.write_bytes(random_checkpoint(config, seed))
    checkpoint = read_checkpoint(file)
    return checkpoint, identify_layout(checkpoint.tensors, known_layouts())


def _subject(checkpoint: Checkpoint, layout: Layout, device: torch.device, scratch: Path) -> _Subject:

    clean, network = _proven(checkpoint, layout, device, 0)
    folder = write_folder(clean, scratch / "clean").folder
    recorded = record_reference(network, clean.loaded.config.in_channels, device)
    return _Subject(clean, recorded, device, folder, scratch)


def _proven(
    checkpoint: Checkpoint, layout: Layout, device: torch.device, seed: int
) -> tuple[Verified, nn.Module]:

    renamed = rename_tensors(checkpoint, layout)
    config = choose_config(renamed)
    reference = load_reference(checkpoint, renamed.layout, config)
    return verify_model(load_model(renamed, config), reference, device, seed=seed), reference.network


def _describe(loaded: Loaded) -> str:
    named = architecture_of(loaded.config) or f"a DenseNet with blocks {loaded.config.block_config}"
    return f"{named}, layout {loaded.renamed.layout.name}"


def _judge(fault: Fault, subject: _Subject) -> Judged:

    if fault.nothing:
        return Judged(fault, {}, {})
    renamed, refusal, loads = _renamed(fault, subject.loaded)
    peers = {STRICT_LOAD: not loads}
    if renamed is None:
        return Judged(fault, _light({"load": refusal}), peers)
    model = _model(subject.loaded, renamed.tensors)
    if fault.place == NETWORK:
        fault.inject(model)
    scores = Scores(renamed.source_names)
    compare_bytes(renamed, model, scores)
    logits = score(model.to(subject.device, subject.recorded.train[0].dtype), subject.recorded, scores)
    noticed = notice(logits, subject.recorded.evals[-1][2])
    findings: Findings = {check: scores.first.get(kind) for check, kind in KINDS.items()}
    read_back = None if fault.place == NETWORK else _write(subject, renamed)
    found = {"load": refusal, **findings, "read-back": read_back}
    return Judged(fault, _light(found), {**peers, **noticed})


def _renamed(fault: Fault, clean: Loaded) -> tuple[Renamed | None, ConvertError | None, bool]:
    """The faulty tensors, what our own loading objects to, and whether a strict load goes through."""
    renamed, checkpoint = clean.renamed, clean.renamed.checkpoint
    if fault.place == TENSORS:
        renamed = replace(renamed, tensors={**renamed.tensors, **fault.inject(renamed.tensors)})
    elif fault.place == TABLE:
        layout = fault.inject(renamed.layout)
        try:
            renamed = rename_tensors(checkpoint, layout)
            choose_config(renamed)
        except ConvertError as error:
            targets = layout.explain(checkpoint.tensors, whole=False).targets
            return None, error, _loads(clean, {t: checkpoint.tensors[s] for s, t in targets.items()})
    try:
        check_values(renamed)
    except ConvertError as error:
        return renamed, error, True
    return renamed, None, True


def _model(clean: Loaded, tensors: Mapping[str, Tensor]) -> DenseNet:
    """A network of its own with these tensors, in eval mode.

    Raises:
        RuntimeError: they do not load strictly.
    """
    with torch.device("meta"), NothingDrawn():
        model = DenseNet(clean.config)
    # A norm left in training writes to its statistics, which are the checkpoint's own.
    copies = {n: t.clone() if ".running_" in n or n.endswith("tracked") else t for n, t in tensors.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return model.eval()


def _loads(clean: Loaded, tensors: Mapping[str, Tensor]) -> bool:
    try:
        _model(clean, tensors)
    except RuntimeError:
        return False
    return True


def _write(subject: _Subject, renamed: Renamed) -> ConvertError | None:
    """What reading back has against a folder of these tensors, written as if they were proven."""
    folder = subject.scratch / "written"
    try:
        write_folder(
            replace(subject.clean, loaded=replace(subject.loaded, renamed=renamed)), folder, force=True
        )
    except FolderError as error:
        return error
    return None


def _judge_written(fault: Fault, subject: _Subject) -> Judged:

    copy = subject.scratch / "copy"
    shutil.copytree(subject.folder, copy)
    try:
        fault.inject(copy)
        findings: Findings = {"read-back": _error_of(lambda: open_folder(copy))}
        if fault.name in ("wrong preprocessing", "labels permuted"):
            config = json.loads((copy / config_file.FILE_NAME).read_bytes())
            findings["preset"] = _error_of(lambda: compare_preprocessing(config))
        return Judged(fault, _light(findings), {})
    finally:
        shutil.rmtree(copy)


def _light(findings: Findings) -> Findings:
    """The same errors without their tracebacks, which would keep every faulty network alive."""
    for error in filter(None, findings.values()):
        error.__traceback__ = error.__cause__ = error.__context__ = None
    return findings


def _error_of(check: Callable[[], object]) -> ConvertError | None:
    try:
        check()
    except ConvertError as error:
        return error
    return None


def _names(message: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w|\.\w)", message) is not None


def _rows(judged: Iterable[Judged]) -> Iterator[Row]:

    kinds: dict[str, list[Judged]] = {}
    for one in judged:
        kinds.setdefault(one.fault.name, []).append(one)
    for name, all_of_kind in kinds.items():
        real = [one for one in all_of_kind if not one.fault.nothing]
        yield Row(
            name=name,
            injected=len(real),
            nothing=len(all_of_kind) - len(real),
            caught=sum(bool(one.shown) for one in real),
            located=sum(one.located for one in real),
            checks={check: _count([one.findings for one in real], check) for check in CHECKS},
            peers={peer: _count([one.peers for one in real], peer) for peer in (STRICT_LOAD, *PEERS)},
        )


def _count(verdicts: Sequence[Mapping[str, object]], check: str) -> tuple[int, int]:
    could = [found[check] for found in verdicts if check in found]
    return sum(map(bool, could)), len(could)


def _escaped(judged: Iterable[Judged]) -> Iterator[str]:
    for one in judged:
        if not one.fault.nothing and not one.located:
            found = f"shown as: {' '.join(map(str, one.shown))}" if one.shown else "not caught"
            yield f"{one.fault.name} at {some(sorted(one.fault.where))}: {found}"


def _clean_run(
    i: int, own: tuple[Checkpoint, Layout] | None, device: torch.device, scratch: Path
) -> str | None:
    """Converts once without a fault, on other inputs and in another dtype each time; a failure's message."""
    dtypes = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    try:
        checkpoint, layout = own or _random(_small(i), i, scratch)
        checkpoint = _cast(checkpoint, dtypes[i % len(dtypes)])
        verified, _ = _proven(checkpoint, layout, device if i % 2 else torch.device("cpu"), seed=i * 100)
        write_folder(verified, scratch / "written", force=True)
    except ConvertError as error:
        return f"clean run {i}: {error}"
    return None


def _small(i: int) -> DenseNetConfig:
    random = Random(i)
    return DenseNetConfig(
        growth_rate=random.randint(2, 6),
        block_config=tuple(random.randint(1, 3) for _ in range(random.randint(1, 4))),
        num_init_features=random.randint(4, 12),
        bn_size=random.randint(1, 4),
        num_classes=random.randint(0, 6),
        in_channels=random.randint(1, 4),
    )


def _cast(checkpoint: Checkpoint, dtype: torch.dtype) -> Checkpoint:
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint.tensors.items()
    }
    return replace(checkpoint, tensors=tensors, digests={n: tensor_sha256(t) for n, t in tensors.items()})
