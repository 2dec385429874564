"""Charts as SVG that fits any width.

What lies across the page is given in shares of its width, what lies along it in pixels: lines
stretch, and text keeps its size.  Colours are those of the page, light or dark.  The name and the
values of a column are shown, without a script, while it is pointed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from math import inf, isfinite

# Pixels from the top of a chart: two lines on what is pointed at, the first difference, the numbers of the
# dense blocks, and between the next two what is drawn; ticks are below.
READING, FIRST, BLOCKS, TOP, BOTTOM, TICKS, HEIGHT = 13, 46, 62, 68, 280, 296, 300
SQUARE = 340
MOST_TICKS = 6


def number_text(value: float) -> str:
    """``"2.1e-6"``: three digits, as a person reads them."""
    if not isfinite(value):
        return "infinite" if abs(value) == inf else "NaN"
    return re.sub(r"e([+-])0?(\d)", r"e\1\2", f"{value:.3g}").replace("e+", "e")


def across(index: float, count: int) -> str:
    """Returns the middle of one of ``count`` columns, as a share of the width."""
    return f"{100 * (index + 0.5) / count:.2f}%"


def line_of(kind: str, downs: Sequence[float]) -> str:
    points = "L".join(f"{i + 0.5:g} {down:.1f}" for i, down in enumerate(downs))
    # A single point is drawn as a line that goes nowhere.
    return f'<path class="{kind}" d="M{points}h0"/>' if points else ""


def chart(
    names: Sequence[str],
    ticks: Sequence[tuple[float, str]],
    stretched: str,
    dots: str,
    readings: Sequence[str],
    finding: str,
    first: int | None = None,
) -> str:
    """A plot over layers or tensors, in their order.

    Args:
        names: of the columns.
        ticks: pixels from the top, and label, of each line across.
        stretched: paths whose unit across is a column.
        dots: what is drawn and must not be stretched.
        readings: what is shown of a column that is pointed at.
        finding: what the plot shows, in words.
        first: the column that stands out.
    """
    scale = "".join(f'<text x="92%" y="{y + 4:.1f}">{escape(label)}</text>' for y, label in ticks)
    lines = "".join(f'<line x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>' for y, _ in ticks)
    parts = "".join((*_bands(names), f'<g class="grid">{lines}</g>', *_first(first, len(names))))
    return (
        f'<div class="plot"><svg class="scale" aria-hidden="true">{scale}</svg>'
        f'<svg class="field" role="img" aria-label="{escape(finding)}">{parts}'
        f'<svg viewBox="0 0 {len(names)} {HEIGHT}" preserveAspectRatio="none">{stretched}</svg>'
        f"{dots}{''.join(_columns(names, readings))}</svg></div>"
    )


def _bands(names: Sequence[str]) -> Iterator[str]:
    """A band with its number on top for each dense block, and the index of some columns below."""
    blocks = [re.search(r"denseblock(\d+)", name) for name in names]
    numbers = enumerate(found.group(1) if found else None for found in blocks)
    for block, group in groupby(numbers, key=lambda item: item[1]):
        places = [i for i, _ in group]
        if block is not None:
            yield (
                f'<rect class="band" x="{100 * places[0] / len(names):.2f}%" y="{TOP}" '
                f'width="{100 * len(places) / len(names):.2f}%" height="{BOTTOM - TOP}"/>'
                f'<text x="{across((places[0] + places[-1]) / 2, len(names))}" y="{BLOCKS}">{block}</text>'
            )
    for i in range(0, len(names), _step(len(names))):
        yield f'<text x="{across(i, len(names))}" y="{TICKS}">{i:,}</text>'


def _step(count: int) -> int:
    """The smallest round number that leaves ``MOST_TICKS`` at most."""
    powers = (base * int(10**power) for power in range(9) for base in (1, 2, 5))
    return next(step for step in powers if step * MOST_TICKS >= count)


def _first(first: int | None, count: int) -> Iterator[str]:
    """A line at the column that stands out, with its label."""
    if first is None:
        return
    x, side = across(first, count), ("start", "middle", "end")[3 * first // count]
    yield (
        f'<g class="first"><line x1="{x}" x2="{x}" y1="{TOP}" y2="{BOTTOM}"/>'
        f'<text x="{x}" y="{FIRST}" text-anchor="{side}">first difference</text></g>'
    )


def _columns(names: Sequence[str], readings: Sequence[str]) -> Iterator[str]:
    """For each column what is shown while it is pointed at."""
    width = f"{100 / len(names):.3f}%"
    for i, (name, reading) in enumerate(zip(names, readings, strict=False)):
        yield (
            f'<g class="column"><rect x="{100 * i / len(names):.2f}%" width="{width}" y="{TOP}" '
            f'height="{BOTTOM - TOP}"/><text y="{READING}">{i:,}: {escape(name)}'
            f'<tspan x="0" dy="16">{escape(reading)}</tspan></text></g>'
        )


def scatter(pairs: Sequence[tuple[float, ...]], finding: str) -> str:
    """Pairs of numbers on one scale, and the diagonal."""
    numbers = [number for pair in pairs for number in pair]
    low, high = min(numbers), max(numbers)
    room = (high - low) or 1.0
    left, right = 64, SQUARE - 8

    def along(value: float) -> float:
        return left + 6 + (right - left - 12) * ((value - low) / room)

    dots = {f"{along(theirs):.1f} {SQUARE - along(ours):.1f}" for ours, theirs in pairs}
    labels = "".join(
        f'<text x="{along(value):.0f}" y="{SQUARE - left + 18}">{number_text(value)}</text>'
        f'<text x="{left - 6}" y="{SQUARE - along(value) + 4:.0f}" class="end">{number_text(value)}</text>'
        for value in (low, high)
    )
    return (
        f'<svg class="square" viewBox="0 0 {SQUARE} {SQUARE}" role="img" aria-label="{escape(finding)}">'
        f'<path class="grid" d="M{left} {SQUARE - left}V8M{left} {SQUARE - left}H{right}M{left} '
        f'{SQUARE - left}L{right} {SQUARE - right}"/>{labels}'
        f'<text x="{(left + right) / 2:g}" y="{SQUARE - left + 40}">logit of the reference</text>'
        f'<text class="up" x="{-SQUARE / 2 + 18:g}" y="14">our logit</text>'
        f'<path class="points" d="{"".join(f"M{dot}h0" for dot in sorted(dots))}"/></svg>'
    )
