"""The plots of the report, and what each shows in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import floor, isfinite
from typing import TYPE_CHECKING

from ...folder.wording import percent
from .charts import BOTTOM, TOP, across, chart, line_of, number_text, scatter
from .error_axis import ErrorAxis

if TYPE_CHECKING:
    from .diagnosis import Diagnosis

FLOAT32 = "float32"
LINES = 4  # colours of lines that the page has


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        finding: what it shows, in words.
        caption: what is drawn.
        legend: class of the page's style and name of what is drawn, for each.
        markup: HTML.
    """

    finding: str
    caption: str
    legend: tuple[tuple[str, str], ...]
    markup: str


def draw_differences(diagnosis: Diagnosis) -> Plot | None:
    """Difference of each layer, ours against the reference's; None where there is none."""
    layers, apart = diagnosis.layers, diagnosis.apart
    if not apart:
        return None
    rounding = diagnosis.theirs.get(FLOAT32, ())
    axis = ErrorAxis.of([*apart, *rounding])
    first = layer_of(diagnosis.first, layers)
    dots = "".join(
        f'<circle class="{"apart" if value else "same"}" cx="{across(i, len(apart))}" '
        f'cy="{_down(axis, value):.1f}" r="2.5"/>'
        for i, value in enumerate(apart)
    )
    said = (f"difference {number_text(value)}" for value in apart)
    own = (f", {FLOAT32}'s rounding {number_text(value)}" for value in rounding)
    readings = ["".join(parts) for parts in zip_longest(said, own, fillvalue="")]
    legend = [("dot apart", "they differ")] if any(apart) else []
    legend += [("dot same", "they are equal")] if 0 in apart else []
    legend.append(("s0", f"what rounding to {FLOAT32} costs the reference itself"))
    if first is not None:
        legend.append(("first", f"the first that differs: layer {first:,}, {layers[first]}"))
    finding = _differences_found(diagnosis)
    stretched = line_of("s0", [_down(axis, value) for value in rounding])
    return Plot(
        finding,
        f"Largest difference between our network and the reference at each layer, in {FLOAT32}, divided by "
        "the layer's largest value.",
        tuple(legend),
        chart(layers, _ticks(axis), stretched, dots, readings, finding, first),
    )


def draw_errors(diagnosis: Diagnosis) -> Plot | None:
    """Error over depth in each precision; None where there is none."""
    values = [v for side in (diagnosis.ours, diagnosis.theirs) for errors in side.values() for v in errors]
    if not values:
        return None
    axis = ErrorAxis.of(values)
    lines = []
    for i, (precision, ours) in enumerate(diagnosis.ours.items()):
        sides = (("broad ", diagnosis.theirs.get(precision, ())), ("", ours))
        lines += [line_of(f"{kind}s{i % LINES}", [_down(axis, v) for v in side]) for kind, side in sides]
    readings = [
        ", ".join(f"{name} {number_text(value)}" for name, value in zip(diagnosis.ours, values, strict=True))
        for values in zip(*diagnosis.ours.values(), strict=False)
    ]
    finding = " ".join(_errors_found(diagnosis))
    first = layer_of(diagnosis.first, diagnosis.layers)
    return Plot(
        finding,
        "Largest error of each layer against the reference's float64 run, divided by the layer's largest "
        "value; ours as a thin line on the reference's broad one.",
        tuple((f"s{i % LINES}", precision) for i, precision in enumerate(diagnosis.ours)),
        chart(diagnosis.layers, _ticks(axis), "".join(lines), "", readings, finding, first),
    )


def draw_logits(diagnosis: Diagnosis) -> Plot | None:
    """Our logits against the reference's; None where there are no pairs of finite ones."""
    pairs = list(zip(*diagnosis.logits, strict=False))
    finite = [pair for pair in pairs if all(map(isfinite, pair))]
    if not finite:
        return None
    apart = max(abs(ours - theirs) for ours, theirs in finite)
    finding = f"The largest difference of {len(finite):,} pairs of logits is {number_text(apart)}."
    if left := len(pairs) - len(finite):
        finding += f" Pairs that are not finite, and not drawn: {left:,}."
    caption = "Each logit in float32, ours against the reference's; equal ones lie on the diagonal."
    return Plot(finding, caption, (), scatter(finite, finding))


