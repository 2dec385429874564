"""Which layout the names are in, and how they are wrapped."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import LayoutError, first_few, quoted
from ..layout import FEATURES, Layout, Reading
from .explain import HEADS, LEFT_OUT, explain, missing

# Under whatever stands before it; in a Sequential it has a number, and Keras numbers its dense layers.
HEAD_NAME = re.compile(rf"(?:{'|'.join(HEADS)}|dense_\d+)(?:\.(?:\d+|fc|out))*")
# Each is read in every layout, so that a file of nothing but first convolutions would take forever.
MOST_NETWORKS = 8


def identify_layout(
    names: Collection[str],
    layouts: Sequence[Layout],
    *,
    layout: str | None = None,
    prefix: str | None = None,
    only: str | None = None,
    head: str | None = None,
    whole: bool = True,
) -> Reading:
    """Returns the one reading that explains every name: a layout, with the prefix and the head that it found.

    Args:
        names: of all tensors of the source.
        layouts: the tables that are known.
        layout: name of the one that it must be.
        prefix: what must stand before the names.
        only: the same, and what is not the network's is left out.
        head: whole name of the last layer, where it is not to be looked for; empty for none.
        whole: see ``explain``.

    Raises:
        LayoutError: none does, or more than one; the message shows the nearest and
            what it could not explain.
    """
    known = list(layouts) if layout is None else [named_layout(layout, layouts)]
    whole = whole and layout is None  # what tells a layout from another is not needed where it is named
    if head and head not in set(map(_layer_of, names)):
        raise LayoutError(f"There is no layer {quoted(head)} for the head, expected the whole name of one.")
    # The others' first convolution is not there: they are only worth a message.
    likely = [one for one in known if any(_prefixes(one, names))] or known
    asked = _separated(only if prefix is None else prefix, names)
    readings = (one for table in likely for one in _readings(table, names, asked, head, only is not None))
    fitting, nearest = _fitting(readings, names, whole)
    # Several layouts may explain the names of an incomplete network; the shapes tell later what is missing.
    complete = [one for one in fitting if not missing(one.explanation.targets.values())]
    if len(complete) > 1:
        raise LayoutError(
            f"More than one layout explains all {len(names):,} names: {_listed(complete)}. "
            "Choose one with --layout or --prefix."
        )
    if fitting:
        return (complete or fitting)[0]
    assert nearest is not None  # of each reading there is one or the other
    raise LayoutError(
        f"No layout explains all {len(names):,} names. The nearest is {label_of(nearest)} "
        f"({nearest.layout.origin}), but {first_few(nearest.explanation.problems)}."
    )


def whole_networks(names: Collection[str], layouts: Sequence[Layout]) -> list[Reading]:
    """Returns a reading for each place where the names hold all features of a DenseNet, in their order.

    Each takes the features alone, and leaves out the rest.

    Raises:
        LayoutError: there are too many to try.
    """
    likely = [one for one in layouts if any(_prefixes(one, names))]
    readings = [reading for layout in likely for reading in _readings(layout, names, None, "", True)]
    fitting, _ = _fitting(readings, names, True)
    found = {reading.prefix: reading for reading in reversed(fitting)}
    order = {prefix: i for i, prefix in enumerate(_first_with(names, found))}
    return sorted(found.values(), key=lambda reading: order[reading.prefix])


def _first_with(names: Iterable[str], prefixes: Collection[str]) -> Iterator[str]:
    """Yields the prefixes as the names begin with them."""
    waiting = sorted(prefixes, key=len, reverse=True)
    for name in names:
        for prefix in [one for one in waiting if name.startswith(one)]:
            waiting.remove(prefix)
            yield prefix


def _fitting(
    readings: Iterable[Reading], names: Collection[str], whole: bool
) -> tuple[list[Reading], Reading | None]:
    """Returns the readings that explain every name, and the one of the others that leaves the fewest."""
    fitting: list[Reading] = []
    nearest: Reading | None = None
    for reading in readings:
        found = explain(reading, names, expect_drops=whole)
        problems = len(found.explanation.problems)
        if not problems:
            fitting.append(found)
        elif nearest is None or problems < len(nearest.explanation.problems):
            nearest = found
    return fitting, nearest


def named_layout(name: str, layouts: Sequence[Layout]) -> Layout:
    """The layout of this name, or the only one whose name begins with it as a word: ``"keras"``.

    Raises:
        LayoutError: there is none, or there are several.
    """
    found = [one for one in layouts if one.name == name] or [
        one for one in layouts if one.name.startswith(f"{name}-")
    ]
    if len(found) != 1:
        names = ", ".join(one.name for one in layouts)
        raise LayoutError(f"There is no layout {quoted(name)!r}, expected one of {names}.")
    return found[0]


def identify_again(
    names: Collection[str], layouts: Sequence[Layout], receipt: Mapping[str, Any], *, whole: bool
) -> Reading:
    """Returns the reading that a receipt names, of its source's names.

    Args:
        names: of the source, or of what was kept of it.
        layouts: the tables that are known.
        receipt: the content of conversion.json.
        whole: these are all names of the source.

    Raises:
        LayoutError: it is not known here, or does not explain them.
    """
    source = receipt["source"]
    only = any(entry["because"].endswith(LEFT_OUT) for entry in receipt["dropped"])
    weights = (one["source_name"] for one in receipt["tensors"] if one["name"] == "classifier.weight")
    head = _layer_of(next(weights, None) or "")
    where = {"only" if only else "prefix": source["prefix"]}
    return identify_layout(names, layouts, layout=source["layout"], **where, head=head, whole=whole)


def _readings(
    layout: Layout, names: Collection[str], prefix: str | None, head: str | None, only: bool
) -> Iterator[Reading]:
    """Yields a reading for each prefix that the first convolution shows, or for the one that is asked for."""
    found = dict.fromkeys(_prefixes(layout, names))
    if prefix is not None:
        # The prefix may be that of the features alone.
        outer = (prefix.removesuffix(FEATURES), "")
        fallback = (prefix, FEATURES if prefix.endswith(FEATURES) and outer in found else "")
        found = {one: None for one in found if one[0] == prefix} or {fallback: None}
    if len(found) > MOST_NETWORKS:
        raise LayoutError(
            f"There are {len(found):,} networks, under {first_few([before for before, _ in found])}. "
            "Convert one with --only, and the rest is left out."
        )
    for before, inside in found or {("", ""): None}:
        bare = Reading(layout, before, inside, only=only)
        heads = _heads(bare, names) if head is None else {head}
        usual = not inside and f"{before}{layout.head}" in heads
        last = None if usual or len(heads) != 1 else next(iter(heads))
        yield replace(bare, head=last)


def _prefixes(layout: Layout, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """What stands before the names, and what is missing in them."""
    short = layout.first_conv.removeprefix(FEATURES)
    for name in names:
        first = next(filter(partial(_ends_with, name), (layout.first_conv, *layout.other_stems)), None)
        if first is not None:
            yield name.removesuffix(first), ""
        elif short != layout.first_conv and _ends_with(name, short):
            yield name.removesuffix(short), FEATURES


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith((f".{end}", f"/{end}"))


def _heads(reading: Reading, names: Collection[str]) -> set[str]:
    """Returns the whole names of the layers that are named as heads are."""
    before, mark = reading.prefix, reading.layout.separator
    parts = before.split(mark)[:-1]
    # A head may stand beside the network it belongs to, but not in what --only leaves out.
    places = {before} if reading.only else {mark.join([*parts[:i], ""]) for i in range(len(parts) + 1)}
    candidates = set()
    for name in names:
        last, _, field = name.rpartition(mark)
        starts = (0, *(i + 1 for i, letter in enumerate(last) if letter == mark))
        if field in ("weight", "bias", "kernel") and any(
            HEAD_NAME.fullmatch(last, start) and last[:start] in places for start in starts
        ):
            candidates.add(last)
    return candidates


def _layer_of(name: str) -> str:
    """``"fc"`` of ``"fc.weight"``; empty where nothing is before it."""
    return name[: max(name.rfind("."), name.rfind("/"), 0)]


def _separated(prefix: str | None, names: Collection[str]) -> str | None:
    """The prefix with what stands behind it in the names."""
    if not prefix or prefix.endswith((".", "/")):
        return prefix
    return f"{prefix}/" if any(name.startswith(f"{prefix}/") for name in names) else f"{prefix}."


def label_of(reading: Reading) -> str:
    """Returns what a message calls a reading: ``"monai under module."``."""
    name = reading.layout.name
    return f"{name} under {quoted(reading.prefix)}" if reading.prefix else name


def _listed(readings: Sequence[Reading]) -> str:
    return ", ".join(map(label_of, readings))
