"""Applies a layout's table to names: what each becomes, what is left out, and what it can't account for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from densenet_convert.densenet import DenseNetConfig

from ..layout import HEAD, Layout

LEFT_OUT = "left out by --only"
# What people call the last layer.
HEADS = (
    "classifier",
    "fc",
    "head",
    "last_linear",
    "linear",
    "logits",
    "out",
    "output",
    "predictions",
    "dense",
)
# What thop puts beside every layer, and nothing reads: https://github.com/Lyken17/pytorch-OpCounter
OPERATION_COUNTS = ("total_ops", "total_params")
# What a part of the features is called.
STEP = re.compile(r"(?:pad|conv|norm|relu|pool|denseblock|transition)\d+\.", re.ASCII)
DENSE_LAYER = re.compile(r"features\.denseblock([1-9]\d{0,8})\.denselayer([1-9]\d{0,8})\.", re.ASCII)


@dataclass(frozen=True)
class Explanation:
    """How a layout reads a set of names.

    Attributes:
        targets: canonical name of each source name that is kept.
        dropped: reason for each source name that is left out.
        problems: one sentence for each name that the layout can't account for.
        axes: for each source name whose axes lie otherwise, these in canonical order.
    """

    targets: dict[str, str]
    dropped: dict[str, str]
    problems: tuple[str, ...]
    axes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def missing(targets: Collection[str]) -> list[str]:
    """Canonical names that a whole network would have beside these; counters and classifier aside."""
    layers = {(int(m[1]), int(m[2])) for name in targets if (m := DENSE_LAYER.match(name))}
    counts = Counter(block for block, _ in layers)
    # As many of each as there are, so that the numbers in a stranger's names cost nothing.
    blocks = [counts.get(block, 1) for block in range(1, len(counts) + 1)] or [1]
    expected = DenseNetConfig(block_config=tuple(blocks), num_classes=0).tensor_shapes()
    found = set(targets)
    return [name for name in expected if name not in found and not name.endswith(".num_batches_tracked")]


def explain(layout: Layout, names: Iterable[str], *, whole: bool = True) -> Explanation:
    """Accounts for every name, or says in ``problems`` which it can't.

    Args:
        layout: the table, with its wrapping.
        names: the source's.
        whole: these are all names of a source; otherwise what is left out may be missing.
    """
    rules = [(re.compile(rule.pattern, re.ASCII), rule) for rule in layout.rules]
    drops = [(re.compile(drop.pattern, re.ASCII), drop) for drop in layout.drops]
    targets: dict[str, str] = {}
    sources: dict[str, str] = {}
    dropped: dict[str, str] = {}
    axes: dict[str, tuple[int, ...]] = {}
    unmatched = set(layout.drops)
    problems: list[str] = []
    for name in names:
        own = layout.own_name(name)
        if own is None:
            beside = f"beside the head {layout.wrapped_head}"
            where = beside if layout.is_replaced(name) else f"not under {layout.prefix!r}"
            if layout.only:
                dropped[name] = f"{where}, {LEFT_OUT}"
            else:
                problems.append(f"{name} is {where}")
            continue
        found = [(m.expand(rule.target), rule) for p, rule in rules if (m := p.fullmatch(own))]
        left = [drop for pattern, drop in drops if pattern.fullmatch(own)]
        if layout.only and not found and not left:
            dropped[name] = f"not a part of the DenseNet, {LEFT_OUT}"
        elif len(found) + len(left) != 1:
            count = f"{len(found) + len(left)} rules" if found or left else "no rule"
            problems.append(f"{name} is explained by {count}")
        elif left:
            dropped[name] = left[0].because
            unmatched.discard(left[0])
        elif found[0][0] in sources:
            problems.append(f"{sources[found[0][0]]} and {name} both become {found[0][0]}")
        else:
            target, rule = found[0]
            targets[name], sources[target] = target, name
            if rule.axes is not None:
                axes[name] = rule.axes
    if layout.only and not targets:
        problems.append(f"nothing of a DenseNet is under {layout.prefix!r}")
    elif layout.only:
        problems += [f"{name} is missing" for name in missing(targets.values())]
        left_out = [name for name, because in dropped.items() if because.endswith(LEFT_OUT)]
        problems += _inseparable(layout, targets, [name for name in left_out if not layout.is_replaced(name)])
    if whole:
        problems += [
            f"nothing matches {drop.pattern}, which this layout leaves out"
            for drop in layout.drops
            if drop in unmatched
        ]
    return Explanation(targets, dropped, tuple(problems), axes)


def _inseparable(layout: Layout, targets: Mapping[str, str], left_out: Iterable[str]) -> Iterator[str]:
    """One sentence for each name that can't be left out: the network would be another function.

    It is of one of the network's own modules, or in one sequence with the head.
    """
    mark = layout.separator
    modules, head = {layout.prefix + layout.head.partition(mark)[0]} - {""}, ""
    for name, ours in targets.items():
        layer = name.rpartition(mark)[0]
        modules.add(layer)
        if ours.startswith("features."):
            modules.add(layout.prefix + name.removeprefix(layout.prefix).partition(mark)[0])
        elif ours == f"{HEAD}.weight":
            head = layer
    sequence, _, last = head.rpartition(mark)
    if layout.inside and layout.prefix.endswith(layout.inside):
        modules.add(layout.prefix[:-1])
    if sequence.rpartition(mark)[2] in HEADS:
        modules.add(sequence)
    before = re.escape(f"{sequence}{mark}") if sequence else ""
    numbered = re.compile(rf"{before}\d+{re.escape(mark)}.*" if last.isdigit() else r"(?!)")
    for name in left_out:
        *parents, field = name.split(mark)
        own = name.removeprefix(layout.prefix) if name.startswith(layout.prefix) else ""
        within = any(mark.join(parents[: i + 1]) in modules for i in range(len(parents)))
        if field not in OPERATION_COUNTS and (
            within or (layout.inside and STEP.match(own)) or numbered.fullmatch(name)
        ):
            yield f"{name} is of the network, and nothing that a DenseNet has"