def draw_coverage(diagnosis: Diagnosis) -> Plot | None:
    """Share of each tensor that the logits depend on; None where it is not known."""
    if not diagnosis.coverage:
        return None
    names, shares = list(diagnosis.coverage), list(diagnosis.coverage.values())
    least = min(90, 10 * floor(10 * min(shares)))

    def down(share: float) -> float:
        return BOTTOM - 6 - (BOTTOM - TOP - 12) * (100 * share - least) / (100 - least)

    dots = "".join(
        f'<line class="s1" x1="{across(i, len(names))}" x2="{across(i, len(names))}" y1="{down(share):.1f}" '
        f'y2="{down(1):.1f}"/><circle class="s0" cx="{across(i, len(names))}" cy="{down(share):.1f}" r="2"/>'
        for i, share in enumerate(shares)
    )
    ticks = [(down(value / 100), f"{value:g}%") for value in (least, (least + 100) / 2, 100)]
    whole = sum(share >= 1 for share in shares)
    finding = f"The logits depend on all of {whole:,} of {len(names):,} tensors"
    worst = min(diagnosis.coverage.items(), key=lambda item: item[1])
    finding += "." if whole == len(names) else f"; least on {worst[0]}, {percent(worst[1])}."
    return Plot(
        finding,
        "Share of each tensor's elements that the logits depend on, and down from 100% what is missing.",
        (),
        chart(names, ticks, "", dots, [percent(share) for share in shares], finding),
    )


def layer_of(name: str | None, layers: Sequence[str]) -> int | None:
    """Index of the layer of this name, or that has the tensor of this name."""
    if name is None:
        return None
    return next((i for i, layer in enumerate(layers) if layer in (name, name.rpartition(".")[0])), None)


def _differences_found(diagnosis: Diagnosis) -> str:
    count = len(diagnosis.layers)
    differing = [i for i, value in enumerate(diagnosis.apart) if value]
    if not differing and diagnosis.problem is None:
        return f"Ours and the reference's are equal, to the bit, at {count:,} of {count:,} layers."
    if not differing:
        return (
            f"On this input both are equal at {count:,} of {count:,} layers: the message says what differs."
        )
    at = differing[0]
    return (
        f"Before layer {at:,}, {diagnosis.layers[at]}, both are equal; there they differ by "
        f"{number_text(diagnosis.apart[at])} of the largest value, and at {len(differing):,} of {count:,} "
        f"layers in all."
    )


def _errors_found(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.ours == diagnosis.theirs:
        largest = (f"{number_text(_largest(errors))} in {name}" for name, errors in diagnosis.ours.items())
        yield f"At each layer both have the same error. The largest is {', '.join(largest)}."
        return
    for precision, ours in diagnosis.ours.items():
        theirs = diagnosis.theirs.get(precision, ())
        same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        yield (
            f"In {precision} our largest error is {number_text(_largest(ours))}, the reference's "
            f"{number_text(_largest(theirs))}; they are equal at {same:,} of {len(ours):,} layers."
        )


def _largest(errors: Sequence[float]) -> float:
    # max() passes over a NaN that is not the first.
    return next((value for value in errors if not isfinite(value)), max(errors, default=0.0))


def _down(axis: ErrorAxis, error: float) -> float:
    """Pixels from the top at which an error is drawn."""
    return _pixels(axis, axis.height(error))


def _pixels(axis: ErrorAxis, height: float) -> float:
    room = (axis.top - axis.bottom) or 1.0
    return BOTTOM - 8 - (BOTTOM - TOP - 16) * (height - axis.bottom) / room


def _ticks(axis: ErrorAxis) -> list[tuple[float, str]]:
    return [(_pixels(axis, height), label) for height, label in axis.ticks()]
