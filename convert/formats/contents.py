"""Which of the things in a file is the state dict, and what its tensors are called."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple, TypeGuard

from .objects import Late, NumpyArray
from .raw import Broken, Budget, FormatError, Global, RawTensor, shown
from .unpickle import PAIR, Dict, Stub

# How deep a state dict may lie: {"checkpoint": {"model": {"state_dict": ...}}}.
DEEPEST = 4
DEEPEST_MODULE = 64
LONGEST_SCALAR = 1000
# Several times what a tensor of a network within networks is called.
LONGEST_NAME = 500
# More numbers than the sides of an image have before and after, no setting has.
MOST_NUMBERS = 4
# The letters of numpy's numbers, for struct.
NUMBERS = {"float64": "d", "float32": "f", "int64": "q", "int32": "i"}
# Attributes of a module that make it do something beside what its class does, where they hold anything.
REPLACED = ("_forward_pre_hooks", "_forward_hooks", "forward")
# How often a module's attributes are searched for one.
LOOKUPS = 5 + len(REPLACED)
CHOOSE = "Choose one with --key, of file and inspect."
ALONE = "Save the state dict that you mean, alone, to a file of its own."

Values = list[tuple[Any, Any]]
Path = tuple[str, ...]


class Layer(NamedTuple):
    """What a file tells of one layer.

    Attributes:
        kind: its class, such as ``torch.nn.modules.conv.Conv2d``; Keras' without a module.
        settings: those that are words, numbers or tuples of them; what is None is None here, too.
        within: path of the module that holds it; None for the outermost.
        replaced: the first attribute, if there is one, that makes it do something else than its class.
        inputs: names of the layers that it takes, in a model of Keras that is no sequence.
    """

    kind: str
    settings: dict[str, Any]
    within: str | None = None
    replaced: str | None = None
    inputs: tuple[str, ...] = ()


# By the path of each, in the file's order.
Layers = dict[str, Layer]


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
            told = ", ".join(shown(name) for name in named[:4])
            raise FormatError(f"it holds no dict of tensors under {shown(key)}, only under {told}", CHOOSE)
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
    layers = {} if module is None else dict(_told(module, budget))
    return ".".join(path) or None, state, layers


def describe(value: Any) -> str:
    """What a thing is, in a few words."""
    if _tensor(value) is not None:
        return "a tensor"
    if isinstance(value, Stub):
        return f"an object of {shown(value.callee)}" if isinstance(value.callee, Global) else "an object"
    if isinstance(value, Dict):
        first = ", ".join(f"{shown(key)}: {_kind(inner)}" for key, inner in value.pairs[:3])
        more = f" and {len(value.pairs) - 3:,} more" if len(value.pairs) > 3 else ""
        return f"a dict ({first}{more})" if value.pairs else "an empty dict"
    kind = type(value).__name__
    return "nothing" if value is None else f"an {kind}" if kind.startswith("i") else f"a {kind}"


def _kind(value: Any) -> str:
    """As ``describe``, without what is in it."""
    return "dict" if type(value) is Dict else describe(value).removeprefix("an ").removeprefix("a ")


def scalars(root: Any) -> dict[str, Any]:
    """What the file's own dict says in words and numbers, such as its epoch."""
    pairs = root.pairs if isinstance(root, Dict) else []
    return {
        key[:LONGEST_SCALAR]: value
        for key, value in pairs
        if isinstance(key, str) and isinstance(value, str | int | float) and len(str(value)) < LONGEST_SCALAR
    }


def plain(value: Any, deep: int = 2) -> Any:
    """A setting that is a word, a number or a few of them, which may be lists; None for anything else."""
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple) and len(value) <= MOST_NUMBERS and deep:
        return tuple(plain(part, deep - 1) for part in value)
    if isinstance(value, NumpyArray) and isinstance(value.tensor, RawTensor) and not value.tensor.shape:
        letter = NUMBERS.get(value.tensor.dtype)
        return struct.unpack(f"={letter}", value.tensor.row_major())[0] if letter else None
    return None


