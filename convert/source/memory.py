"""Reads what is in memory already: a network at hand, or a mapping of names to tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from ..errors import OwnNetworkError, ReadError, quoted
from ..records import ORIGIN_MEMORY, Checkpoint
from ..tensors import dtype_name, tensor_sha256

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..records import InMemory

# Modules of these packages hold weights in another number of bits, with a scale.
QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized", "torchao")
WAY = "Give its state dict in its place: convert(model.state_dict(), output)."


def read_memory(source: InMemory) -> Checkpoint:
    """Returns copies of a network's tensors, or of those in a mapping, under their names.

    A network's are those of its ``state_dict``, with pruning masks, weight norms and other parametrizations
    folded into the weights that they stand for.

    Args:
        source: is left as it is; a network is never run.

    Raises:
        OwnNetworkError: the network is quantized, or can't be copied.
        ReadError: something in it is no plain tensor.
    """
    tensors = source if isinstance(source, Mapping) else folded(copy_of(source)).state_dict()
    copies = {name: _copied(name, value) for name, value in tensors.items()}
    if not copies:
        raise ReadError("There is no tensor in it, expected those of a DenseNet.")
    digests = {name: tensor_sha256(tensor) for name, tensor in copies.items()}
    lines = [f"{name} {dtype_name(one)} {list(one.shape)} {digests[name]}\n" for name, one in copies.items()]
    return Checkpoint(
        copies,
        digests,
        hashlib.sha256("".join(lines).encode()).hexdigest(),
        sum(tensor.nbytes for tensor in copies.values()),
        "memory",
        origin=ORIGIN_MEMORY,
    )


def copy_of(network: nn.Module) -> nn.Module:
    """Returns a deep copy in eval mode, out of what wraps a whole network; half precision becomes float32.

    Raises:
        OwnNetworkError: the network is quantized, or can't be copied.
    """
    import torch

    network = unwrapped(network)
    for path, module in network.named_modules():
        kind = type(module)
        if kind.__module__.startswith(QUANTIZED):
            raise OwnNetworkError(
                f"{path or 'The network'} is quantized ({kind.__module__}.{kind.__qualname__}), and what it "
                "computes is no float network's. Convert the network that it was quantized from."
            )
    try:
        copied = deepcopy(network)
    except Exception as error:  # whatever a class of somebody's own raises
        reason = quoted(" ".join(str(error).split()))
        raise OwnNetworkError(
            f"The network can't be copied: {type(error).__name__}: {reason}. {WAY}"
        ) from error
    halves = (torch.float16, torch.bfloat16)
    return (copied.float() if any(one.dtype in halves for one in copied.parameters()) else copied).eval()


def unwrapped(network: nn.Module) -> nn.Module:
    """Returns the network within DataParallel, DistributedDataParallel and torch.compile."""
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    while True:
        if isinstance(network, DataParallel | DistributedDataParallel):
            network = network.module
        elif (inner := getattr(network, "_orig_mod", None)) is not None:
            network = inner
        else:
            return network


def folded(network: nn.Module) -> nn.Module:
    """Replaces what is computed of parameters alone, before each run, by what comes of it."""
    import torch
    from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
            elif isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
        if isinstance(parametrizations := getattr(module, "parametrizations", None), torch.nn.ModuleDict):
            for name in list(parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return network


def _copied(name: Any, value: Any) -> Tensor:
    import torch

    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        raise ReadError(
            f"Under {quoted(str(name))!r} stands a {type(value).__name__}, expected a tensor under a text. "
            "Give the mapping of names to tensors itself."
        )
    if value.is_meta or value.is_quantized or value.layout != torch.strided:
        raise ReadError(
            f"{quoted(name)} is meta, quantized or sparse, expected a tensor that holds its values as they "
            "are."
        )
    # On 64 bytes, as what is read from files: MKL's sums differ in the last bit by where a tensor lies.
    return value.detach().cpu().contiguous().clone()
