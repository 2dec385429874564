"""The names of a source as layouts are tried on them: where networks begin, and what heads are called."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from ..errors import LayoutError, first_few
from ..layout import WRAPPERS, Layout, Reading, without_wrappers
from .explain import HEADS

# Under whatever stands before it; in a Sequential it has a number, and Keras numbers its dense layers.
HEAD_NAME = re.compile(rf"(?:{'|'.join(HEADS)}|dense_\d+)(?:\.(?:\d+|fc|out|class))*")
# Each is read in every layout, so that a file of nothing but first convolutions would take forever.
MOST_NETWORKS = 8


class View:
    """The names of all tensors of a source, as they stand or without wrappers.

    Attributes:
        names: in the order of the source.
        unwrapped: whether wrappers were taken off.
    """

    def __init__(self, names: Collection[str], unwrapped: bool = False) -> None:
        self.names, self.unwrapped = names, unwrapped

    def clean(self, name: str) -> str:
        """Returns what this view calls a name, or the beginning of one."""
        return without_wrappers(name) if self.unwrapped else name

    def likely(self, layouts: Sequence[Layout]) -> list[Layout]:
        """Returns the layouts whose first convolution, or whose sign, is there."""
        return [one for one in layouts if any(self._prefixes(one))]

    def readings(
        self, layouts: Sequence[Layout], prefix: str | None, head: str | None, only: bool
    ) -> Iterator[Reading]:
        """Yields a reading for each layout and each prefix that it shows, or for the one that is asked for.

        Args:
            layouts: those to try.
            prefix: what must stand before the names; None where it is looked for.
            head: whole name of the last layer, likewise; empty for none.
            only: whether what is not the network's is left out.

        Raises:
            LayoutError: there are too many prefixes to try.
        """
        asked = self._separated(prefix)
        for layout in layouts:
            for before, inside in self._places(layout, asked):
                bare = Reading(layout, before, inside, only=only, unwrapped=self.unwrapped)
                heads = self._heads(bare) if head is None else {head}
                usual = not inside and f"{before}{layout.head}" in heads
                last = None if usual or len(heads) != 1 else next(iter(heads))
                yield replace(bare, head=last)

    def first_with(self, prefixes: Collection[str]) -> Iterator[str]:
        """Yields the prefixes as the names begin with them."""
        waiting = sorted(prefixes, key=len, reverse=True)
        for name in self.names:
            for prefix in [one for one in waiting if name.startswith(one)]:
                waiting.remove(prefix)
                yield prefix

    @cached_property
    def _by_end(self) -> dict[str, list[str]]:
        """The names by their last two parts."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(_end_of(name), []).append(name)
        return found

    def _prefixes(self, layout: Layout) -> Iterator[tuple[str, str]]:
        """Yields each prefix that may stand before the layout's names, and what is missing in them."""
        firsts = (layout.sign or layout.first_conv, *layout.other_stems)
        for first in firsts:
            for name in self._by_end.get(_end_of(first), ()):
                if _ends_with(name, first):
                    yield name.removesuffix(first), ""
        short = firsts[0].removeprefix(layout.features)
        if short == firsts[0]:
            return
        for name in self._by_end.get(_end_of(short), ()):
            if _ends_with(name, short) and not _ends_with(name, firsts[0]):
                yield name.removesuffix(short), layout.features

    def _places(self, layout: Layout, prefix: str | None) -> list[tuple[str, str]]:
        found = list(dict.fromkeys(self._prefixes(layout)))
        if prefix is not None:
            # The prefix may be that of the features alone.
            features = layout.features
            within = prefix.endswith(features) and (prefix.removesuffix(features), "") in found
            found = [one for one in found if one[0] == prefix] or [(prefix, features if within else "")]
        if len(found) > MOST_NETWORKS:
            raise LayoutError(
                f"There are {len(found):,} networks, under {first_few([before for before, _ in found])}. "
                "Convert one with `only=...`, and the rest is left out."
            )
        return found or [("", "")]

    def _heads(self, reading: Reading) -> set[str]:
        """Returns the whole names of the layers that are named as heads are."""
        before, mark = reading.prefix, reading.layout.separator
        parts = before.split(mark)[:-1]
        # A head may stand beside the network it belongs to, but not in what --only leaves out.
        places = {before} if reading.only else {mark.join([*parts[:i], ""]) for i in range(len(parts) + 1)}
        candidates = set()
        for name in self.names:
            last, _, field = name.rpartition(mark)
            starts = (0, *(i + 1 for i, letter in enumerate(last) if letter == mark))
            if field in ("weight", "bias", "kernel") and any(
                HEAD_NAME.fullmatch(last, start) and last[:start] in places for start in starts
            ):
                candidates.add(last)
        return candidates

    def _separated(self, prefix: str | None) -> str | None:
        """The prefix with what stands behind it in the names."""
        if not prefix or prefix.endswith((".", "/")):
            return prefix
        return f"{prefix}/" if any(name.startswith(f"{prefix}/") for name in self.names) else f"{prefix}."


def views(names: Collection[str]) -> Iterator[View]:
    """Yields the names as they stand, and then without wrappers, where that gives other names that differ."""
    yield View(names)
    if any(not WRAPPERS.isdisjoint(name.split(".")) for name in names):
        clean = list(map(without_wrappers, names))
        if len(set(clean)) == len(clean):
            yield View(clean, unwrapped=True)


def _end_of(name: str) -> str:
    """``"conv0.weight"`` of ``"features.conv0.weight"``."""
    last = max(name.rfind("."), name.rfind("/"), 0)
    return name[max(name.rfind(".", 0, last), name.rfind("/", 0, last)) + 1 :]


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith((f".{end}", f"/{end}"))
