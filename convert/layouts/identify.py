"""Which layout the names are in, and how they are wrapped."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import LayoutError, first_few, quoted
from ..layout import Layout, Reading
from .explain import HEADS, LEFT_OUT, explain, missing

# Under whatever stands before it; in a Sequential it has a number, and Keras numbers its dense layers.
HEAD_NAME = re.compile(rf"(?:{'|'.join(HEADS)}|dense_\d+)(?:\.(?:\d+|fc|out))*")
# A part without this may stand under any prefix: people take the features alone.
INSIDE = "features."
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
        head: whole name of the last layer, where it is not to be looked for.
        whole: see ``explain``.

    Raises:
        LayoutError: none does, or more than one; the message shows the nearest and
            what it could not explain, or the choices.
    """
    known = list(layouts) if layout is None else [named_layout(layout, layouts)]
    whole = whole and layout is None  # what tells a layout from another is not needed where it is named
    if head is not None and head not in set(map(_layer_of, names)):
        raise LayoutError(f"There is no layer {quoted(head)} for the head, expected the whole name of one.")
    # The others' first convolution is not there: they are only worth a message.
    likely = [one for one in known if any(_prefixes(one, names))] or known
    asked = _separated(only if prefix is None else prefix, names)
    readings = (one for table in likely for one in _readings(table, names, asked, head, only is not None))
    fitting, nearest = _fitting(readings, names, head, whole)
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
        f"({nearest.layout.origin}), but {first_few(nearest.explanation.problems)}. "
        f"{_advice(names, known, nearest, head)}"
    )


def _fitting(
    readings: Iterable[Reading], names: Collection[str], head: str | None, whole: bool
) -> tuple[list[Reading], Reading | None]:
    """Returns the readings that explain every name, and the one of the others that leaves the fewest."""
    fitting: list[Reading] = []
    nearest: Reading | None = None
    for reading in readings:
        found = _explained(reading, names, head, whole)
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
    head = _layer_of(next(weights, None) or "") or None
    where = {"only" if only else "prefix": source["prefix"]}
    return identify_layout(names, layouts, layout=source["layout"], **where, head=head, whole=whole)


def _readings(
    layout: Layout, names: Collection[str], prefix: str | None, head: str | None, only: bool
) -> Iterator[Reading]:
    """Yields a reading for each prefix that the first convolution shows, or for the one that is asked for."""
    found = dict.fromkeys(_prefixes(layout, names))
    if prefix is not None:
        # The prefix may be that of the features alone.
        outer = (prefix.removesuffix(INSIDE), "")
        fallback = (prefix, INSIDE if prefix.endswith(INSIDE) and outer in found else "")
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


def _explained(reading: Reading, names: Collection[str], head: str | None, whole: bool) -> Reading:
    """Returns the reading, explained; with --only, several layers that could be the head are a problem."""
    found = explain(reading, names, expect_drops=whole)
    heads = _heads(reading, names) if reading.only and head is None else set()
    if len(heads) < 2:
        return found
    several = f"its last layer may be {' or '.join(sorted(heads))}: name it with --head"
    problems = (several, *found.explanation.problems)
    return replace(found, explanation=replace(found.explanation, problems=problems))


def _prefixes(layout: Layout, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """What stands before the names, and what is missing in them."""
    short = layout.first_conv.removeprefix(INSIDE)
    for name in names:
        first = next(filter(partial(_ends_with, name), (layout.first_conv, *layout.other_stems)), None)
        if first is not None:
            yield name.removesuffix(first), ""
        elif short != layout.first_conv and _ends_with(name, short):
            yield name.removesuffix(short), INSIDE


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


def _advice(names: Collection[str], layouts: Sequence[Layout], nearest: Reading, head: str | None) -> str:
    """Says which part of it is a DenseNet, if one is, or which of its layers may be the last."""
    readings = [reading for layout in layouts for reading in _readings(layout, names, None, head, True)]
    if parts := _choices(readings, names, head):
        return (
            f"A part of it is a DenseNet: convert that with {parts}, and the rest is left out; "
            "--head NAME names its last layer."
        )
    heads = sorted(_heads(nearest, names)) if head is None and not nearest.only else []
    if len(heads) > 1:
        return f"Its last layer may be {' or '.join(map(str, heads))}: name it with --head."
    whole = [one for one in readings if not one.inside]
    featured = [
        Reading(one.layout, f"{one.prefix}{INSIDE}", INSIDE, only=True)
        for one in whole
        if one.layout.first_conv.startswith(INSIDE)
    ]
    if parts := _choices(featured, names, ""):
        return f"Its features are those of a DenseNet, and are converted alone with {parts}."
    return "Is this a DenseNet, and the whole of it?"


def _choices(readings: Sequence[Reading], names: Collection[str], head: str | None) -> str:
    """Returns the options to write for those that explain the names."""
    fitting, _ = _fitting(readings, names, head, True)
    prefixes = dict.fromkeys(one.prefix for one in fitting)
    return " or ".join(f"--only {quoted(part) or repr('')}" for part in prefixes)
