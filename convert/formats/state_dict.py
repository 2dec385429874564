"""Which of the things in a file is the state dict, and what its tensors are called."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, TypeGuard

from .containers import Candidate, candidates
from .modules import Layers, Values, declared_layers, describe, tensor_in
from .raw import Broken, RawTensor
from .stand_ins import Dict
from .untrusted import ALONE, Budget, FormatError, SeveralError, shown

LONGEST_SCALAR = 1000
# Libraries' names of a kernel.
WEIGHTS = ("weight", "kernel")
# Several times what a tensor of a network within networks is called.
LONGEST_NAME = 500
CHOOSE = "Choose one with `key=...`."


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
        SeveralError: there are several, which differ.
        FormatError: there is none, or it holds what is no plain tensor.
    """
    chosen = _chosen(root, budget, key)
    states, errors = _states(chosen)
    if not states:
        raise errors[0]
    digests: dict[Any, bytes] = {}
    if errors or any(_differ(states[0], state, budget, digests) for state in states[1:]):
        keys = list(dict.fromkeys(one.key for one in chosen))
        first = ", ".join(shown(key) if key else "its own dict" for key in keys[:4])
        more = f" and {len(keys) - 4:,} more" if len(keys) > 4 else ""
        found = f"it holds {len(chosen)} state dicts, which differ: {first}{more}"
        raise SeveralError(found, CHOOSE, tuple(keys))
    if not _is_text(chosen[0].key):
        label = shown(chosen[0].key)
        raise FormatError(
            f"its state dict is under the key {label}, expected text of up to {LONGEST_NAME} letters", ALONE
        )
    # All hold the same tensors, and a module says what is done with them.
    module = next((one.module for one in chosen if one.module is not None), None)
    layers = {} if module is None else dict(declared_layers(module, budget))
    return chosen[0].key or None, states[0], layers


def _chosen(root: Any, budget: Budget, key: str | None) -> list[Candidate]:
    """Returns the candidates that look most like a network; all under ``key``, where that is given.

    Raises:
        FormatError: there is none.
    """
    found = [one for one in candidates(root, budget) if any(map(_is_tensor, one.values))]
    if not found:
        raise FormatError(f"it holds {describe(root)}, expected a dict of tensors", ALONE)
    if key is not None:
        listed = ", ".join(shown(one.key) for one in found[:4])
        found = [one for one in found if one.key == key]
        if not found:
            raise FormatError(f"it holds no dict of tensors under {shown(key)}, only under {listed}", CHOOSE)
    # Metrics are scalars, and what holds a state dict holds other things; a network does neither.
    networks = [one for one in found if _looks_like_network(one.values)]
    # Moments of an optimizer have the shapes of weights, and other names.
    called = [one for one in networks if any(map(_is_called_weight, one.values))]
    whole = [one for one in found if all(map(_is_tensor, one.values))]
    return called or networks or whole or found


def _states(chosen: list[Candidate]) -> tuple[list[dict[str, RawTensor]], list[FormatError]]:
    """Returns the named tensors of each candidate, and what is wrong with those that are none."""
    states, errors = [], []
    for one in chosen:
        try:
            states.append(_named(one.values))
        except FormatError as error:
            errors.append(error)
    return states, errors


def scalars(root: Any) -> dict[str, Any]:
    """Returns what the file's own dict says in words and numbers, such as its epoch."""
    pairs = root.pairs if isinstance(root, Dict) else []
    return {key[:LONGEST_SCALAR]: value for key, value in filter(_is_scalar, pairs)}


def _is_scalar(pair: tuple[Any, Any]) -> bool:
    key, value = pair
    return isinstance(key, str) and isinstance(value, str | int | float) and len(str(value)) < LONGEST_SCALAR


def _is_tensor(pair: tuple[Any, Any]) -> bool:
    return tensor_in(pair[1]) is not None


def _looks_like_network(values: Values) -> bool:
    """Whether most of it are tensors, and one has two dimensions or more."""
    tensors = [tensor for _, value in values if (tensor := tensor_in(value)) is not None]
    kernels = any(isinstance(tensor, RawTensor) and len(tensor.shape) > 1 for tensor in tensors)
    return kernels and 2 * len(tensors) > len(values)


def _is_called_weight(pair: tuple[Any, Any]) -> bool:
    """Whether it is a kernel, and is called so."""
    name, tensor = pair[0], tensor_in(pair[1])
    last = name.replace("/", ".").rpartition(".")[2] if isinstance(name, str) else ""
    return isinstance(tensor, RawTensor) and len(tensor.shape) > 1 and last.startswith(WEIGHTS)


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
            raise FormatError(f"{label}: {tensor.reason}", tensor.advice)
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
