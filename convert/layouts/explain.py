"""Applies a layout's table to names: what each becomes, what is left out, and what it can't account for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from densenet_convert.densenet import DenseNetConfig

from ..layout import HEAD, Explanation, Reading, Rule
from .no_output import OPERATION_COUNTS

# Receipts hold it, and are read again by it.
LEFT_OUT = "left out by --only"
# Names that people give to the last layer.
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
    "class_layers",
)
# The names of the parts of the features.
# In Keras layers are called so, with the stage that they belong to.
STAGE = re.compile(r"(?:conv|pool|relu)(\d{1,9})[_/]", re.ASCII)
STEP = re.compile(r"(?:features_)?(?:pad|conv|norm|relu|pool|denseblock|transition)\d+\.", re.ASCII)
NUMBER = re.compile(r"(\d{1,9})\.", re.ASCII)
DENSE_LAYER = re.compile(r"features\.denseblock([1-9]\d{0,8})\.denselayer([1-9]\d{0,8})\.", re.ASCII)


def missing(targets: Collection[str]) -> list[str]:
    """Returns the canonical names that a whole network has beside these; counters and classifier aside.

    Its blocks and their layers are counted by these names, so a last one that is absent is not missed.
    """
    layers = {(int(m[1]), int(m[2])) for name in targets if (m := DENSE_LAYER.match(name))}
    counts = Counter(block for block, _ in layers)
    # Their count and not the largest number in a name, which may be a stranger's 999999999.
    blocks = [counts.get(block, 1) for block in range(1, len(counts) + 1)] or [1]
    expected = DenseNetConfig(block_config=tuple(blocks), num_classes=0).tensor_shapes()
    needed = [name for name in expected if not name.endswith(".num_batches_tracked")]
    found = set(targets)
    return [name for name in needed if name not in found]


def explain(reading: Reading, names: Iterable[str], *, expect_drops: bool = True) -> Reading:
    """Returns the reading with its explanation, which accounts for every name or says which it can't.

    Args:
        reading: a layout, with what the source wraps around its names.
        names: the source's.
        expect_drops: whether a drop of the layout that matches no name is a problem.
    """
    table = _Matching(reading)
    for name in names:
        table.take(name)
    problems = [*table.problems, *table.only_problems()]
    if expect_drops:
        problems += table.unmatched_drops()
    found = Explanation(table.targets, table.dropped, tuple(problems), table.axes)
    return replace(reading, explanation=found)


class _Matching:
    """Matches names one by one, each with exactly one rule or drop of the layout.

    Attributes:
        targets, dropped, axes: see ``Explanation``.
        problems: one sentence for each name that was not accounted for.
        sources: the source's name of each canonical name.
        unmatched: the layout's drops that no name has matched.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        layout = reading.layout
        self.rules = [(re.compile(rule.pattern, re.ASCII), rule) for rule in layout.rules]
        self.drops = [(re.compile(drop.pattern, re.ASCII), drop) for drop in layout.drops]
        self.unmatched = set(layout.drops)
        self.sources: dict[str, str] = {}
        self.targets: dict[str, str] = {}
        self.dropped: dict[str, str] = {}
        self.axes: dict[str, tuple[int, ...]] = {}
        self.problems: list[str] = []

    def take(self, name: str) -> None:
        """Accounts for one name of the source."""
        own = self.reading.own_name(name)
        if own is None:
            self._outside(name)
            return
        found = []
        for pattern, rule in self.rules:
            if (match := pattern.fullmatch(own)) and (target := rule.target_of(match)) is not None:
                found.append((target, rule))
        left = [drop for pattern, drop in self.drops if pattern.fullmatch(own)]
        matches = len(found) + len(left)
        if self.reading.only and not matches:
            self.dropped[name] = f"not a part of the DenseNet, {LEFT_OUT}"
        elif matches != 1:
            count = f"{matches} rules" if matches else "no rule"
            self.problems.append(f"{name} is explained by {count}")
        elif left:
            self.dropped[name] = left[0].because
            self.unmatched.discard(left[0])
        else:
            self._keep(name, *found[0])

    def only_problems(self) -> Iterator[str]:
        """Yields, with --only, a sentence for each tensor that is missing, or must not be left out."""
        if not self.reading.only:
            return
        if not self.targets:
            yield f"nothing of a DenseNet is under {self.reading.prefix!r}"
            return
        for name in missing(self.targets.values()):
            yield f"{name} is missing"
        left_out = [name for name, because in self.dropped.items() if because.endswith(LEFT_OUT)]
        others = [name for name in left_out if not self.reading.is_of_unused_head(name)]
        yield from _inseparable(self.reading, self.targets, others)

    def unmatched_drops(self) -> Iterator[str]:
        """Yields a sentence for each drop that matched nothing: the source is of another layout."""
        for drop in self.reading.layout.drops:
            if drop in self.unmatched:
                yield f"nothing matches {drop.pattern}, which this layout leaves out"

    def _outside(self, name: str) -> None:
        # Receipts hold these words, and are compared with them.
        unused = self.reading.is_of_unused_head(name)
        where = f"beside the head {self.reading.head}" if unused else f"not under {self.reading.prefix!r}"
        if unused and not self.reading.head:
            where = "a head, and the features alone are taken"
        if self.reading.only:
            self.dropped[name] = f"{where}, {LEFT_OUT}"
        else:
            self.problems.append(f"{name} is {where}")

    def _keep(self, name: str, target: str, rule: Rule) -> None:
        if target in self.sources:
            self.problems.append(f"{self.sources[target]} and {name} both become {target}")
            return
        self.targets[name], self.sources[target] = target, name
        if rule.axes is not None:
            self.axes[name] = rule.axes


