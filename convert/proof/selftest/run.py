"""Runs the self-test: every fault of the catalogue, every exchange, and conversions without a fault."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random

import torch

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config import architecture_label

from ...errors import LayoutError
from ...folder.open import open_folder
from ...folder.receipt import config_from
from ...folder.recover import recover_checkpoint
from ...folder.write import write_folder
from ...layout import Explanation
from ...layouts import known_layouts
from ...layouts.attempt import network_of
from ...layouts.identify import identify_again
from ...layouts.rename import rename_tensors
from ...layouts.rewrite import rewrite_tensors
from ...records import Loaded, Progress
from ...temporary import temporary_folder
from ..determinism import deterministic, device_name, environment
from ..devices import choose_device, plain_torch
from ..exported.runtime import onnx_and_runtime
from ..load import load_model
from ..recorder import Recorder
from .catalogue import all_faults
from .checks import record_reference
from .clean import Source, clean_run, convert_once, random_source
from .counting import SelfTest, count_exchanges, count_kinds, escaped_faults
from .exchanges import Renaming, exchanges_to_judge, record_sound, sum_by_name
from .faults import Draw
from .graph_faults import graph_faults
from .graph_judging import ExportedSubject, export_subject, judge_graph, judge_ir, sound_ir, sound_runs
from .judging import Subject, judge, judge_written
from .replay import Replay
from .steps import Step, do_in_turn
from .written_faults import written_faults

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")

# Every part of a real one: four blocks, three transitions, odd widths.
SMALL = DenseNetConfig(
    growth_rate=4, block_config=(2, 3, 1, 2), num_init_features=8, bn_size=2, num_classes=5
)
# In networks so small, threads wait for one another longer than they compute.
SMALL_THREADS = 1
# So many places are drawn for a kind of fault that fits at many places of a network.
SITES = 24
# Clean runs of small networks, each another one, and of one that was converted.
CLEAN_RUNS, CLEAN_RUNS_OF_A_FOLDER = 600, 24


def run_self_test(
    folder: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    sites: int = SITES,
    clean_runs: int | None = None,
    progress: Progress | None = None,
) -> SelfTest:
    """Injects the catalogue of faults into a sound conversion, and counts what the proof makes of it.

    Of a network of full size the exchanges are spread over processes, so that a script needs
    ``if __name__ == "__main__":``.

    Args:
        folder: one that was converted; by default a small network of random weights.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        sites: of a kind of fault that fits at many places, so many are drawn.
        clean_runs: number of conversions without a fault; by default 600 of small networks, or 24 of the
            folder's.
        progress: wraps the numbers of all steps, and is told what they are. The kinds of steps take turns, so
            that what is left takes as long for each as what is done.

    Raises:
        ConvertError: the folder is not sound.
    """
    chosen = choose_device(device)
    if clean_runs is None:
        clean_runs = CLEAN_RUNS if folder is None else CLEAN_RUNS_OF_A_FOLDER
    threads = SMALL_THREADS if folder is None else torch.get_num_threads()
    with plain_torch(), temporary_folder() as scratch:
        phases.info("converting a network without a fault")
        source = random_source(SMALL, 0, scratch) if folder is None else _source_of(Path(folder))
        in_graph, sound = graph_steps(source, sites if folder is None else 1, scratch)
        own = None if folder is None else source
        runs = [("clean run", partial(clean_run, i, own, chosen, scratch)) for i in range(clean_runs)]
        with deterministic(chosen), _threads(threads):
            subject, exchanged = _prepare(source, chosen, scratch)
            with exchanges_to_judge(subject.loaded, *exchanged) as calls:
                steps: list[Sequence[Step]] = [calls, _faults(subject, sites) + in_graph, [*runs, *sound]]
                exchanges, faults, alarms = do_in_turn(steps, progress)
            counted, judged = sum_by_name(exchanges), [one for _, one in faults]
            return SelfTest(
                network=_describe(subject.loaded),
                device=device_name(chosen),
                rows=(*count_exchanges(counted), *count_kinds(judged)),
                clean_runs=len(alarms),
                false_alarms=tuple(alarm for _, alarm in alarms if alarm),
                escaped=(*(e for one in counted.values() for e in one.escaped), *escaped_faults(judged)),
                environment=environment(chosen),
            )


def _faults(subject: Subject, sites: int) -> list[Step]:
    """Returns what injects and judges each fault of the catalogue."""
    steps: list[Step] = [(f.name, partial(judge, f, subject)) for f in all_faults(subject.loaded, sites)]
    return steps + [(f.name, partial(judge_written, f, subject)) for f in written_faults(subject.folder)]


def graph_steps(source: Source, sites: int, scratch: Path) -> tuple[list[Step], list[Step]]:
    """Returns what judges each fault of the exported network, and what proves it without one.

    It is exported here: torch's exporter does not run where flags are set as the proof sets them.
    """
    try:
        onnx_and_runtime()
    except LayoutError as error:
        log.warning("Nothing is injected into an exported network. %s", error)
        return [], []
    phases.info("exporting it")
    checkpoint, network = source
    renamed = rename_tensors(rewrite_tensors(checkpoint, network.rewrites), network.reading)
    exported = export_subject(load_model(renamed, network.config).model)
    faults = graph_faults(exported.model, Draw(Random(0), sites))
    steps: list[Step] = [(fault.name, partial(judge_graph, fault, exported)) for fault in faults]
    in_openvino, sound = _openvino_steps(exported)
    return steps + in_openvino, [*sound_runs(exported, scratch), *sound]


def _openvino_steps(exported: ExportedSubject) -> tuple[list[Step], list[Step]]:
    """Returns the same of what OpenVINO makes of it, with one site for each kind of fault."""
    if find_spec("openvino") is None:
        log.warning("Nothing is injected into a network of OpenVINO: openvino is not installed.")
        return [], []
    faults = graph_faults(exported.model, Draw(Random(0), 1))
    named = [replace(fault, name=f"{fault.name}, in OpenVINO") for fault in faults]
    return [(fault.name, partial(judge_ir, fault, exported)) for fault in named], list(sound_ir(exported))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Runs the block with so many of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _source_of(folder: Path) -> Source:
    """Returns what was converted, and which network it is."""
    written = open_folder(folder)
    checkpoint = recover_checkpoint(written)
    reading = identify_again(checkpoint.tensors.keys(), known_layouts(), written.receipt, whole=False)
    final_relu = config_from(written.receipt["config"]).final_relu
    network = network_of(checkpoint, reading, checkpoint.norm_eps, final_relu)
    return rewrite_tensors(checkpoint, network.rewrites), network


def _prepare(
    source: Source, device: torch.device, scratch: Path
) -> tuple[Subject, tuple[Renaming, tuple[Replay, Replay]]]:
    """Converts soundly; returns what each fault is judged by, and what each exchange is."""
    clean, reference = convert_once(*source, device, 0)
    loaded = clean.loaded
    folder = write_folder(clean, scratch / "clean").folder
    recorded = record_reference(reference.network, loaded.config, device)
    replays = record_sound(loaded, recorded, device)
    recorded = recorded._replace(unknown=(replays[0].unknown, replays[1].unknown))
    known = Recorder()
    known.add_leaves(loaded.renamed.tensors)
    reading = replace(loaded.renamed.reading, explanation=Explanation())
    renaming = Renaming(folder, reading, loaded.renamed.source_names, recorded.x.dtype)
    return Subject(clean, recorded, known.leaves, device, folder, scratch), (renaming, replays)


def _describe(loaded: Loaded) -> str:
    return f"{architecture_label(loaded.config)}, layout {loaded.renamed.reading.layout.name}"
