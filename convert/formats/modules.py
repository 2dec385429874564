"""Whole modules of torch.nn in a file: their tensors, and what each says of itself."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, TypeGuard

from .objects import Late, NumpyArray
from .raw import Broken, RawTensor
from .stand_ins import Dict, Stub
from .unpickle import PAIR
from .untrusted import Budget, FormatError, Global, shown

DEEPEST_MODULE = 64
# More numbers than the sides of an image have before and after, no setting has.
MOST_NUMBERS = 4
# The letters of numpy's numbers, for struct.
NUMBERS = {"float64": "d", "float32": "f", "int64": "q", "int32": "i"}
# Attributes of a module that make it do something beside what its class does, where they hold anything.
REPLACED = ("_forward_pre_hooks", "_forward_hooks", "forward")
TUPLES = ("builtins.tuple", "__builtin__.tuple")
PRUNING = "torch.nn.utils.prune"
# How often a module's attributes are searched for one.
LOOKUPS = 5 + len(REPLACED)
Values = list[tuple[Any, Any]]


class Layer(NamedTuple):
    """A layer as a file declares it.

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


def describe(value: Any) -> str:
    """Says what a thing is, in a few words."""
    if tensor_in(value) is not None:
        return "a tensor"
    if isinstance(value, Stub):
        return f"an object of {shown(value.callee)}" if isinstance(value.callee, Global) else "an object"
    if isinstance(value, Dict):
        first = ", ".join(f"{shown(key)}: {_kind(inner)}" for key, inner in value.pairs[:3])
        more = f" and {len(value.pairs) - 3:,} more" if len(value.pairs) > 3 else ""
        return f"a dict ({first}{more})" if value.pairs else "an empty dict"
    if value is None:
        return "nothing"
    kind = type(value).__name__
    return f"an {kind}" if kind.startswith("i") else f"a {kind}"


def _kind(value: Any) -> str:
    """As ``describe``, without what is in it."""
    return "dict" if type(value) is Dict else describe(value).removeprefix("an ").removeprefix("a ")


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


def declared_layers(root: Stub, budget: Budget) -> Iterator[tuple[str, Layer]]:
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
    if not isinstance(value, Dict):
        return value is not None
    return any(not _is_pruning(hook) for _, hook in value.pairs)


def _is_pruning(hook: Any) -> bool:
    """Whether a hook multiplies a weight with its mask, as the tensors beside it say."""
    return isinstance(hook, Stub) and isinstance(hook.callee, Global) and hook.callee.module == PRUNING


def is_module(value: Any, budget: Budget) -> TypeGuard[Stub]:
    """Many objects may share attributes, and so every search in them is paid for."""
    budget.take(len(_pairs(value.state)) if isinstance(value, Stub) else 0)
    return isinstance(value, Stub) and isinstance(value.attribute("_modules"), Dict)


def module_values(root: Stub, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Yields the names and values that the module's state_dict() would hold, in its order."""
    for prefix, module, _ in _modules(root, budget):
        temporary = _texts(module.attribute("_non_persistent_buffers_set"), budget)
        for field in ("_parameters", "_buffers"):
            for name, value in _paid(module.attribute(field), prefix, budget):
                if value is not None and name not in temporary:
                    yield f"{prefix}{name}", value


def _modules(root: Stub, budget: Budget) -> Iterator[tuple[str, Stub, str | None]]:
    """Yields each module with the prefix of its names and the path of the module that holds it.

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
            if not is_module(child, budget):
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
    """Returns the texts in a set, however the pickle made it."""
    parts = (value.items, *value.args[:1]) if isinstance(value, Stub) else ()
    lists = [part for part in parts if isinstance(part, list)]
    budget.take(PAIR * sum(map(len, lists)))
    return {item for items in lists for item in items if isinstance(item, str)}


def _pairs(value: Any) -> Values:
    return value.pairs if isinstance(value, Dict) else []


def tensor_in(value: Any) -> RawTensor | Broken | None:
    """Returns the tensor that a value of a file is, or None.

    Paddle keeps each in a pair with a name of its own, ``(name, array)``, that it makes by calling ``tuple``.

    Source: ``reduce_varbase`` in ``python/paddle/framework/io.py`` of Paddle 2.6.
    """
    if isinstance(value, Stub) and str(value.callee) in TUPLES and len(value.args) == 1:
        (value,) = value.args
    if isinstance(value, tuple) and len(value) == 2:
        named = isinstance(value[0], str) and isinstance(value[1], NumpyArray)
        value = value[1] if named else None
    value = value.tensor if isinstance(value, Late) else value
    return value if isinstance(value, RawTensor | Broken) else None
