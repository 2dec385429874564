"""Conversions without a fault: whatever is said against one is a false alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNetConfig

from ...claims import Claims
from ...errors import ConvertError
from ...folder.receipt import describe_axes
from ...folder.records import Verified
from ...folder.recover import as_in_source
from ...folder.write import write_folder
from ...layout import Layout, Reading
from ...layouts import BUILT_IN, TORCHVISION_DOTTED
from ...layouts.explain import explain
from ...layouts.network import identify_network
from ...layouts.rename import rename_tensors
from ...layouts.rewrite import rewrite_tensors
from ...records import Checkpoint, Identified, Options
from ...results import EQUAL
from ...source.random_weights import random_checkpoint
from ...source.read import read_checkpoint
from ...tensors import tensor_sha256
from ..load import load_model
from ..prove import ProofExtras, prove_networks
from ..references.reference import Reference, load_reference, own_names
from .checks import record_reference
from .exchanges import record_sound

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
COUNTER = "num_batches_tracked"
# Layouts that number the layers of a sequence, or have a fixed depth, are of networks with four blocks.
OF_FOUR_BLOCKS = ("numbered", "densenet-keras")
Source = tuple[Checkpoint, Identified]


def clean_run(i: int, own: Source | None, device: torch.device, scratch: Path) -> str | None:
    """Converts once without a fault, on other inputs, in another layout, dtype and device each time.

    Args:
        i: number of the run, by which all of it is drawn.
        own: what to convert, as it is; None for small networks of random weights.
        device: where some of the runs compute; the others do on the CPU.
        scratch: a folder for what is written.

    Returns:
        What was said against it; None where nothing was.
    """
    random = Random(i)
    dtype, device = random.choice(DTYPES), random.choice((device, torch.device("cpu")))
    try:
        checkpoint, network = own or _another(i, random, scratch)
        checkpoint = _cast(checkpoint, dtype)
        verified, reference = convert_once(checkpoint, network, device, seed=i * 100)
        write_folder(verified, scratch / "written", force=True)
    except ConvertError as error:
        return f"clean run {i}: {error}"
    unknown = _unknown(verified, reference, device)
    return f"clean run {i}: names don't tell that these are equal: {', '.join(unknown)}" if unknown else None


def _unknown(verified: Verified, reference: Reference, device: torch.device) -> list[str]:
    """The kinds of results that recorded names, or names that were made anew, do not call equal."""
    loaded = verified.loaded
    every_input = vars(verified.proof.every_input)
    recorded = record_reference(reference.network, loaded.config, device)
    unknown = {kind for kind in ("logits", "gradients", "buffers") if every_input[kind] != EQUAL}
    for replay in record_sound(loaded, recorded, device):
        unknown |= replay.unknown
    # A library's own network may add gradients up in another order.
    return sorted(unknown - ({"gradients"} if loaded.renamed.reading.layout.library else set()))


def convert_once(
    checkpoint: Checkpoint, network: Identified, device: torch.device, seed: int
) -> tuple[Verified, Reference]:
    """Renames, loads and proves; returns the reference as well."""
    checkpoint = rewrite_tensors(checkpoint, network.rewrites)
    loaded = load_model(rename_tensors(checkpoint, network.reading), network.config)
    reference = load_reference(checkpoint, network.reading, network.config)
    claims = Claims(preprocessing=network.reading.layout.preprocessing)
    verified = prove_networks(loaded, reference, device, ProofExtras(), claims, seed=seed)
    return verified, reference


def random_source(config: DenseNetConfig, seed: int, scratch: Path) -> Source:
    """Returns a checkpoint of random weights, and which network it is."""
    checkpoint = _drawn(config, seed, scratch)
    return checkpoint, identify_network(checkpoint, Options())


def _drawn(config: DenseNetConfig, seed: int, scratch: Path) -> Checkpoint:
    file = scratch / "checkpoint.pth"
    file.write_bytes(random_checkpoint(config, seed))
    return read_checkpoint(file)


def _another(i: int, random: Random, scratch: Path) -> Source:
    """A small network in one of the layouts that are built in, of the dimensions that it has in turn."""
    layout = BUILT_IN[i % len(BUILT_IN)]
    dimensions = layout.dimensions[i // len(BUILT_IN) % len(layout.dimensions)]
    # What is found by its head has one.
    fewest = 1 if layout.sign.startswith(layout.head) else 0
    blocks = 4 if layout.name.startswith(OF_FOUR_BLOCKS) else random.randint(1, 4)
    config = DenseNetConfig(
        growth_rate=random.randint(2, 6),
        block_config=tuple(random.randint(1, 3) for _ in range(blocks)),
        num_init_features=random.randint(4, 12),
        bn_size=random.randint(1, 4),
        num_classes=random.randint(fewest, 6) if layout.has_head else 0,
        in_channels=random.randint(1, 4),
        spatial_dims=dimensions,
    )
    checkpoint = _drawn(config, i, scratch)
    reading = explain(Reading(TORCHVISION_DOTTED), checkpoint.tensors)
    tensors = _in_layout(rename_tensors(checkpoint, reading).tensors, layout, config)
    checkpoint = _with_tensors(checkpoint, tensors)
    # A sequence of somebody's own does not tell what it runs before its head.
    return checkpoint, identify_network(checkpoint, Options(final_relu=True))


def _in_layout(tensors: Mapping[str, Tensor], layout: Layout, config: DenseNetConfig) -> dict[str, Tensor]:
    """Returns canonical tensors by a layout's own names, and in its own order of axes."""
    found = explain(Reading(layout), own_names(layout, config), expect_drops=False).explanation
    if not layout.has_counters:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    return {
        name: as_in_source(tensors[target], describe_axes(found.axes.get(name)))
        for name, target in found.targets.items()
        if target in tensors
    }


def _cast(checkpoint: Checkpoint, dtype: torch.dtype) -> Checkpoint:
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint.tensors.items()
    }
    return _with_tensors(checkpoint, tensors)


def _with_tensors(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> Checkpoint:
    return replace(checkpoint, tensors=tensors, digests={n: tensor_sha256(t) for n, t in tensors.items()})
