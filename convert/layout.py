"""What a layout is: a table that says what every tensor of a source is called here.

A source may be wrapped: its names may stand under a prefix, its head may have a name of its own, and
it may be a part of something larger.  That is composed with any table, by ``Layout.wrapped``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from densenet_convert.densenet import DenseNetConfig

HEAD = "classifier"
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
class Rule:
    """Renames every source name that ``pattern`` matches as a whole.

    Attributes:
        pattern: regular expression, matched with ``fullmatch`` over ASCII.
        target: the canonical name, a template as ``re.Match.expand`` takes it.
        axes: the source's axes in canonical order, as ``torch.Tensor.permute`` takes them;
            None where they are in it.
    """

    pattern: str
    target: str = r"\g<0>"
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Drop:
    """Leaves out every source name that ``pattern`` matches, for a stated reason."""

    pattern: str
    because: str


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


@dataclass(frozen=True)
class Layout:
    """A table of renames, and where it comes from.

    Attributes:
        name: what receipts and messages call it.
        origin: who wrote files of this layout.
        rules: exactly one of these, or one drop, must match each source name.
        reference: ``"module:function"`` that takes a DenseNetConfig and returns the
            source's own network on the meta device, its parameters under the
            source's names.  A string, so that reading the table imports no library.
        drops: what is left out, each with its reason; a layout fits only where each matches something.
        library: the same of the source library's own network, which is returned with its description;
            it raises ImportError where the library is not installed, and ``reference`` is taken.
        loader: ``"module:function"`` that takes the network and the source's tensors, and puts them in,
            strictly, where ``load_state_dict`` can't, for their axes lie otherwise.
        outputs: ``"module:function"`` that takes the source's tensors, a DenseNetConfig and images, and
            returns what the library's own network computes of them, with its description, where that
            network's layers are not torch's; it raises ImportError as ``library`` does.
        names: ``"module:function"`` that takes a DenseNetConfig and returns the source's names, where
            ``reference`` does not bear them.
        file: the format that ``export`` writes, ``"torch-legacy"`` or ``"keras-h5"``.
        counted: whether its files hold ``num_batches_tracked``, so that its library takes them.
        stem: what the source calls the first convolution's weight.
        other_stems: what else it has called it.
        head: what it calls the last layer.
        overrides: fields of DenseNetConfig that this layout implies, and shapes don't tell.
        problem_type: how the logits are to be read, where the layout implies it; see ``Labels``.
        preprocessing: fields of config.json's ``pretrained_cfg`` that the layout implies, where images
            are not prepared as torchvision does.
        prefix: what stands before each of these names.
        inside: what is missing there of them, such as ``"features."``.
        wrapped_head: whole source name of the last layer, where it is not ``prefix`` and ``head``.
        only: whether what is not the network's is left out, because the user says so.
    """

    name: str
    origin: str
    rules: tuple[Rule, ...]
    reference: str
    drops: tuple[Drop, ...] = ()
    library: str | None = None
    loader: str | None = None
    outputs: str | None = None
    names: str | None = None
    file: str = "torch-legacy"
    counted: bool = True
    stem: str = "features.conv0.weight"
    other_stems: tuple[str, ...] = ()
    head: str = HEAD
    overrides: Mapping[str, Any] = field(default_factory=dict)
    problem_type: str | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    inside: str = ""
    wrapped_head: str | None = None
    only: bool = False

    def wrapped(
        self, prefix: str, *, inside: str = "", head: str | None = None, only: bool = False
    ) -> Layout:
        """The same table for names under a prefix, or of a part of something larger."""
        return replace(self, prefix=prefix, inside=inside, wrapped_head=head, only=only)

    @property
    def separator(self) -> str:
        """What stands between a layer's name and its tensor's."""
        return "/" if "/" in self.stem else "."

    def own_name(self, name: str) -> str | None:
        """What the table calls a source name; None where it is no part of the network."""
        if self.wrapped_head is not None:
            parent, _, last = name.rpartition(self.separator)
            if parent == self.wrapped_head:
                return f"{self.head}{self.separator}{last}"
        if self._is_replaced(name) or not name.startswith(self.prefix):
            return None
        return self.inside + name.removeprefix(self.prefix)

    def _inseparable(self, targets: Mapping[str, str], left_out: Iterable[str]) -> Iterator[str]:
        """One sentence for each name that can't be left out: the network would be another function.

        It is of one of the network's own modules, or in one sequence with the head.
        """
        mark = self.separator
        modules, head = {self.prefix + self.head.partition(mark)[0]} - {""}, ""
        for name, ours in targets.items():
            layer = name.rpartition(mark)[0]
            modules.add(layer)
            if ours.startswith("features."):
                modules.add(self.prefix + name.removeprefix(self.prefix).partition(mark)[0])
            elif ours == f"{HEAD}.weight":
                head = layer
        sequence, _, last = head.rpartition(mark)
        if self.inside and self.prefix.endswith(self.inside):
            modules.add(self.prefix[:-1])
        if sequence.rpartition(mark)[2] in HEADS:
            modules.add(sequence)
        before = re.escape(f"{sequence}{mark}") if sequence else ""
        numbered = re.compile(rf"{before}\d+{re.escape(mark)}.*" if last.isdigit() else r"(?!)")
        for name in left_out:
            *parents, field = name.split(mark)
            own = name.removeprefix(self.prefix) if name.startswith(self.prefix) else ""
            within = any(mark.join(parents[: i + 1]) in modules for i in range(len(parents)))
            if field not in OPERATION_COUNTS and (
                within or (self.inside and STEP.match(own)) or numbered.fullmatch(name)
            ):
                yield f"{name} is of the network, and nothing that a DenseNet has"

    def _is_replaced(self, name: str) -> bool:
        """Whether it is of the usual head, and another one took its place."""
        usual = f"{self.prefix}{self.head}"
        return self.wrapped_head not in (None, usual) and name.rpartition(self.separator)[0] == usual

    def explain(self, names: Iterable[str], *, whole: bool = True) -> Explanation:
        """Accounts for every name, or says in ``problems`` which it can't.

        Args:
            whole: these are all names of a source; otherwise what is left out may be missing.
        """
        rules = [(re.compile(rule.pattern, re.ASCII), rule) for rule in self.rules]
        drops = [(re.compile(drop.pattern, re.ASCII), drop) for drop in self.drops]
        targets: dict[str, str] = {}
        sources: dict[str, str] = {}
        dropped: dict[str, str] = {}
        axes: dict[str, tuple[int, ...]] = {}
        unmatched = set(self.drops)
        problems: list[str] = []
        for name in names:
            own = self.own_name(name)
            if own is None:
                beside = f"beside the head {self.wrapped_head}"
                where = beside if self._is_replaced(name) else f"not under {self.prefix!r}"
                if self.only:
                    dropped[name] = f"{where}, {LEFT_OUT}"
                else:
                    problems.append(f"{name} is {where}")
                continue
            found = [(m.expand(rule.target), rule) for p, rule in rules if (m := p.fullmatch(own))]
            left = [drop for pattern, drop in drops if pattern.fullmatch(own)]
            if self.only and not found and not left:
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
        if self.only and not targets:
            problems.append(f"nothing of a DenseNet is under {self.prefix!r}")
        elif self.only:
            problems += [f"{name} is missing" for name in missing(targets.values())]
            left_out = [name for name, because in dropped.items() if because.endswith(LEFT_OUT)]
            problems += self._inseparable(targets, [name for name in left_out if not self._is_replaced(name)])
        if whole:
            problems += [
                f"nothing matches {drop.pattern}, which this layout leaves out"
                for drop in self.drops
                if drop in unmatched
            ]
        return Explanation(targets, dropped, tuple(problems), axes)
