"""The report: one page that shows what a proof saw, for people.

It stands alone: nothing is loaded from elsewhere, and no script runs.  What a receipt or a
message says is a stranger's, and is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from itertools import groupby
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import architecture_of
from densenet_convert.densenet.config import architecture_label

from ...errors import ReportError
from ...folder.receipt import config_from
from ...folder.wording import asked_for, coverage_text, every_input_text, inputs_text, origin_text
from ...results import Measured
from .plots import Plot, draw_coverage, draw_errors, draw_logits, layer_of, number_text

if TYPE_CHECKING:
    from .diagnosis import Diagnosis

MOST_CHANNELS = 12

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --good: #0a6640; --bad: #b3261e; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #16181d; --ink: #e6e8eb; --soft: #a3abb5; --line: #3b414b;
    --good: #5fd39f; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 48rem; padding: 1.25rem 1rem 3rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; break-after: avoid; }
p { margin: .5rem 0; }
.verdict { border: 1px solid var(--line); border-left: .4rem solid var(--good); border-radius: .4rem;
  padding: .6rem 1rem; }
.verdict strong { color: var(--good); font-size: 1.15rem; }
.verdict.failed { border-left-color: var(--bad); }
.failed strong { color: var(--bad); }
.box { margin-top: 1rem; overflow: auto; max-height: 24rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-top: 1px solid var(--line); }
tbody th { font-weight: normal; color: var(--soft); white-space: nowrap; }
thead th { border-top: 0; vertical-align: bottom; }
.box th, .box td { overflow-wrap: normal; }
.box td { min-width: 5rem; }
.box td.list { min-width: 10rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: .5rem 0 0; break-inside: avoid; }
img { display: block; width: 100%; height: auto; max-width: 40rem; }
.square img { max-width: 30rem; }
figcaption, .soft { color: var(--soft); font-size: .9rem; }
code { font-size: .92em; }
tr { break-inside: avoid; }
@media (max-width: 40rem) { .box tbody th { min-width: 8rem; white-space: normal; overflow-wrap: anywhere; } }
@media print { :root { color-scheme: light; } img { max-width: 30rem; }
  .box { max-height: none; overflow: visible; } }
"""

# Were a text not escaped, no script of it would run and nothing would be loaded.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# By which a page of ours is known, and may be replaced.
_BEGIN = '<!DOCTYPE html>\n<html lang="en" data-by="densenet-convert">'


def check_report(path: Path) -> None:
    """Refuses at once what could not be written in the end.

    Raises:
        ReportError: matplotlib is not installed, or ``path`` can't be a file.
    """
    if find_spec("matplotlib") is None:
        raise ReportError(
            "The report's plots need matplotlib, which is not installed. Install it with: "
            'pip install "densenet-convert[report]"'
        )
    try:
        path.resolve()
        if path.is_dir() or not path.parent.is_dir():
            raise ReportError(f"{path} can't be written: it is a folder, or not in one. Name a file.")
        taken = path.exists() and not _is_report(path)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL, a name too long
        raise ReportError(f"{path} can't be written: {getattr(error, 'strerror', None) or error}.") from error
    if taken:
        raise ReportError(f"{path} exists and is no report: it is left alone. Name another file.")


def _is_report(path: Path) -> bool:
    """Whether a file begins as a page of ours; a folder and a pipe do not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_BEGIN)) == _BEGIN.encode()


def write_report(path: Path, diagnosis: Diagnosis, receipt: Mapping[str, Any]) -> None:
    """Writes the page; see ``report_html``.

    Raises:
        ReportError: it can't be made or written.
    """
    network = architecture_of(config_from(receipt["config"])) or "DenseNet"
    page = report_html(diagnosis, receipt, title=f"{network}: parity with its source")
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ReportError(
            f"{path} can't be written: {error.strerror or error}. Name another file."
        ) from error


def report_html(diagnosis: Diagnosis, receipt: Mapping[str, Any], *, title: str) -> str:
    """The page: the verdict, what was verified, plots over the depth of the network, and tables.

    The same arguments give the same text.

    Args:
        receipt: the content of conversion.json; without ``verification`` where the proof failed.
        title: heading of the page.

    """
    body = "\n".join(_body(diagnosis, receipt, title))
    page = f"""{_BEGIN}
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""
    # A file's name may hold bytes that are no UTF-8, which could not be written.
    return page.encode("utf-8", "backslashreplace").decode()


def _body(diagnosis: Diagnosis, receipt: Mapping[str, Any], title: str) -> Iterator[str]:
    proof = receipt.get("verification")
    yield f"<h1>{escape(title)}</h1>"
    yield _verdict(diagnosis, proof)
    yield "<h2>What was verified</h2>"
    yield _rows(_facts(receipt, proof))
    if proof:
        rows = [
            (k, f"{n:,}", number_text(proof["largest_difference"][k])) for k, n in proof["compared"].items()
        ]
        yield _table(("compared", "comparisons", "largest difference"), rows)
    yield "<h2>Error over depth</h2>"
    yield _figure(draw_errors(diagnosis))
    yield "<h2>Logits</h2>"
    yield _figure(draw_logits(diagnosis))
    if diagnosis.coverage:
        yield "<h2>Coverage over depth</h2>"
        yield _figure(draw_coverage(diagnosis))
        yield "<h2>Dead channels</h2>"
        yield from _dead(diagnosis.dead)
    yield "<h2>Error of the logits in each setting</h2>"
    yield from _settings(diagnosis.measured)


