"""Reads the source and the options of a conversion: a network at hand, a mapping of tensors, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import OwnNetworkError
from ..proof.prove import ProofExtras
from ..records import ORIGIN_MEMORY, InMemory, Options
from ..source.memory import copy_of


def of_memory(source: InMemory, options: Options, extras: ProofExtras) -> tuple[Options, ProofExtras]:
    """Returns both for a source in memory: a network at hand is its own reference, where it lies."""
    if isinstance(source, Mapping):
        return options, extras
    if options.reference is not None:
        raise OwnNetworkError("A network at hand is its own reference: leave `reference=...` out.")
    network = copy_of(source)
    device = next((one.device.type for one in network.parameters()), "cpu")
    on_gpu = options.device == "auto" and device == "cuda"
    options = replace(options, reference=ORIGIN_MEMORY, device="cuda" if on_gpu else options.device)
    return options, replace(extras, network=network)
