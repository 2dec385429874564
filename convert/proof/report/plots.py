"""The plots of the report, each drawn for light and for dark paper, as data URIs."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from math import floor, inf, isfinite
from typing import TYPE_CHECKING, Any

from ...folder.wording import percent
from .error_axis import ErrorAxis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .diagnosis import Diagnosis

# Sharp at any size up to here, and a bitmap beyond: each plot is in the page twice.
LONGEST_SVG = 200_000


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        finding: what it shows, in words, for who can't see it.
        caption: what is drawn.
        light: data URI of the image on white.
        dark: the same on the dark page.
        wide: whether it is drawn in landscape; square otherwise.
    """

    finding: str
    caption: str
    light: str
    dark: str
    wide: bool


@dataclass(frozen=True)
class _Paper:
    background: str
    ink: str
    faint: str
    alarm: str
    lines: tuple[str, ...]


# Hues of Okabe and Ito, which the colour-blind tell apart (https://jfly.uni-koeln.de/color/), darker or
# lighter where that is needed to stand out from paper and bands by 4 to 1, and from paper as text by 4.5.
_LIGHT = _Paper("#ffffff", "#1f2328", "#e9ecf0", "#b3261e", ("#0072b2", "#b84f00", "#007a57", "#9c4a7e"))
_DARK = _Paper("#16181d", "#e6e8eb", "#2b2f37", "#ff8a80", ("#56b4e9", "#e69f00", "#22b88c", "#e29bc6"))

_Draw = Callable[["Axes", _Paper], None]


def draw_errors(diagnosis: Diagnosis) -> Plot | None:
    """Error over depth in each precision; None where there is none."""
    values = [v for side in (diagnosis.ours, diagnosis.theirs) for errors in side.values() for v in errors]
    if not values:
        return None
    error_axis = ErrorAxis.of(values)
    first = layer_of(diagnosis.first, diagnosis.layers)

    def draw(axes: Axes, paper: _Paper) -> None:
        ends = _draw_lines(axes, paper, diagnosis, error_axis)
        height = error_axis.top - error_axis.bottom + 1
        axes.set_ylim(error_axis.bottom - height / 20, error_axis.top + height / (20 if first is None else 6))
        axes.set_yticks(*error_axis.ticks())
        _mark_blocks(axes, paper, diagnosis.layers)
        _label_ends(axes, ends, len(diagnosis.layers))
        axes.set_xlabel("index of the layer, in running order")
        axes.set_ylabel("largest error / largest value (no unit)")
        if first is not None:
            _mark_first(axes, paper, first, diagnosis.layers)

    return _plot(
        draw,
        " ".join(_errors_found(diagnosis, first)),
        "Error of each layer against the reference's float64 run, ours as a thin line on the reference's "
        "broad one; the bands are the dense blocks.",
    )


def draw_logits(diagnosis: Diagnosis) -> Plot | None:
    """Our logits against the reference's; None where there are no pairs of finite ones."""
    pairs = list(zip(*diagnosis.logits, strict=False))
    finite = [pair for pair in pairs if all(map(isfinite, pair))]
    if not finite:
        return None

    def draw(axes: Axes, paper: _Paper) -> None:
        numbers = [number for pair in finite for number in pair]
        margin = (max(numbers) / 20 - min(numbers) / 20) or 1.0
        ends = (min(numbers) - margin, max(numbers) + margin)
        axes.plot(ends, ends, color=paper.ink, linewidth=0.8, zorder=3)
        ours, theirs = zip(*finite, strict=True)
        axes.plot(theirs, ours, "o", color=paper.lines[0], markersize=4, alpha=0.7, markeredgewidth=0)
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set_xlabel("logit of the reference (no unit)")
        axes.set_ylabel("our logit (no unit)")

    apart = max(abs(ours - theirs) for ours, theirs in finite)
    finding = f"The largest difference of {len(finite):,} pairs of logits is {number_text(apart)}."
    if left := len(pairs) - len(finite):
        finding += f" Pairs that are not finite, and not drawn: {left:,}."
    caption = "Each logit in float32, ours against the reference's; equal ones lie on the diagonal."
    return _plot(draw, finding, caption, wide=False)


def draw_coverage(diagnosis: Diagnosis) -> Plot | None:
    """Share of each tensor that the logits depend on; None where it is not known."""
    if not diagnosis.coverage:
        return None
    names, percents = list(diagnosis.coverage), [100 * share for share in diagnosis.coverage.values()]

    def draw(axes: Axes, paper: _Paper) -> None:
        axes.vlines(range(len(percents)), percents, 100, color=paper.lines[1], linewidth=1)
        axes.plot(percents, "o", color=paper.lines[0], markersize=2.5)
        least = min(90, 10 * floor(min(percents) / 10))
        axes.set_ylim(least - (100 - least) / 20, 100 + (100 - least) / 20)
        _mark_blocks(axes, paper, names)
        axes.set_xlabel("index of the tensor, in the network's order")
        axes.set_ylabel("share seen in the logits (%)")

    whole = sum(percent >= 100 for percent in percents)
    least = min(diagnosis.coverage.items(), key=lambda item: item[1])
    finding = f"The logits depend on all of {whole:,} of {len(names):,} tensors"
    finding += "." if whole == len(names) else f"; least on {least[0]}, {percent(least[1])}."
    caption = "Share of each tensor's elements that the logits depend on, and down from 100% what is missing."
    return _plot(draw, finding, caption)


