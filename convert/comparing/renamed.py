"""Finds the tensors of a known network in a file whose names no layout explains, by their digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations

from ..layout import HEAD
from ..layouts.rearrange import PERMUTED, RENAMED
from ..records import Rewrite
from .sides import COUNTER, Side, Tensor, is_of_head

# Names in the file by dtype, shape and digest of their tensors.
Names = dict[tuple[str, tuple[int, ...], str], list[str]]


def match_names(known: Side, held: Mapping[str, Tensor]) -> tuple[Side, tuple[Rewrite, ...]] | None:
    """Returns the other side under canonical names, and the steps that lead there.

    Args:
        known: a network whose names are explained.
        held: the tensors of a file, under its own names.

    Returns:
        None if a tensor of the features is not there, or something in the file is left over.
    """
    left: Names = {}
    for name, tensor in held.items():
        left.setdefault(tensor.key, []).append(name)
    steps: list[Rewrite] = []
    for name, tensor in known.tensors.items():
        if (step := _step_for(name, tensor, left)) is not None:
            steps.append(step)
        elif not is_of_head(name) and not name.endswith(COUNTER):
            return None
    rest = [name for names in left.values() for name in names]
    counters = _own_counters(known, held, [name for name in rest if not held[name].shape])
    steps += (*counters, *_own_head(known, held, [name for name in rest if held[name].shape]))
    if len(steps) != len(held):
        return None
    return _side(known, held, steps), tuple(steps)


def _step_for(name: str, tensor: Tensor, left: Names) -> Rewrite | None:
    """Returns the step that gives a tensor, whose name in the file is then no longer left."""
    if names := left.get(tensor.key):
        return Rewrite(RENAMED, (_taken(name, names),), name)
    shapes = {key[1] for key, names in left.items() if names}
    for axes in permutations(range(len(tensor.shape))):
        turned = tensor.turned(axes)
        if turned.shape in shapes and (names := left.get(turned.key)):
            back = sorted(range(len(axes)), key=axes.__getitem__)
            return Rewrite(PERMUTED, (_taken(name, names),), name, transform={"permute": back})
    return None


def _taken(name: str, names: list[str]) -> str:
    """Takes one of the names of equal tensors away: its own, where that is one of them."""
    return names.pop(names.index(name) if name in names else 0)


def _own_counters(known: Side, held: Mapping[str, Tensor], names: list[str]) -> list[Rewrite]:
    """Returns the steps for counters that the known side lacks, if all count the same."""
    lacking = [name for name in known.config.tensor_shapes() if name.endswith(COUNTER)]
    lacking = [name for name in lacking if name not in known.tensors]
    if len(names) != len(lacking) or len({held[name].key for name in names}) > 1:
        return []
    return [Rewrite(RENAMED, (theirs,), name) for theirs, name in zip(names, lacking, strict=True)]


def _own_head(known: Side, held: Mapping[str, Tensor], names: list[str]) -> list[Rewrite]:
    """Returns the steps for a head of the file's own, if that is all that is left."""
    width = known.config.num_features
    weights = [name for name in names if len(held[name].shape) == 2]
    biases = [name for name in names if len(held[name].shape) == 1]
    if len(weights) != 1 or len(biases) != 1 or len(names) != 2:
        return []
    (classes,), shape = held[biases[0]].shape, held[weights[0]].shape
    bias = Rewrite(RENAMED, (biases[0],), f"{HEAD}.bias")
    if shape == (classes, width):
        return [Rewrite(RENAMED, (weights[0],), f"{HEAD}.weight"), bias]
    if shape == (width, classes):
        return [Rewrite(PERMUTED, (weights[0],), f"{HEAD}.weight", transform={"permute": [1, 0]}), bias]
    return []


def _side(known: Side, held: Mapping[str, Tensor], steps: list[Rewrite]) -> Side:
    tensors: dict[str, Tensor] = {}
    for step in steps:
        tensor = held[step.sources[0]]
        tensors[step.target] = tensor if step.transform is None else tensor.turned(step.transform["permute"])
    classes = tensors[f"{HEAD}.bias"].shape[0] if f"{HEAD}.bias" in tensors else 0
    config = replace(known.config, num_classes=classes)
    names = [name for name in config.tensor_shapes() if name in tensors]
    sources = {step.target: step.sources[0] for step in steps}
    return Side(config, {name: tensors[name] for name in names}, sources)
