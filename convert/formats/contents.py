"""Which of the things in a file is the state dict, and what its tensors are called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from .objects import Late
from .raw import Broken, FormatError, Global, RawTensor
from .unpickle import Dict, Stub

# How deep a state dict may lie: {"checkpoint": {"model": {"state_dict": ...}}}.
DEEPEST = 4
# More modules, or longer names, than any network has would only take time.
MOST_MODULES = 1 << 16
LONGEST_NAME = 1000
ALONE = "Save the state dict that you mean, alone, to a file of its own."

Values = list[tuple[Any, Any]]


def find_state_dict(root: Any) -> tuple[str | None, dict[str, RawTensor]]:
    """The keys that lead to the state dict, joined by dots, and its tensors.

    The keys are None where it is the file's own object.  A state dict is a dict of
    tensors, or a module, of which the parameters and persistent buffers are taken.

    Raises:
        FormatError: there is none, there are several that differ, or it holds what is no
            plain tensor.
    """
    found = [(path, values) for path, values in _candidates(root) if any(map(_is_tensor, values))]
    if not found:
        raise FormatError(f"it holds {describe(root)}, expected a dict of tensors", ALONE)
    # Metrics are scalars, and what holds a state dict holds other things; a network does neither.
    networks = [candidate for candidate in found if _looks_like_network(candidate[1])]
    whole = [candidate for candidate in found if all(map(_is_tensor, candidate[1]))]
    states = [(path, _named(values)) for path, values in networks or whole or found]
    if len({tuple((name, tensor.key) for name, tensor in state.items()) for _, state in states}) > 1:
        shown = ", ".join(path or "the file's own dict" for path, _ in states)
        raise FormatError(f"it holds several state dicts, which differ: {shown}", ALONE)
    path, state = states[0]
    return path or None, state


def describe(value: Any) -> str:
    """What a thing is, in a few words."""
    if _tensor(value) is not None:
        return "a tensor"
    if isinstance(value, Stub):
        return (
            f"an object of {_label(str(value.callee))[1:-1]}"
            if isinstance(value.callee, Global)
            else "an object"
        )
    if isinstance(value, Dict):
        shown = ", ".join(f"{_label(key)}: {_kind(inner)}" for key, inner in value.pairs[:3])
        more = f" and {len(value.pairs) - 3:,} more" if len(value.pairs) > 3 else ""
        return f"a dict ({shown}{more})" if value.pairs else "an empty dict"
    return "nothing" if value is None else f"a {type(value).__name__}"


def _kind(value: Any) -> str:
    """As ``describe``, without what is in it."""
    return "dict" if type(value) is Dict else describe(value).removeprefix("an ").removeprefix("a ")


def _label(key: Any) -> str:
    """A stranger's word, cut and escaped."""
    return (
        ascii(key[:99] if isinstance(key, str | bytes) else key)
        if isinstance(key, str | int | bytes)
        else "?"
    )


def scalars(root: Any) -> dict[str, Any]:
    """What the file's own dict says in words and numbers, such as its epoch."""
    pairs = root.pairs if isinstance(root, Dict) else []
    return {
        key[:LONGEST_NAME]: value
        for key, value in pairs
        if isinstance(key, str) and isinstance(value, str | int | float) and len(str(value)) < LONGEST_NAME
    }


def _candidates(root: Any) -> Iterator[tuple[str, Values]]:
    """Every dict that could be one, and every module, with the path that leads there."""
    seen: set[int] = set()
    level: list[tuple[str, Any]] = [("", root)]
    for _ in range(DEEPEST):
        below: list[tuple[str, Any]] = []
        for path, value in level:
            if id(value) in seen or not isinstance(value, Dict) or _is_optimizer(value):
                continue
            seen.add(id(value))
            if _is_module(value):
                yield path, list(_module_values(value))
                continue
            yield path, value.pairs
            below += [
                (f"{path}.{key}".lstrip("."), inner) for key, inner in value.pairs if isinstance(key, str)
            ]
        level = below


def _is_optimizer(value: Dict) -> bool:
    return {"state", "param_groups"} <= {key for key, _ in value.pairs if isinstance(key, str)}


def _is_module(value: Any) -> TypeGuard[Stub]:
    return isinstance(value, Stub) and isinstance(value.attribute("_modules"), Dict)


def _module_values(root: Stub) -> Iterator[tuple[str, Any]]:
    """What the module's state_dict() would hold, in its order."""
    waiting = [("", root)]
    for _ in range(MOST_MODULES):
        if not waiting:
            return
        prefix, module = waiting.pop()
        temporary = _set_items(module.attribute("_non_persistent_buffers_set"))
        for field in ("_parameters", "_buffers"):
            for name, value in _pairs(module.attribute(field)):
                if value is not None and name not in temporary:
                    yield f"{prefix}{name}", value
        for name, child in reversed(_pairs(module.attribute("_modules"))):
            path = f"{prefix}{name}."
            if child is None:
                continue
            if len(path) > LONGEST_NAME:
                raise FormatError(f"its modules hold one another without end: {path[:99]}")
            if not _is_module(child):
                raise FormatError(
                    f"its module {path[:99]} is {describe(child)}, expected a module of torch.nn"
                )
            waiting.append((path, child))
    raise FormatError(f"it holds more than {MOST_MODULES:,} modules")


def _set_items(value: Any) -> list[Any]:
    """What is in a set, however the pickle made it."""
    if not isinstance(value, Stub):
        return []
    return [item for part in (value.items, *value.args) if isinstance(part, list) for item in part]


def _pairs(value: Any) -> Values:
    return value.pairs if isinstance(value, Dict) else []


def _is_tensor(pair: tuple[Any, Any]) -> bool:
    return _tensor(pair[1]) is not None


def _looks_like_network(values: Values) -> bool:
    """Whether most of it are tensors, and one has two dimensions or more."""
    tensors = [tensor for _, value in values if (tensor := _tensor(value)) is not None]
    kernels = any(isinstance(tensor, RawTensor) and len(tensor.shape) > 1 for tensor in tensors)
    return kernels and 2 * len(tensors) > len(values)


def _tensor(value: Any) -> RawTensor | Broken | None:
    value = value.tensor if isinstance(value, Late) else value
    return value if isinstance(value, RawTensor | Broken) else None


def _named(values: Values) -> dict[str, RawTensor]:
    """The tensors by name.  Raises FormatError for the first thing that is none, or has no proper name."""
    tensors: dict[str, RawTensor] = {}
    for name, value in values:
        tensor = _tensor(value)
        shown = _label(name)
        if not isinstance(name, str) or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise FormatError(
                f"it holds {describe(value)} under the name {shown}, expected names that are text", ALONE
            )
        if isinstance(tensor, Broken):
            raise FormatError(f"{shown}: {tensor.reason}")
        if tensor is None:
            raise FormatError(f"it holds {describe(value)} as {shown}, expected a plain tensor", ALONE)
        if tensor.overlaps():
            raise FormatError(
                f"elements of {shown} share memory: its shape is {list(tensor.shape)} and its strides are "
                f"{list(tensor.strides)}",
                "Save a clone() of that tensor.",
            )
        if name in tensors:
            raise FormatError(f"it holds {shown} twice")
        tensors[name] = tensor
    return tensors
