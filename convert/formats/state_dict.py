"""Which of the things in a file is the state dict, and what its tensors are called."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, TypeGuard

from .modules import Layers, Values, declared_layers, describe, is_module, module_values, tensor_in
from .raw import Broken, RawTensor
from .stand_ins import Dict, Stub
from .untrusted import Budget, FormatError, shown

# How deep a state dict may lie: {"checkpoint": {"model": {"state_dict": ...}}}.
DEEPEST = 4
LONGEST_SCALAR = 1000
# Several times what a tensor of a network within networks is called.
LONGEST_NAME = 500
CHOOSE = "Choose one with --key, of file and inspect."
ALONE = "Save the state dict that you mean, alone, to a file of its own."
Path = tuple[str, ...]


def find_state_dict(
    root: Any, budget: Budget, key: str | None = None
) -> tuple[str | None, dict[str, RawTensor], Layers]:
    """The keys that lead to the state dict, joined by dots, its tensors, and what is told of its layers.

    The keys are None where it is the file's own object.  A state dict is a dict of
    tensors, which tells nothing of layers, or a module, of which the parameters and
    persistent buffers are taken.

    Args:
        root: the file's object.
        budget: pays for the search.
        key: the keys that must lead there; ``""`` for the file's own object.

    Raises:
        FormatError: there is none, there are several that differ, or it holds what is no
            plain tensor.
    """
    if not isinstance(root, Dict):
        raise FormatError(f"it holds {describe(root)}, expected a dict of tensors", ALONE)
    found = [candidate for candidate in _candidates(root, budget) if any(map(_is_tensor, candidate[1]))]
    if not found:
        raise FormatError(f"it holds {describe(root)}, expected a dict of tensors", ALONE)
    if key is not None:
        named = [".".join(path) for path, *_ in found]
        found = [candidate for candidate in found if ".".join(candidate[0]) == key]
        if not found:
            listed = ", ".join(shown(name) for name in named[:4])
            raise FormatError(f"it holds no dict of tensors under {shown(key)}, only under {listed}", CHOOSE)
    # Metrics are scalars, and what holds a state dict holds other things; a network does neither.
    networks = [candidate for candidate in found if _looks_like_network(candidate[1])]
    whole = [candidate for candidate in found if all(map(_is_tensor, candidate[1]))]
    chosen = networks or whole or found
    states = [(path, _named(values)) for path, values, _ in chosen]
    digests: dict[Any, bytes] = {}
    if any(_differ(states[0][1], state, budget, digests) for _, state in states[1:]):
        first = ", ".join(shown(".".join(path)) if path else "its own dict" for path, _ in states[:4])
        raise FormatError(f"it holds {len(states)} state dicts, which differ: {first}", CHOOSE)
    path, state = states[0]
    if not _is_text(".".join(path)):
        label = shown(".".join(path))
        raise FormatError(
            f"its state dict is under the key {label}, expected text of up to {LONGEST_NAME} letters", ALONE
        )
    # All hold the same tensors, and a module says what is done with them.
    module = next((module for *_, module in chosen if module is not None), None)
    layers = {} if module is None else dict(declared_layers(module, budget))
    return ".".join(path) or None, state, layers


def scalars(root: Any) -> dict[str, Any]:
    """Returns what the file's own dict says in words and numbers, such as its epoch."""
    pairs = root.pairs if isinstance(root, Dict) else []
    return {key[:LONGEST_SCALAR]: value for key, value in filter(_is_scalar, pairs)}


def _is_scalar(pair: tuple[Any, Any]) -> bool:
    key, value = pair
    return isinstance(key, str) and isinstance(value, str | int | float) and len(str(value)) < LONGEST_SCALAR


def _candidates(root: Any, budget: Budget) -> Iterator[tuple[Path, Values, Stub | None]]:
    """Every dict that could be one, and every module, with the keys that lead there.

    The module itself comes last, and None for a dict.
    """
    seen: set[int] = set()
    level: list[tuple[Path, Any]] = [((), root)]
    for _ in range(DEEPEST):
        below: list[tuple[Path, Any]] = []
        for path, value in level:
            if id(value) in seen or _is_optimizer(value):
                continue
            seen.add(id(value))
            if is_module(value, budget):
                yield path, list(module_values(value, budget)), value
            else:
                yield path, value.pairs, None
                below += [((*path, key), inner) for key, inner in value.pairs if _may_hold(key, inner)]
        level = below


def _may_hold(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Dict)


def _is_optimizer(value: Dict) -> bool:
    return {"state", "param_groups"} <= {key for key, _ in value.pairs if isinstance(key, str)}


def _is_tensor(pair: tuple[Any, Any]) -> bool:
    return tensor_in(pair[1]) is not None


def _looks_like_network(values: Values) -> bool:
    """Whether most of it are tensors, and one has two dimensions or more."""
    tensors = [tensor for _, value in values if (tensor := tensor_in(value)) is not None]
    kernels = any(isinstance(tensor, RawTensor) and len(tensor.shape) > 1 for tensor in tensors)
    return kernels and 2 * len(tensors) > len(values)


def _differ(
    one: dict[str, RawTensor], other: dict[str, RawTensor], budget: Budget, digests: dict[Any, bytes]
) -> bool:
    """Whether a name, dtype, shape or value does; ``digests`` are those that were paid for already."""
    if one.keys() != other.keys():
        return True
    pairs = [(tensor, other[name]) for name, tensor in one.items()]
    if any((a.dtype, a.shape) != (b.dtype, b.shape) for a, b in pairs):
        return True
    for tensor in (tensor for pair in pairs for tensor in pair if pair[0].key != pair[1].key):
        if tensor.key not in digests:
            budget.take(tensor.nbytes)
            digests[tensor.key] = sha256(tensor.row_major()).digest()
    return any(a.key != b.key and digests[a.key] != digests[b.key] for a, b in pairs)


def _is_text(name: Any) -> TypeGuard[str]:
    return (
        isinstance(name, str)
        and len(name) <= LONGEST_NAME
        and not any("\ud800" <= letter <= "\udfff" for letter in name)
    )


def _named(values: Values) -> dict[str, RawTensor]:
    """The tensors by name.  Raises FormatError for the first thing that is none, or has no proper name."""
    tensors: dict[str, RawTensor] = {}
    for name, value in values:
        tensor = tensor_in(value)
        label = shown(name)
        if not _is_text(name):
            raise FormatError(
                f"it holds {describe(value)} under the name {label}, expected names that are text of up to "
                f"{LONGEST_NAME} letters",
                ALONE,
            )
        if isinstance(tensor, Broken):
            raise FormatError(f"{label}: {tensor.reason}")
        if tensor is None:
            raise FormatError(f"it holds {describe(value)} as {label}, expected a plain tensor", ALONE)
        if tensor.overlaps():
            raise FormatError(
                f"elements of {label} share memory: its shape is {list(tensor.shape)} and its strides are "
                f"{list(tensor.strides)}",
                "Save a clone() of that tensor.",
            )
        if name in tensors:
            raise FormatError(f"it holds {label} twice")
        tensors[name] = tensor
    return tensors