def _verdict(diagnosis: Diagnosis, proof: Mapping[str, Any] | None) -> str:
    beyond = [one.setting for one in diagnosis.measured if not one.holds]
    if proof and not (diagnosis.problem or diagnosis.first or beyond):
        return (
            '<div class="verdict"><strong>✓ Proven</strong><p>The converted network is '
            f"the reference's function: {sum(proof['compared'].values()):,} comparisons, and not a bit "
            "differs.</p></div>"
        )
    lines = [diagnosis.problem or ""]
    if diagnosis.first:
        at = layer_of(diagnosis.first, diagnosis.layers)
        place = "" if at is None else f", layer {at:,} in the first plot"
        lines.append(f"The first that differs is {diagnosis.first}{place}.")
    if beyond:
        lines.append(f"The error of the logits is beyond its bound in {', '.join(beyond)}.")
    if not any(lines):
        lines.append("The receipt holds no verification. Run the proof again.")
    text = "".join(f"<p>{escape(part)}</p>" for part in lines if part)
    return f'<div class="verdict failed"><strong>✗ Failed</strong>{text}</div>'


def _facts(receipt: Mapping[str, Any], proof: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    source = receipt["source"]
    size = f"{source['size'] / 1e6:.1f} MB"
    yield "source", f"{origin_text(source)}: {source['format']}, layout {source['layout']}, {size}"
    yield "SHA-256", source["sha256"]
    yield "network", architecture_label(config_from(receipt["config"]))
    yield "tensors", f"{len(receipt['tensors']):,}, and {len(receipt['dropped']):,} dropped"
    if proof:
        yield "reference", proof["reference"]
        yield "device", f"{proof['device']}, {proof['dtype']}"
        yield "versions", ", ".join(f"{name} {version}" for name, version in proof["versions"].items())
        yield "inputs", inputs_text(proof)
        facts = {"every input": every_input_text(proof), "coverage": coverage_text(proof)}
        yield from ((name, text) for name, text in facts.items() if text)
        yield from asked_for(proof).items()


def _figure(plot: Plot | None) -> str:
    if plot is None:
        return '<p class="soft">Not drawn: nothing was measured.</p>'
    return (
        f"<figure{'' if plot.wide else ' class=square'}><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{plot.dark}">'
        f'<img src="{plot.light}" alt="{escape(plot.finding)}"></picture>'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
    )


def _dead(dead: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    if not dead:
        yield '<p class="soft">None: every channel passes something on.</p>'
        return
    yield f'<p class="soft">{_count(sum(map(len, dead.values())))}, by the tensor that would read them.</p>'
    yield _table(("tensor", "dead", "channels"), [(n, f"{len(c):,}", _runs(c)) for n, c in dead.items()])


def _count(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels:,} channels"


def _runs(channels: Sequence[int]) -> str:
    """``"0-3, 7 and 5 more"``: neighbours as one, and of a long list the beginning."""
    runs = [
        [channel for _, channel in group]
        for _, group in groupby(enumerate(sorted(channels)), key=lambda item: item[1] - item[0])
    ]
    shown = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs[:MOST_CHANNELS])
    left = sum(map(len, runs[MOST_CHANNELS:]))
    return f"{shown} and {left:,} more" if left else shown


def _settings(measured: Sequence[Measured]) -> Iterator[str]:
    if not measured:
        yield '<p class="soft">None was measured.</p>'
        return
    yield (
        '<p class="soft">Largest absolute difference from a float64 run of the reference. A bound that is no '
        "smaller than the standard deviation of the logits tells nothing.</p>"
    )
    columns = ("setting", "ours", "the reference's", "bound", "share of the bound")
    rows = [
        (one.setting, *map(number_text, (one.ours, one.theirs, one.bound)), _share(one)) for one in measured
    ]
    yield _table(columns, rows)


def _share(one: Measured) -> str:
    share = one.ours / one.bound if one.bound else one.ours and inf
    if one.holds:
        return f"{number_text(100 * share)}%{'' if one.tells else ', tells nothing'}"
    return f"beyond: {number_text(share)} times" if isfinite(share) else "beyond"


def _rows(facts: Iterable[tuple[str, str]]) -> str:
    lines = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in facts)
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column names the row; the others are numbers, but for ``channels``."""
    kinds = [f' class="{"list" if column == "channels" else "number"}"' for column in columns[1:]]
    head = "".join(
        f'<th scope="col"{kind}>{escape(c)}</th>' for c, kind in zip(columns, ["", *kinds], strict=True)
    )
    lines = (
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(cells, kinds, strict=True))
        + "</tr>"
        for name, *cells in rows
    )
    # It scrolls, so the keyboard must reach it.
    return (
        f'<div class="box" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
