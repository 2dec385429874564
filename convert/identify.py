"""Step 2: which layout the names are in, and how they are wrapped."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from .errors import LayoutError, some
from .layout import Layout

# What people call the last layer, under whatever stands before it; in a Sequential it has a number.
HEADS = re.compile(r"(?:classifier|fc|head|last_linear|linear|logits|out|output)(?:\.(?:\d+|fc|out))*")
# A part without this may stand under any prefix: people take the features alone.
INSIDE = "features."


def identify_layout(
    names: Collection[str],
    layouts: Sequence[Layout],
    *,
    layout: str | None = None,
    prefix: str | None = None,
    only: str | None = None,
    whole: bool = True,
) -> Layout:
    """The one layout that explains every name, with the prefix and the head that it found.

    Args:
        names: of all tensors of the source.
        layouts: the tables that are known.
        layout: name of the one that it must be.
        prefix: what must stand before the names.
        only: the same, and names without it are left out.
        whole: see ``Layout.explain``.

    Raises:
        LayoutError: none does, or more than one; the message shows the nearest and
            what it could not explain, or the choices.
    """
    known = [one for one in layouts if layout in (None, one.name)]
    if not known:
        raise LayoutError(f"There is no layout {layout!r}, expected one of {_listed(layouts)}.")
    # The others' first convolution is not there: they are only worth a message.
    likely = [one for one in known if any(_prefixes(one, names))]
    readings = [
        reading
        for one in likely or known
        for reading in _readings(one, names, _dotted(only if prefix is None else prefix), only is not None)
    ]
    problems = {id(reading): reading.explain(names, whole=whole).problems for reading in readings}
    fitting = [reading for reading in readings if not problems[id(reading)]]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise LayoutError(
            f"More than one layout explains all {len(names):,} names: {_listed(fitting)}. "
            "Choose one with --layout or --prefix."
        )
    nearest = min(readings, key=lambda reading: len(problems[id(reading)]))
    unexplained = problems[id(nearest)]
    raise LayoutError(
        f"No layout explains all {len(names):,} names. The nearest is {_told(nearest)} ({nearest.origin}), "
        f"but {some(unexplained)}. {_advice(names, known)}"
    )


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
    outside = any(not entry["source_name"].startswith(source["prefix"]) for entry in receipt["dropped"])
    where = {"only" if outside else "prefix": source["prefix"]}
    return identify_layout(names, layouts, layout=source["layout"], **where, whole=whole)


def _readings(layout: Layout, names: Collection[str], prefix: str | None, only: bool) -> Iterator[Layout]:
    """The layout under each prefix that its first convolution shows, or under the one that is asked for."""
    found = dict.fromkeys(_prefixes(layout, names))
    if prefix is not None:
        found = {one: None for one in found if one[0] == prefix} or {(prefix, ""): None}
    for before, inside in found or {("", ""): None}:
        bare = layout.wrapped(before, inside=inside, only=only)
        yield layout.wrapped(before, inside=inside, head=_head(bare, names), only=only)


def _prefixes(layout: Layout, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """What stands before the names, and what is missing in them."""
    short = layout.stem.removeprefix(INSIDE)
    for name in names:
        stem = next(filter(partial(_ends_with, name), (layout.stem, *layout.other_stems)), None)
        if stem is not None:
            yield name.removesuffix(stem), ""
        elif short != layout.stem and _ends_with(name, short):
            yield name.removesuffix(short), INSIDE


def _ends_with(name: str, stem: str) -> bool:
    return name == stem or name.endswith((f".{stem}", f"/{stem}"))


def _head(layout: Layout, names: Collection[str]) -> str | None:
    """Whole name of the last layer, where the table does not explain it and one is named as heads are."""
    before = layout.prefix
    places = {before}
    if layout.inside:  # of the features alone the head is a sibling
        places.add(before[: before.removesuffix(".").rfind(".") + 1])
    candidates = set()
    for name in names:
        last, _, field = name.rpartition(".")
        if field in ("weight", "bias") and any(
            name.startswith(place) and HEADS.fullmatch(last.removeprefix(place)) for place in places
        ):
            candidates.add(last)
    if not layout.inside and f"{before}{layout.head}" in candidates:
        return None
    return candidates.pop() if len(candidates) == 1 else None


def _dotted(prefix: str | None) -> str | None:
    return f"{prefix}." if prefix and not prefix.endswith((".", "/")) else prefix


def _told(layout: Layout) -> str:
    return f"{layout.name} under {some([layout.prefix])}" if layout.prefix else layout.name


def _listed(layouts: Sequence[Layout]) -> str:
    return ", ".join(map(_told, layouts))


def _advice(names: Collection[str], layouts: Sequence[Layout]) -> str:
    """Which part of it is a DenseNet, if one is."""
    parts = dict.fromkeys(
        reading.prefix
        for layout in layouts
        for reading in _readings(layout, names, None, True)
        if reading.prefix and not reading.explain(names).problems
    )
    if parts:
        choices = " or ".join(f"--only {some([part])}" for part in parts)
        return f"A part of it is a DenseNet: convert that with {choices}, and the rest is left out."
    return "Is this a DenseNet, and the whole of it?"