def _told(root: Stub, budget: Budget) -> Iterator[tuple[str, Layer]]:
    """Every module within, and itself, with what it says of itself; paid for at each visit."""
    for prefix, module, within in _modules(root, budget):
        settings = {}
        for name, value in _pairs(module.state):
            setting = plain(value)
            if isinstance(name, str) and not name.startswith("_") and (value is None or setting is not None):
                budget.take(PAIR)
                settings[name] = setting
        kind = str(module.callee) if isinstance(module.callee, Global) else ""
        budget.take(PAIR + len(kind) + len(prefix))
        yield (
            prefix[:-1],
            Layer(kind, settings, within, next(filter(partial(_holds, module), REPLACED), None)),
        )


def _holds(module: Stub, name: str) -> bool:
    value = module.attribute(name)
    return bool(_pairs(value)) if isinstance(value, Dict) else value is not None


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
            if _is_module(value, budget):
                yield path, list(_module_values(value, budget)), value
            else:
                yield path, value.pairs, None
                below += [((*path, key), inner) for key, inner in value.pairs if _may_hold(key, inner)]
        level = below


def _may_hold(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Dict)


def _is_optimizer(value: Dict) -> bool:
    return {"state", "param_groups"} <= {key for key, _ in value.pairs if isinstance(key, str)}


def _is_module(value: Any, budget: Budget) -> TypeGuard[Stub]:
    """Many objects may share attributes, and so every search in them is paid for."""
    budget.take(len(_pairs(value.state)) if isinstance(value, Stub) else 0)
    return isinstance(value, Stub) and isinstance(value.attribute("_modules"), Dict)


def _module_values(root: Stub, budget: Budget) -> Iterator[tuple[str, Any]]:
    """What the module's state_dict() would hold, in its order."""
    for prefix, module, _ in _modules(root, budget):
        temporary = _texts(module.attribute("_non_persistent_buffers_set"), budget)
        for field in ("_parameters", "_buffers"):
            for name, value in _paid(module.attribute(field), prefix, budget):
                if value is not None and name not in temporary:
                    yield f"{prefix}{name}", value


def _modules(root: Stub, budget: Budget) -> Iterator[tuple[str, Stub, str | None]]:
    """What stands before a module's names, the module, and the path of the one that holds it.

    One module may be in many places, and so every visit is paid for.
    """
    waiting: list[tuple[str, Stub, str | None]] = [("", root, None)]
    while waiting:
        prefix, module, within = waiting.pop()
        budget.take(LOOKUPS * len(_pairs(module.state)))
        yield prefix, module, within
        for name, child in reversed(_paid(module.attribute("_modules"), prefix, budget)):
            if child is None:
                continue
            path = f"{prefix}{name}."
            if path.count(".") > DEEPEST_MODULE:
                raise FormatError(f"its modules hold one another without end: {path[:99]}")
            if not _is_module(child, budget):
                raise FormatError(
                    f"its module {path[:99]} is {describe(child)}, expected a module of torch.nn"
                )
            waiting.append((path, child, prefix[:-1]))


def _paid(value: Any, prefix: str, budget: Budget) -> Values:
    """The pairs of a module's dict, whose names are about to be made."""
    pairs = _pairs(value)
    for name, _ in pairs:
        if not isinstance(name, str):
            raise FormatError(f"a module names a part of it {shown(name)}, expected text")
        budget.take(PAIR + len(prefix) + len(name))
    return pairs


def _texts(value: Any, budget: Budget) -> set[str]:
    """The texts in a set, however the pickle made it."""
    parts = (value.items, *value.args[:1]) if isinstance(value, Stub) else ()
    budget.take(PAIR * sum(len(part) for part in parts if isinstance(part, list)))
    return {item for part in parts if isinstance(part, list) for item in part if isinstance(item, str)}


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
        tensor = _tensor(value)
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
