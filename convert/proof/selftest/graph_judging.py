"""Judges faults of an exported network, and sound ones, of which nothing may be said."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNet

from ...errors import ConvertError, is_out_of_memory
from ..exported.followed import Graph
from ..exported.graph import graph_of
from ..exported.ir import ir_of
from ..exported.ir_run import IrWay
from ..exported.ir_write import ir_files
from ..exported.prove import prove_graph
from ..exported.reference import Reference
from ..exported.runtime import LEVELS, Session, Way, optimised
from ..exported.write import INPUT, onnx_model
from ..inputs import proof_inputs
from .faults import Fault
from .judging import Judged, light
from .peers import notice
from .steps import Step

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

THREADS = (1, 2)


class ExportedSubject(NamedTuple):
    """The sound network into whose graph faults are injected.

    Attributes:
        reference: the network.
        model: the same as it was exported.
    """

    reference: Reference
    model: ModelProto


def export_subject(network: DenseNet) -> ExportedSubject:
    """Exports a network in float32, of any size."""
    return ExportedSubject(
        Reference(network, torch.float32), graph_of(onnx_model(network, torch.float32, None, {})).model
    )


def judge_graph(fault: Fault, subject: ExportedSubject) -> Judged:
    """Injects a fault into a copy of the graph, and asks the proof and other people's checks."""
    model = fault.inject(subject.model)
    way = Way(threads=1)
    findings = light({"graph": _error_of(graph_of(model.SerializeToString()), subject.reference, way)})
    return Judged(fault, findings, notice(*_logits(model, subject, way)))


def _error_of(graph: Graph, reference: Reference, way: Way) -> ConvertError | None:
    try:
        prove_graph(graph, reference, [way])
    except ConvertError as error:
        return error
    return None


def judge_ir(fault: Fault, subject: ExportedSubject) -> Judged:
    """Injects a fault into a copy of the graph, and asks the proof of what OpenVINO makes of that."""
    error = _error_of_ir(fault.inject(subject.model), subject.reference, IrWay(threads=1))
    return Judged(fault, light({"graph": error}), {})


def _error_of_ir(model: ModelProto, reference: Reference, way: Way) -> ConvertError | None:
    try:
        graph = ir_of(*ir_files(model.SerializeToString(), half=False, properties={}), "The model")
    except ConvertError as error:
        return error
    return _error_of(graph, reference, way)


def sound_ir(subject: ExportedSubject) -> Iterator[Step]:
    """Yields what proves a sound graph of OpenVINO with one thread and with two."""
    for threads in THREADS:
        yield "sound graph of OpenVINO", partial(_alarm_of_ir, subject, threads)


def _alarm_of_ir(subject: ExportedSubject, threads: int) -> str | None:
    error = _error_of_ir(subject.model, subject.reference, IrWay(threads=threads))
    return None if error is None else f"sound graph of OpenVINO, {threads} threads: {error}"


def _logits(model: ModelProto, subject: ExportedSubject, way: Way) -> tuple[Tensor, Tensor]:
    """Returns the logits of a graph, NaN where it does not run, and the network's, for two images."""
    _, shape = proof_inputs(subject.reference.config)[1]
    (x,), own, _ = subject.reference.logits(shape, 1)
    try:
        found = Session(model, way).run({INPUT: x})[0]
    except Exception as error:  # the runtime's own have no common kind
        if is_out_of_memory(error):
            raise
        found = torch.full_like(own, torch.nan)
    return (found if found.shape == own.shape else torch.full_like(own, torch.nan)), own


def sound_runs(subject: ExportedSubject, scratch: Path) -> Iterator[Step]:
    """Yields what proves a sound graph at each level of optimisation, and as onnxruntime saves it at two."""
    for threads in THREADS:
        for level in LEVELS:
            way = Way(level=level, threads=threads)
            yield "sound graph", partial(_alarm, subject, None, way, scratch)
        for level in ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"):
            yield "sound graph", partial(_alarm, subject, level, Way(threads=threads), scratch)


def _alarm(subject: ExportedSubject, saved: str | None, way: Way, scratch: Path) -> str | None:
    """Returns what is said against a sound graph; None where nothing is."""
    model = subject.model if saved is None else optimised(subject.model, saved, scratch / "saved.onnx")
    error = _error_of(graph_of(model.SerializeToString()), subject.reference, way)
    if error is None:
        return None
    return f"sound graph, {saved or 'as exported'}, {way}, {way.threads} threads: {error}"
