"""What a layout is: a table that says what every tensor of a source is called here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """Renames every source name that ``pattern`` matches as a whole.

    Attributes:
        pattern: regular expression, matched with ``fullmatch`` over ASCII.
        target: the canonical name, a template as ``re.Match.expand`` takes it.
    """

    pattern: str
    target: str = r"\g<0>"


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
    """

    targets: dict[str, str]
    dropped: dict[str, str]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """A table of renames, and where it comes from.

    Attributes:
        name: what receipts and messages call it.
        origin: who wrote files of this layout.
        rules: exactly one of these, or one drop, must match each source name.
        drops: what is left out, each with its reason.
        reference: ``"module:function"`` that takes a DenseNetConfig and returns the
            source's own network on the meta device, its parameters under the
            source's names.  A string, so that reading the table imports no library.
    """

    name: str
    origin: str
    rules: tuple[Rule, ...]
    reference: str
    drops: tuple[Drop, ...] = ()

    def explain(self, names: Iterable[str]) -> Explanation:
        """Accounts for every name, or says in ``problems`` which it can't."""
        rules = [(re.compile(rule.pattern, re.ASCII), rule.target) for rule in self.rules]
        drops = [(re.compile(drop.pattern, re.ASCII), drop.because) for drop in self.drops]
        targets: dict[str, str] = {}
        sources: dict[str, str] = {}
        dropped: dict[str, str] = {}
        problems: list[str] = []
        for name in names:
            renamed = [m.expand(target) for pattern, target in rules if (m := pattern.fullmatch(name))]
            reasons = [because for pattern, because in drops if pattern.fullmatch(name)]
            if len(renamed) + len(reasons) != 1:
                count = "no rule" if not renamed + reasons else f"{len(renamed) + len(reasons)} rules"
                problems.append(f"{name} is explained by {count}")
            elif reasons:
                dropped[name] = reasons[0]
            elif renamed[0] in sources:
                problems.append(f"{sources[renamed[0]]} and {name} both become {renamed[0]}")
            else:
                targets[name] = renamed[0]
                sources[renamed[0]] = name
        problems += [
            f"nothing matches {drop.pattern}, which this layout leaves out"
            for drop in self.drops
            if not any(re.fullmatch(drop.pattern, name, re.ASCII) for name in dropped)
        ]
        return Explanation(targets, dropped, tuple(problems))