def _inseparable(reading: Reading, targets: Mapping[str, str], left_out: Iterable[str]) -> Iterator[str]:
    """Yields a sentence for each name that can't be left out: the network would be another function.

    Such a name is of one of the network's modules, is called as a part of the features, or stands by its
    number among these, or in one sequence with the head.  What thop counted may be left out.
    """
    mark, prefix = reading.layout.separator, reading.prefix
    targets = {reading.clean(name): ours for name, ours in targets.items()}
    head = next((name.rpartition(mark)[0] for name, ours in targets.items() if ours == f"{HEAD}.weight"), "")
    modules = _network_modules(reading, targets, head)
    sequence, _, last = head.rpartition(mark)
    before = re.escape(f"{sequence}{mark}") if sequence else ""
    numbered = re.compile(rf"{before}\d+{re.escape(mark)}.*" if last.isdigit() else r"(?!)")
    first = NUMBER if mark == "." else STAGE
    last_number = max(_numbers(first, (name.removeprefix(prefix) for name in targets)), default=-1)
    for source_name in left_out:
        name = reading.clean(source_name)
        *parents, field = name.split(mark)
        own = name.removeprefix(prefix) if name.startswith(prefix) else ""
        within = any(mark.join(parents[: i + 1]) in modules for i in range(len(parents)))
        named = bool(STEP.match(own)) and (reading.inside != "" or own.startswith("features_"))
        of_features = named or any(number <= last_number for number in _numbers(first, [own]))
        if field not in OPERATION_COUNTS and (within or of_features or numbered.fullmatch(name)):
            yield f"{source_name} is of the network, and nothing that a DenseNet has"


def _numbers(first: re.Pattern[str], names: Iterable[str]) -> Iterator[int]:
    """Yields the numbers of a sequence's children, or of stages, with which names begin."""
    for name in names:
        if match := first.match(name):
            yield int(match[1])


def _network_modules(reading: Reading, targets: Mapping[str, str], head: str) -> set[str]:
    """Returns the paths of the modules that belong to the network with all that is in them."""
    mark, prefix = reading.layout.separator, reading.prefix
    modules = set() if reading.features_alone else {prefix + reading.layout.head.partition(mark)[0]}
    for name, ours in targets.items():
        modules.add(name.rpartition(mark)[0])
        if ours.startswith("features."):
            modules.add(prefix + name.removeprefix(prefix).partition(mark)[0])
    if reading.inside and prefix.endswith(reading.inside):
        modules.add(prefix[:-1])
    sequence = head.rpartition(mark)[0]
    if sequence.rpartition(mark)[2] in HEADS:
        modules.add(sequence)
    return modules
