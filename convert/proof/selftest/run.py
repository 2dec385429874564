"""Runs the self-test: every fault of the catalogue, and conversions without a fault."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from torch import nn

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config import architecture_label

from ...claims import Claims
from ...errors import ConvertError
from ...folder.open import open_folder
from ...folder.receipt import config_from
from ...folder.recover import recover_checkpoint
from ...folder.write import write_folder
from ...layouts import known_layouts
from ...layouts.attempt import network_of
from ...layouts.identify import identify_again
from ...layouts.network import identify_network
from ...layouts.rename import rename_tensors
from ...layouts.rewrite import rewrite_tensors
from ...records import Checkpoint, Identified, Loaded, Options, Progress, Verified
from ...source.random_weights import random_checkpoint
from ...source.read import read_checkpoint
from ...temporary import temporary_folder
from ...tensors import tensor_sha256
from ..determinism import deterministic, device_name, environment
from ..devices import choose_device, plain_torch
from ..load import load_model
from ..prove import ProofExtras, prove_networks
from ..references.reference import load_reference
from .catalogue import all_faults
from .checks import record_reference
from .counting import SelfTest, count_kinds, escaped_faults
from .judging import Subject, judge, judge_written
from .written_faults import written_faults

# Every part of a real one: four blocks, three transitions, odd widths.
SMALL = DenseNetConfig(
    growth_rate=4, block_config=(2, 3, 1, 2), num_init_features=8, bn_size=2, num_classes=5
)
# Exchanged in a network of full size, beside those inside a layer.
PAIRS = 1000
CLEAN_RUNS = 200


def run_self_test(
    folder: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    pairs: int | None = None,
    clean_runs: int = CLEAN_RUNS,
    progress: Progress | None = None,
) -> SelfTest:
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
    with plain_torch(), temporary_folder() as scratch, deterministic(chosen):
        checkpoint, network = _source_of(folder, scratch)
        subject = _subject(checkpoint, network, chosen, scratch)
        judged = [
            judge(fault, subject)
            for fault in progress(all_faults(subject.loaded, pairs), "faults of table, tensors and network")
        ]
        judged += [
            judge_written(fault, subject)
            for fault in progress(list(written_faults(subject.folder)), "faults of files")
        ]
        alarms = [
            message
            for i in progress(range(clean_runs), "clean runs")
            if (message := _clean_run(i, None if folder is None else (checkpoint, network), chosen, scratch))
        ]
        return SelfTest(
            network=_describe(subject.loaded),
            device=device_name(chosen),
            rows=tuple(count_kinds(judged)),
            clean_runs=clean_runs,
            false_alarms=tuple(alarms),
            escaped=tuple(escaped_faults(judged)),
            environment=environment(chosen),
        )


def _source_of(folder: str | os.PathLike[str] | None, scratch: Path) -> tuple[Checkpoint, Identified]:
    """Returns what was converted, and which network it is."""
    if folder is None:
        return _random(SMALL, 0, scratch)
    written = open_folder(Path(folder))
    checkpoint = recover_checkpoint(written)
    reading = identify_again(checkpoint.tensors.keys(), known_layouts(), written.receipt, whole=False)
    final_relu = config_from(written.receipt["config"]).final_relu
    network = network_of(checkpoint, reading, checkpoint.norm_eps, final_relu)
    return rewrite_tensors(checkpoint, network.rewrites), network


def _random(config: DenseNetConfig, seed: int, scratch: Path) -> tuple[Checkpoint, Identified]:
    file = scratch / "checkpoint.pth"
    file.write_bytes(random_checkpoint(config, seed))
    checkpoint = read_checkpoint(file)
    return checkpoint, identify_network(checkpoint, Options())


def _subject(checkpoint: Checkpoint, network: Identified, device: torch.device, scratch: Path) -> Subject:
    """Converts the checkpoint soundly, and keeps what each fault is judged by."""
    clean, reference = _convert_once(checkpoint, network, device, 0)
    folder = write_folder(clean, scratch / "clean").folder
    recorded = record_reference(reference, clean.loaded.config.in_channels, device)
    return Subject(clean, recorded, device, folder, scratch)


def _convert_once(
    checkpoint: Checkpoint, network: Identified, device: torch.device, seed: int
) -> tuple[Verified, nn.Module]:
    """Renames, loads and proves; returns the reference's network as well."""
    loaded = load_model(rename_tensors(checkpoint, network.reading), network.config)
    reference = load_reference(checkpoint, network.reading, network.config)
    claims = Claims(preprocessing=network.reading.layout.preprocessing)
    verified = prove_networks(loaded, reference, device, ProofExtras(), claims, seed=seed)
    return verified, reference.network


def _describe(loaded: Loaded) -> str:
    return f"{architecture_label(loaded.config)}, layout {loaded.renamed.reading.layout.name}"


def _clean_run(
    i: int, own: tuple[Checkpoint, Identified] | None, device: torch.device, scratch: Path
) -> str | None:
    """Converts once without a fault, on other inputs and in another dtype each time; a failure's message."""
    dtypes = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    try:
        checkpoint, network = own or _random(_small(i), i, scratch)
        checkpoint = _cast(checkpoint, dtypes[i % len(dtypes)])
        verified, _ = _convert_once(
            checkpoint, network, device if i % 2 else torch.device("cpu"), seed=i * 100
        )
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
