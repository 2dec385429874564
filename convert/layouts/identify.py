"""Which layout the names are in, and how they are wrapped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import LayoutError, first_few, quoted
from ..layout import Layout, Reading
from .explain import LEFT_OUT, explain, missing
from .views import views

FIRST_WEIGHT = "features.conv0.weight"


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
    asked = only if prefix is None else prefix
    nearest: list[Reading] = []
    fits: list[Reading] = []
    for view in views(names):
        where, last = (None if one is None else view.clean(one) for one in (asked, head))
        if last and last not in set(map(_layer_of, view.names)):
            continue
        # The others' first convolution is not there: they are only worth a message.
        readings = view.readings(view.likely(known) or known, where, last, only is not None)
        fitting, closest = _fitting(readings, names, whole)
        fits += [_only_one(fitting, names)] if fitting else []
        nearest += [closest] if closest else []
        # Without wrappers the features may bear their own name.
        if fits and not fits[-1].inside:
            break
    if fits:
        return min(fits, key=lambda one: one.inside != "")
    if not nearest:
        raise LayoutError(
            f"There is no layer {quoted(head or '')} for the head, expected the whole name of one."
        )
    shown = min(nearest, key=lambda one: len(one.explanation.problems))
    raise LayoutError(
        f"No layout explains all {len(names):,} names. The nearest is {label_of(shown)} "
        f"({shown.layout.origin}), but {first_few(shown.explanation.problems)}."
    )


def _only_one(fitting: Sequence[Reading], names: Collection[str]) -> Reading:
    """Returns the only reading that explains a whole network, or the first of those that explain a part.

    Several layouts may explain the names of an incomplete network; the shapes tell later what is missing.
    """
    complete = [one for one in fitting if not missing(one.explanation.targets.values())]
    if len(complete) > 1:
        raise LayoutError(
            f"More than one layout explains all {len(names):,} names: {_listed(complete)}. "
            "Choose one with `layout=...` or `prefix=...`."
        )
    return (complete or fitting)[0]


def whole_networks(names: Collection[str], layouts: Sequence[Layout]) -> list[Reading]:
    """Returns a reading for each place where the names hold all features of a DenseNet, in their order.

    Each takes the features alone, and leaves out the rest.

    Raises:
        LayoutError: there are too many to try.
    """
    best: list[Reading] = []
    for view in views(names):
        fitting, _ = _fitting(view.readings(view.likely(layouts), None, "", True), names, True)
        found = {reading.prefix: reading for reading in reversed(fitting)}
        order = {prefix: i for i, prefix in enumerate(view.first_with(found))}
        networks = sorted(found.values(), key=lambda reading: order[reading.prefix])
        if not best or (networks and not any(one.inside for one in networks)):
            best = networks
        if best and not any(one.inside for one in best):
            break
    return best


def _fitting(
    readings: Iterable[Reading], names: Collection[str], whole: bool
) -> tuple[list[Reading], Reading | None]:
    """Returns the readings that explain every name, and the one of the others that leaves the fewest."""
    fitting: list[Reading] = []
    nearest: Reading | None = None
    for reading in readings:
        found = _of_its_dimensions(explain(reading, names, expect_drops=whole), names)
        problems = len(found.explanation.problems)
        if not problems:
            fitting.append(found)
        elif nearest is None or problems < len(nearest.explanation.problems):
            nearest = found
    return fitting, nearest


def _of_its_dimensions(found: Reading, names: Collection[str]) -> Reading:
    """Returns the reading; with a problem where the first kernel has not the dimensions of its layout.

    Names alone tell no dimensions.
    """
    sources = {ours: name for name, ours in found.explanation.targets.items()}
    first = sources.get(FIRST_WEIGHT)
    if first is None or not isinstance(names, Mapping) or found.explanation.axes:
        return found
    layout, dimensions = found.layout, len(names[first].shape) - 2
    if dimensions in layout.dimensions or dimensions not in (1, 2, 3):
        return found
    expected = " or ".join(map(str, layout.dimensions))
    problem = f"{first} is a kernel of {dimensions} dimensions, and {layout.name} has those of {expected}"
    explanation = replace(found.explanation, problems=(*found.explanation.problems, problem))
    return replace(found, explanation=explanation)


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


def _layer_of(name: str) -> str:
    """``"fc"`` of ``"fc.weight"``; empty where nothing is before it."""
    return name[: max(name.rfind("."), name.rfind("/"), 0)]


def label_of(reading: Reading) -> str:
    """Returns what a message calls a reading: ``"monai under module."``."""
    name = reading.layout.name
    return f"{name} under {quoted(reading.prefix)}" if reading.prefix else name


def _listed(readings: Sequence[Reading]) -> str:
    return ", ".join(map(label_of, readings))
