"""The owner's own network as a reference: the user names the code that builds it, and never a file does."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import OwnNetworkError, is_out_of_memory, quoted
from ...layout import without_wrappers
from ...records import ORIGIN_MEMORY, Checkpoint
from ...source.memory import unwrapped

# As many words may stand before all names of a source, and be what the network's own names lack.
MOST_WORDS = 8


@dataclass(frozen=True)
class OwnNetwork:
    """The owner's own network with the source's untouched tensors, in eval mode.

    Attributes:
        network: on the CPU, or where it was at hand.
        name: ``"module:function"``, which built it, or ``"memory"``.
        names: what it calls the source's tensors.
        sha256: of the file that has the function; None for a network at hand.
    """

    network: nn.Module
    name: str
    names: Mapping[str, str]
    sha256: str | None = None

    @property
    def words(self) -> str:
        """Its name, as a sentence begins."""
        return "The network at hand" if self.name == ORIGIN_MEMORY else f"The network of {quoted(self.name)}"


def load_own(named: str, checkpoint: Checkpoint, left_out: Collection[str] = ()) -> OwnNetwork:
    """Returns the network that the user's function builds, with the source's untouched tensors in it.

    Args:
        named: ``"module:function"``; while it is imported and called the working folder is looked through
            last.
        checkpoint: its tensors are loaded strictly, under the source's names; the words before all of them,
            such as ``"module."``, and those of wrappers may be what the network's own names lack.
        left_out: names of tensors that the network need not have, such as counters of a profiler.

    Raises:
        OwnNetworkError: the function can't be had or fails, or its network does not take the tensors.
    """
    with _working_folder():
        function = _imported(named)
        network = _built(function, named)
    tensors = checkpoint.tensors if checkpoint.untouched is None else checkpoint.untouched
    doubled = any(tensor.dtype == torch.float64 for tensor in tensors.values())
    network = network.to(torch.float64 if doubled else torch.float32)
    names = _own_names(tensors, network.state_dict().keys(), left_out)
    try:
        network.load_state_dict({own: tensors[name] for name, own in names.items()}, strict=True)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise OwnNetworkError(
            f"The network of {quoted(named)} does not take the source's tensors: "
            f"{quoted(' '.join(str(error).split()), 600)} It must be the network that was saved."
        ) from error
    file = inspect.getsourcefile(inspect.unwrap(function))
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return OwnNetwork(_ready(network), named, names, digest)


def own_at_hand(network: nn.Module, checkpoint: Checkpoint) -> OwnNetwork:
    """Returns a copy of a network at hand, of which ``checkpoint`` holds the tensors."""
    return OwnNetwork(_ready(network), ORIGIN_MEMORY, {name: name for name in checkpoint.tensors})


@contextmanager
def _working_folder() -> Iterator[None]:
    """Looks for modules in the working folder as well, and last of all."""
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _imported(named: str) -> Any:
    module, mark, name = named.partition(":")
    if not mark or not module or not name:
        raise OwnNetworkError(
            f"{quoted(named)!r} is no function, expected MODULE:FUNCTION, such as chest_model:build."
        )
    try:
        return attrgetter(name)(import_module(module))
    except Exception as error:  # whatever the user's module raises
        raise OwnNetworkError(
            f"{quoted(named)} can't be imported: {type(error).__name__}: {quoted(str(error))}. Name a module "
            "that Python finds here, or in the working folder."
        ) from error


def _built(function: Any, named: str) -> nn.Module:
    try:
        network = function()
    except Exception as error:  # whatever the user's code raises
        raise OwnNetworkError(
            f"{quoted(named)} raised {type(error).__name__}: {quoted(str(error))}. It is called without an "
            "argument, and returns the network that the checkpoint belongs to."
        ) from error
    if not isinstance(network, nn.Module):
        raise OwnNetworkError(
            f"{quoted(named)} returned a {type(network).__name__}, expected a torch.nn.Module."
        )
    return unwrapped(network)


def _own_names(names: Collection[str], own: Collection[str], left_out: Collection[str]) -> dict[str, str]:
    """Returns the network's names by the source's, as they are or without what wraps them."""
    needed = [name for name in names if name not in left_out]
    for called in ({name: name for name in names}, {name: without_wrappers(name) for name in names}):
        for depth in range(MOST_WORDS):
            short = {name: ".".join(one.split(".")[depth:]) for name, one in called.items()}
            if all(short[name] in own for name in needed):
                kept = set(needed) | {name for name, one in short.items() if one in own}
                return {name: one for name, one in short.items() if name in kept}
            if len({tuple(called[name].split(".")[: depth + 1]) for name in needed}) > 1:
                break
    return {name: name for name in names}


def _ready(network: nn.Module) -> nn.Module:
    """In eval mode; what its owner froze has gradients, too."""
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.dtype.is_floating_point)
    return network.eval()
