"""Runs every check alone on one fault."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNet, config_file
from densenet_convert.densenet.blank import SkipInit

from ...errors import ConvertError, FolderError, ParityError
from ...folder.open import open_folder
from ...folder.records import Verified
from ...folder.write import write_folder
from ...layouts.attempt import network_of
from ...layouts.explain import explain
from ...layouts.rename import rename_tensors
from ...records import Loaded, Renamed
from ..comparisons import compare_bytes
from ..load import check_values
from ..preprocessing import compare_preprocessing
from ..recorder import Recorder
from ..storages import Contents
from .checks import KINDS, FirstDifferences, Recorded, UndecidedError, run_checks
from .faults import IN_FILES, IN_GRAPH, NETWORK, TABLE, TENSORS, Fault
from .peers import STRICT_LOAD, notice

BEFORE, AFTER, EXPORTED = ("load",), ("read-back", "preset"), ("graph",)
# In the order of the proof, which compares tensors of paired layers only where names leave something open.
FUNCTIONAL = ("layers", "forward", "names", "gradients", "statistics", "placement")
# The error that each check raised; None where it raised none.
Findings = dict[str, ConvertError | None]


@dataclass(frozen=True)
class Judged:
    """The result of one fault.

    Attributes:
        fault: what was injected.
        findings: of each check that could run.
        peers: for each of other people's checks that could run, whether it would notice.
        names_tell: whether names alone tell of a sound network that it is one.
    """

    fault: Fault
    findings: Findings
    peers: dict[str, bool]
    names_tell: bool = True

    @property
    def shown(self) -> list[ConvertError]:
        """The errors that a user would see: of loading, of the first check of the network, or of files.

        Bytes compared through the map are left out: a wrong map agrees with them.
        """
        if self.fault.place in (IN_FILES, IN_GRAPH):
            return list(filter(None, map(self.findings.get, (*AFTER, *EXPORTED))))
        functional = filter(None, map(self.findings.get, self._functional))
        return [*filter(None, map(self.findings.get, BEFORE)), *list(functional)[:1]]

    @property
    def _functional(self) -> tuple[str, ...]:
        """The checks of the network by which the proof judges: it ends where names are equal."""
        names = self.findings.get("names")
        if isinstance(names, UndecidedError):  # it says nothing of them, and goes on
            return tuple(check for check in FUNCTIONAL if check != "names")
        if names is None and self.names_tell:
            return tuple(check for check in FUNCTIONAL if check != "placement")
        return FUNCTIONAL

    @property
    def located(self) -> bool:
        """Whether it is shown, and every message names the tensor, the layer, the file or the field."""
        return bool(self.shown) and all(map(self._locates, self.shown))

    def _locates(self, error: ConvertError) -> bool:
        if isinstance(error, ParityError):
            return error.where in self.fault.where
        return any(_names(str(error), name) for name in self.fault.where)


@dataclass(frozen=True)
class Subject:
    """The sound conversion into which faults are injected.

    Attributes:
        clean: the conversion.
        recorded: what its reference computed.
        leaves: the digests of its tensors.
        device: where networks run.
        folder: the conversion as it was written.
        scratch: a folder for what is written of faults.
    """

    clean: Verified
    recorded: Recorded
    leaves: Contents
    device: torch.device
    folder: Path
    scratch: Path

    @property
    def loaded(self) -> Loaded:
        """The network of the sound conversion."""
        return self.clean.loaded


def judge(fault: Fault, subject: Subject) -> Judged:
    """Injects a fault of the table, the tensors or the network, and runs every check."""
    if fault.nothing:
        return Judged(fault, {}, {})
    renamed, refusal, loads = _renamed(fault, subject.loaded)
    peers = {STRICT_LOAD: not loads}
    if renamed is None:
        return Judged(fault, light({"load": refusal}), peers)
    model = network_with(subject.loaded, renamed.tensors)
    if fault.place == NETWORK:
        fault.inject(model)
    found = FirstDifferences(renamed.source_names)
    compare_bytes(renamed, model, found)
    recorded = subject.recorded
    recorders = Recorder(leaves=subject.leaves.copy()), Recorder(leaves=subject.leaves.copy())
    logits, _ = run_checks(model.to(subject.device, recorded.x.dtype), recorded, found, recorders)
    findings: Findings = {check: found.first.get(kind) for check, kind in KINDS.items()}
    read_back = None if fault.place == NETWORK else _write(subject, renamed)
    whole = {"load": refusal, **findings, "read-back": read_back}
    peers |= notice(logits, recorded.logits)
    return Judged(fault, light(whole), peers, not any(recorded.unknown))


def _renamed(fault: Fault, clean: Loaded) -> tuple[Renamed | None, ConvertError | None, bool]:
    """The faulty tensors, what our own loading objects to, and whether a strict load goes through."""
    renamed, checkpoint = clean.renamed, clean.renamed.checkpoint
    if fault.place == TENSORS:
        renamed = replace(renamed, tensors={**renamed.tensors, **fault.inject(renamed.tensors)})
    elif fault.place == TABLE:
        faulty = replace(renamed.reading, layout=fault.inject(renamed.reading))
        reading = explain(faulty, checkpoint.tensors, expect_drops=False)
        try:
            renamed = rename_tensors(checkpoint, reading)
            network_of(checkpoint, reading, checkpoint.norm_eps, clean.config.final_relu)
        except ConvertError as error:
            targets = reading.explanation.targets
            return None, error, _loads(clean, {t: checkpoint.tensors[s] for s, t in targets.items()})
    try:
        check_values(renamed)
    except ConvertError as error:
        return renamed, error, True
    return renamed, None, True


def network_with(clean: Loaded, tensors: Mapping[str, Tensor]) -> DenseNet:
    """A network of its own with these tensors, in eval mode.

    Raises:
        RuntimeError: they do not load strictly.
    """
    with torch.device("meta"), SkipInit():
        model = DenseNet(clean.config)
    # A norm left in training writes to its statistics, which are the checkpoint's own.
    copies = {n: t.clone() if ".running_" in n or n.endswith("tracked") else t for n, t in tensors.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return model.eval()


def _loads(clean: Loaded, tensors: Mapping[str, Tensor]) -> bool:
    try:
        network_with(clean, tensors)
    except RuntimeError:
        return False
    return True


def _write(subject: Subject, renamed: Renamed) -> ConvertError | None:
    """Returns the error of reading back a folder of these tensors, written as if they were proven."""
    folder = subject.scratch / "written"
    try:
        write_folder(
            replace(subject.clean, loaded=replace(subject.loaded, renamed=renamed)), folder, force=True
        )
    except FolderError as error:
        return error
    return None


def judge_written(fault: Fault, subject: Subject) -> Judged:
    """Injects a fault into a copy of the written folder, and runs the checks of files."""
    copy = subject.scratch / "copy"
    shutil.copytree(subject.folder, copy)
    try:
        fault.inject(copy)
        findings: Findings = {"read-back": _error_of(lambda: open_folder(copy))}
        if fault.name in ("wrong preprocessing", "labels permuted"):
            config = json.loads((copy / config_file.FILE_NAME).read_bytes())
            if "pretrained_cfg" in config:
                findings["preset"] = _error_of(lambda: compare_preprocessing(config))
        return Judged(fault, light(findings), {})
    finally:
        shutil.rmtree(copy)


def light(findings: Findings) -> Findings:
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
