"""Which layout the names are in, and how they are wrapped."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import LayoutError, first_few, quoted
from ..layout import Layout
from .explain import HEADS, LEFT_OUT, Explanation, explain, missing

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
) -> Layout:
    """The one layout that explains every name, with the prefix and the head that it found.

    Args:
        names: of all tensors of the source.
        layouts: the tables that are known.
        layout: name of the one that it must be.
        prefix: what must stand before the names.
        only: the same, and what is not the network's is left out.
        head: whole name of the last layer, where it is not to be looked for.
        whole: see ``Layout.explain``.

    Raises:
        LayoutError: none does, or more than one; the message shows the nearest and
            what it could not explain, or the choices.
    """
    known = list(layouts) if layout is None else [named_layout(layout, layouts)]
    whole = whole and layout is None  # what tells a layout from another is not needed where it is named
    # The others' first convolution is not there: they are only worth a message.
    likely = [one for one in known if any(_prefixes(one, names))]
    asked = _separated(only if prefix is None else prefix, names)
    if head is not None and head not in set(map(_layer_of, names)):
        raise LayoutError(f"There is no layer {quoted(head)} for the head, expected the whole name of one.")
    fitting: list[tuple[Layout, Explanation]] = []
    nearest: tuple[Layout, Explanation] | None = None
    for one in likely or known:
        for reading in _readings(one, names, asked, head, only is not None):
            explained = _explained(reading, names, head, whole)
            if not explained.problems:
                fitting.append((reading, explained))
            elif nearest is None or len(explained.problems) < len(nearest[1].problems):
                nearest = reading, explained
    # Of a part of a network every layout may explain the names; what is missing is told later.
    whole_ones = [reading for reading, explained in fitting if not missing(explained.targets.values())]
    if len(whole_ones) == 1 or (fitting and not whole_ones):
        return (whole_ones or [reading for reading, _ in fitting])[0]
    if whole_ones:
        raise LayoutError(
            f"More than one layout explains all {len(names):,} names: {_listed(whole_ones)}. "
            "Choose one with --layout or --prefix."
        )
    assert nearest is not None  # of each reading there is one or the other
    reading, explained = nearest
    raise LayoutError(
        f"No layout explains all {len(names):,} names. The nearest is {label_of(reading)} "
        f"({reading.origin}), but {first_few(explained.problems)}. {_advice(names, known, reading, head)}"
    )


def named_layout(name: str, layouts: Sequence[Layout]) -> Layout:
    """The layout of this name, or the only one whose name begins with it as a word: ``"keras"``.

    Raises:
        LayoutError: there is none, or there are several.
    """
    found = [one for one in layouts if one.name == name] or [
        one for one in layouts if one.name.startswith(f"{name}-")
    ]
    if len(found) != 1:
        raise LayoutError(f"There is no layout {quoted(name)!r}, expected one of {_listed(layouts)}.")
    return found[0]


def identify_again(
    names: Collection[str], layouts: Sequence[Layout], receipt: Mapping[str, Any], *, whole: bool
) -> Layout:
    """The layout that a receipt names, of its source's names.

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
) -> Iterator[Layout]:
    """The layout under each prefix that its first convolution shows, or under the one that is asked for."""
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
        bare = layout.wrapped(before, inside=inside, only=only)
        heads = _heads(bare, names) if head is None else {head}
        usual = not inside and f"{before}{layout.head}" in heads
        last = None if usual or len(heads) != 1 else next(iter(heads))
        yield layout.wrapped(before, inside=inside, head=last, only=only)


def _explained(reading: Layout, names: Collection[str], head: str | None, whole: bool) -> Explanation:
    """With --only, reports when several layers could be the head."""
    explained = explain(reading, names, whole=whole)
    heads = _heads(reading, names) if reading.only and head is None else set()
    if len(heads) < 2:
        return explained
    several = f"its last layer may be {' or '.join(sorted(heads))}: name it with --head"
    return replace(explained, problems=(several, *explained.problems))


def _prefixes(layout: Layout, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """What stands before the names, and what is missing in them."""
    short = layout.first_conv.removeprefix(INSIDE)
    for name in names:
        stem = next(filter(partial(_ends_with, name), (layout.first_conv, *layout.other_stems)), None)
        if stem is not None:
            yield name.removesuffix(stem), ""
        elif short != layout.first_conv and _ends_with(name, short):
            yield name.removesuffix(short), INSIDE


def _ends_with(name: str, stem: str) -> bool:
    return name == stem or name.endswith((f".{stem}", f"/{stem}"))


def _heads(layout: Layout, names: Collection[str]) -> set[str]:
    """Whole names of the layers that are named as heads are."""
    before, mark = layout.prefix, layout.separator
    parts = before.split(mark)[:-1]
    # A head may stand beside the network it belongs to, but not in what --only leaves out.
    places = {before} if layout.only else {mark.join([*parts[:i], ""]) for i in range(len(parts) + 1)}
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


def label_of(layout: Layout) -> str:
    return f"{layout.name} under {quoted(layout.prefix)}" if layout.prefix else layout.name


def _listed(layouts: Sequence[Layout]) -> str:
    return ", ".join(map(label_of, layouts))


def _advice(names: Collection[str], layouts: Sequence[Layout], nearest: Layout, head: str | None) -> str:
    """Which part of it is a DenseNet, if one is, or which of its layers may be the last."""
    readings = [reading for layout in layouts for reading in _readings(layout, names, None, head, True)]
    if parts := _choices(readings, names, head):
        return (
            f"A part of it is a DenseNet: convert that with {parts}, and the rest is left out; "
            "--head NAME names its last layer."
        )
    heads = sorted(_heads(nearest, names)) if head is None and not nearest.only else []
    if len(heads) > 1:
        return f"Its last layer may be {' or '.join(map(str, heads))}: name it with --head."
    featured = [
        one.wrapped(f"{one.prefix}{INSIDE}", inside=INSIDE, only=True)
        for one in readings
        if one.first_conv.startswith(INSIDE) and not one.inside
    ]
    if parts := _choices(featured, names, ""):
        return f"Its features are those of a DenseNet, and are converted alone with {parts}."
    return "Is this a DenseNet, and the whole of it?"


def _choices(readings: Sequence[Layout], names: Collection[str], head: str | None) -> str:
    """What to write for those that explain the names."""
    fitting = dict.fromkeys(one.prefix for one in readings if not _explained(one, names, head, True).problems)
    return " or ".join(f"--only {quoted(part) or repr('')}" for part in fitting)
