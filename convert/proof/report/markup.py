"""Pieces of the report's HTML; what they are given is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from .charts import number_text
from .pictures import Picture
from .plots import Plot


def breakable(text: str) -> str:
    """Text in which a long name may be broken behind its dots."""
    return re.sub(r"\.(?=[a-z])", ".<wbr>", escape(text))


def rows(facts: Iterable[tuple[str, str]]) -> str:
    """A table of names and what is said of each."""
    lines = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in facts)
    return f'<table class="facts"><tbody>{"".join(lines)}</tbody></table>'


def table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """The first column names the row; the others are numbers, but for ``channels``."""
    kinds = [f' class="{"list" if column == "channels" else "number"}"' for column in columns[1:]]
    head = "".join(
        f'<th scope="col"{kind}>{escape(c)}</th>' for c, kind in zip(columns, ["", *kinds], strict=True)
    )
    lines = (
        f'<tr><th scope="row">{breakable(name)}</th>'
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(others, kinds, strict=True))
        + "</tr>"
        for name, *others in cells
    )
    # It scrolls, so the keyboard must reach it.
    return (
        f'<div class="box" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def figure(plot: Plot | None) -> str:
    """A plot with its legend, and in words what it shows."""
    if plot is None:
        return '<p class="soft">Not drawn: nothing was measured.</p>'
    legend = "".join(f'<span class="{kind}">{breakable(name)}</span>' for kind, name in plot.legend)
    return (
        f"<p>{breakable(plot.finding)}</p><figure><figcaption>{escape(plot.caption)}</figcaption>"
        f'{plot.markup}<p class="legend">{legend}</p></figure>'
    )


def picture(shown: Picture) -> str:
    """An image beside what both networks say of it."""
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{_probability(ours)}{_probability(theirs)}</tr>'
        for name, ours, theirs in shown.classes
    )
    return (
        f'<figure class="picture"><img src="{shown.thumbnail}" alt=""><div>{escape(shown.name)}'
        f'<p class="soft">largest difference of a logit: {number_text(shown.apart)}</p>'
        '<table><thead><tr><th scope="col">class</th><th scope="col">ours</th>'
        f'<th scope="col">reference</th></tr></thead><tbody>{lines}</tbody></table></div></figure>'
    )


def _probability(value: float) -> str:
    """A cell with a bar."""
    return f'<td class="share" style="--share: {100 * value:.1f}%">{100 * value:.1f}%</td>'
