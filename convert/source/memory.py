"""Reads what is in memory already: a network at hand, or a mapping of names to tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
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
    tensors = source if isinstance(source, Mapping) else _tensors_of(_deep_copy(source))
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
    """Returns a deep copy that can run, out of what wraps a whole network; half precision becomes float32.

    Raises:
        OwnNetworkError: the network is quantized, or can't be copied.
    """
    import torch

    copied, halves = _deep_copy(network), (torch.float16, torch.bfloat16)
    return copied.float() if any(one.dtype in halves for one in copied.parameters()) else copied


def _deep_copy(network: nn.Module) -> nn.Module:
    """Returns a copy in eval mode, in which what is computed of parameters is as it would be then."""
    network = unwrapped(network)
    for path, module in network.named_modules():
        kind = type(module)
        if kind.__module__.startswith(QUANTIZED):
            raise OwnNetworkError(
                f"{path or 'The network'} is quantized ({kind.__module__}.{kind.__qualname__}), and what it "
                "computes is no float network's. Convert the network that it was quantized from."
            )
    try:
        return deepcopy(network, _computed_tensors(network)).eval()
    except Exception as error:  # whatever a class of somebody's own raises
        reason = quoted(" ".join(str(error).split()))
        raise OwnNetworkError(
            f"The network can't be copied: {type(error).__name__}: {reason}. {WAY}"
        ) from error


def _computed_tensors(network: nn.Module) -> dict[int, Any]:
    """Returns what deepcopy is to take for tensors that are computed of others, which it can't copy."""
    held = [value for module in network.modules() for value in vars(module).values()]
    return {id(one): one.detach().clone() for one in held if getattr(one, "grad_fn", None) is not None}


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


def _tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Returns its state dict, in which what is computed of parameters before each run has its own name."""
    tensors = dict(network.state_dict())
    for path, module in network.named_modules():
        before = f"{path}." if path else ""
        for name, tensor, parts in _computed(module):
            for part in parts:
                tensors.pop(before + part, None)
            tensors[before + name] = tensor
    return tensors


def _computed(module: nn.Module) -> Iterator[tuple[str, Tensor, list[str]]]:
    """Yields each tensor of a module that is computed of others before it runs, and what these are called."""
    import torch
    from torch.nn.utils.prune import BasePruningMethod
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    if isinstance(module, torch.jit.ScriptModule):
        return
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            name = hook._tensor_name
            yield name, hook.apply_mask(module), [f"{name}_orig", f"{name}_mask"]  # type: ignore[no-untyped-call]
        elif isinstance(hook, WeightNorm):
            yield hook.name, hook.compute_weight(module), [f"{hook.name}_g", f"{hook.name}_v"]
        elif isinstance(hook, SpectralNorm):
            weight = hook.compute_weight(module, do_power_iteration=False)
            yield hook.name, weight, [f"{hook.name}_{part}" for part in ("orig", "u", "v")]
    if isinstance(parametrized := getattr(module, "parametrizations", None), torch.nn.ModuleDict):
        for name in parametrized:
            parts = [f"parametrizations.{name}.{part}" for part in parametrized[name].state_dict()]
            yield name, getattr(module, name), parts


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