def layer_of(name: str | None, layers: Sequence[str]) -> int | None:
    """Index of the layer of this name, or that has the tensor of this name."""
    if name is None:
        return None
    return next((i for i, layer in enumerate(layers) if layer in (name, name.rpartition(".")[0])), None)


def number_text(value: float) -> str:
    """``"2.1e-6"``: three digits, as a person reads them."""
    if not isfinite(value):
        return "infinite" if abs(value) == inf else "NaN"
    return re.sub(r"e([+-])0?(\d)", r"e\1\2", f"{value:.3g}").replace("e+", "e")


def _errors_found(diagnosis: Diagnosis, first: int | None) -> Iterator[str]:
    for precision, ours in diagnosis.ours.items():
        theirs = diagnosis.theirs.get(precision, ())
        same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        yield (
            f"In {precision} our largest error is {number_text(_largest(ours))}, the reference's "
            f"{number_text(_largest(theirs))}; they are equal at {same:,} of {len(ours):,} layers."
        )
    if first is not None:
        yield f"The first that differs is layer {first:,}, {diagnosis.layers[first]}."


def _largest(errors: Sequence[float]) -> float:
    # max() passes over a NaN that is not the first.
    return next((value for value in errors if not isfinite(value)), max(errors, default=0.0))


def _draw_lines(
    axes: Axes, paper: _Paper, diagnosis: Diagnosis, error_axis: ErrorAxis
) -> list[tuple[float, str, str]]:
    """Draws both networks' errors in each precision, and returns the height, name and colour of ours' end."""
    ends = []
    for i, (precision, ours) in enumerate(diagnosis.ours.items()):
        colour = paper.lines[i % len(paper.lines)]
        heights = [error_axis.height(value) for value in ours]
        theirs = [error_axis.height(value) for value in diagnosis.theirs.get(precision, ())]
        one = "o" if len(heights) == 1 else ""
        axes.plot(theirs, color=colour, alpha=0.4, linewidth=4.5, marker=one, markersize=11)
        axes.plot(heights, color=colour, linewidth=1, marker=one, markersize=4)
        ends.append((heights[-1] if heights else error_axis.bottom, precision, colour))
    return ends


def _mark_blocks(axes: Axes, paper: _Paper, names: Sequence[str]) -> None:
    """A band with its number on top for each dense block, in whose order ``names`` are."""
    last = max(len(names) - 1, 0)
    axes.set_xlim(-0.5 - last / 100, last + 0.5 + last / 100)
    axes.locator_params(axis="x", integer=True)
    blocks = [re.search(r"denseblock(\d+)", name) for name in names]
    ticks = {}
    for block, group in groupby(
        enumerate(m.group(1) if m else None for m in blocks), key=lambda item: item[1]
    ):
        if block is not None:
            places = [i for i, _ in group]
            axes.axvspan(places[0] - 0.5, places[-1] + 0.5, color=paper.faint, linewidth=0, zorder=0)
            ticks[(places[0] + places[-1]) / 2] = block
    if ticks:
        above = axes.secondary_xaxis("top")
        above.set_xticks(list(ticks), list(ticks.values()))
        above.tick_params(length=0, colors=paper.ink)
        above.spines["top"].set_visible(False)
        above.set_xlabel("dense block", color=paper.ink)


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]], width: int) -> None:
    """The name of each line at its right end, or as near as the names below and the top leave room."""
    low, high = axes.get_ylim()
    gap = (high - low) / 14
    places: list[float] = []
    for height, _, _ in sorted(ends):
        places.append(max(height, places[-1] + gap) if places else height)
    for i, (place, (_, name, colour)) in enumerate(zip(places, sorted(ends), strict=True)):
        at = (width - 1 + 0.03 * width, min(place, high - gap * (len(places) - i - 0.5)))
        axes.annotate(name, at, color=colour, va="center", annotation_clip=False, parse_math=False)


def _mark_first(axes: Axes, paper: _Paper, first: int, layers: Sequence[str]) -> None:
    axes.axvline(first, color=paper.alarm, linewidth=1.2, linestyle=(0, (4, 2)))
    side = ("left", "center", "right")[3 * first // len(layers)]
    text = f"first difference:\n{layers[first]}"
    label = axes.text(first, axes.get_ylim()[1], text, color=paper.alarm, ha=side, va="top", size=8)
    label.set(parse_math=False, bbox={"facecolor": paper.background, "linewidth": 0, "pad": 1})


def _plot(draw: _Draw, finding: str, caption: str, *, wide: bool = True) -> Plot:
    light, dark = (_image(draw, paper, (5.2, 3.6) if wide else (4.2, 4.0)) for paper in (_LIGHT, _DARK))
    return Plot(finding, caption, light, dark, wide)


def _image(draw: _Draw, paper: _Paper, size: tuple[float, float]) -> str:
    """A data URI: the same for the same drawing, whatever the user's matplotlibrc says."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Ids are random without a salt.
    settings: Mapping[str, Any] = {
        "svg.hashsalt": "densenet-convert",
        "font.size": 9.5,
        **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), paper.ink),
    }
    with style.context(["default", dict(settings)]):
        figure = Figure(figsize=size, layout="constrained", facecolor=paper.background)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(facecolor=paper.background)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, paper)
        image = BytesIO()
        figure.savefig(image, format="svg", facecolor=paper.background, metadata={"Date": None})
        kind = "svg+xml"
        if image.tell() > LONGEST_SVG:
            image, kind = BytesIO(), "png"
            figure.savefig(image, format=kind, facecolor=paper.background, dpi=220)
    return f"data:image/{kind};base64,{b64encode(image.getvalue()).decode()}"
