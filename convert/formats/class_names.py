"""Names of the classes, as training scripts keep them in a checkpoint beside the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .stand_ins import Dict, Stub
from .unpickle import PAIR
from .untrusted import Budget

LONGEST_LABEL = 1000
LONGEST_NUMBER = 10
MOST_CLASSES = 1 << 16
# Names in a list, and names with their numbers, of torchvision's datasets, OpenMMLab and transformers.
LISTS = ("classes", "class_names", "label_names", "labels", "CLASSES")
NUMBERED = ("class_to_idx", "idx_to_class", "id2label", "label2id")
# Keys that hold them, beside the file's own dict: settings of Lightning, OpenMMLab and other trainers.
HOLDERS = ("hyper_parameters", "hparams", "meta", "args", "config")

Names = tuple[str, ...]


def is_label(value: Any) -> bool:
    """Whether a value can be a class's name."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_LABEL and value.isprintable()


def by_number(pairs: list[tuple[Any, Any]]) -> Names | None:
    """Returns the names of classes 0, 1 and so on, of pairs of a name and its number, either way round."""
    if pairs and all(is_label(key) and type(value) is int for key, value in pairs):
        pairs = [(value, key) for key, value in pairs]
    numbers = [_number(key) for key, _ in pairs]
    if any(type(number) is not int for number in numbers) or sorted(numbers) != list(range(len(pairs))):
        return None
    found = dict(zip(numbers, (value for _, value in pairs), strict=True))
    names = [found[number] for number in range(len(pairs))]
    return tuple(names) if names and all(map(is_label, names)) else None


def _number(key: Any) -> Any:
    """Returns the number that a key is in words of a few digits, or the key."""
    return int(key) if isinstance(key, str) and len(key) < LONGEST_NUMBER and key.isdecimal() else key


def find_class_names(root: Any, budget: Budget) -> dict[str, Names]:
    """Returns the names that a file's object holds, by the keys that lead to each, joined by dots."""
    holders = [("", root), *((f"{key}.", value) for key, value in _fields(root) if key in HOLDERS)]
    found: dict[str, Names] = {}
    for prefix, holder in holders:
        for key, value in _fields(holder):
            names = _names_in(value, budget) if key in (*LISTS, *NUMBERED) else None
            if names:
                found[prefix + key] = names
    return found


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the pairs of a dict, and the attributes of an object, under text."""
    pairs = list(value.pairs) if isinstance(value, Dict) else []
    if isinstance(value, Stub) and isinstance(value.state, Dict):
        pairs += value.state.pairs
    yield from ((key, inner) for key, inner in pairs if isinstance(key, str))


def _names_in(value: Any, budget: Budget) -> Names | None:
    """Returns the names in a list of them, or in a dict of names and numbers; None where it is neither."""
    held: Any = value.pairs if isinstance(value, Dict) else value
    if isinstance(value, Stub) and not held:
        held = value.items
    if not isinstance(held, list | tuple) or len(held) > MOST_CLASSES:
        return None
    budget.take(PAIR * len(held))
    if isinstance(value, Dict) and value.pairs:
        return by_number(list(held))
    names: Names = tuple(one for one in held if is_label(one))
    return names if names and len(names) == len(held) else None
