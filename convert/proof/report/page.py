"""The report: one page that shows what a proof saw, for people.

It stands alone: nothing is loaded from elsewhere, and no script runs.  What a receipt or a
message says is a stranger's, and is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet.config import architecture_label

from ...errors import ReportError
from ...folder.receipt import config_from
from ...folder.wording import (
    asked_for,
    coverage_text,
    every_input_text,
    inputs_text,
    network_name,
    origin_text,
)
from ...results import Measured
from .charts import number_text
from .markup import breakable, figure, picture, rows, table
from .plots import draw_coverage, draw_differences, draw_errors, draw_logits, layer_of
from .style import STYLE

if TYPE_CHECKING:
    from .diagnosis import Diagnosis
    from .pictures import Picture

MOST_CHANNELS = 12

# Were a text not escaped, no script of it would run and nothing would be loaded.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# By which a page of ours is known, and may be replaced.
_BEGIN = '<!DOCTYPE html>\n<html lang="en" data-by="densenet-convert">'


def check_report(path: Path) -> None:
    """Refuses at once what could not be written in the end.

    Raises:
        ReportError: ``path`` can't be a file.
    """
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


def write_report(
    path: Path,
    diagnosis: Diagnosis,
    receipt: Mapping[str, Any],
    *,
    folder: str,
    pictures: Sequence[Picture] = (),
) -> None:
    """Writes the page; see ``report_html``.

    Raises:
        ReportError: it can't be made or written.
    """
    page = report_html(diagnosis, receipt, folder=folder, pictures=pictures)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ReportError(
            f"{path} can't be written: {error.strerror or error}. Name another file."
        ) from error


def report_html(
    diagnosis: Diagnosis, receipt: Mapping[str, Any], *, folder: str, pictures: Sequence[Picture] = ()
) -> str:
    """The page: the verdict, what was verified, plots over the depth of the network, and tables.

    The same arguments give the same text.

    Args:
        receipt: the content of conversion.json; where the proof failed, ``attempt`` stands in place of
            ``verification``, with its ``device``, ``dtype``, ``reference``, ``versions`` and ``inputs``.
        folder: what is converted, or was, as the user named it.
        pictures: what both networks see on images.
    """
    title = f"{network_name(config_from(receipt['config']))}: parity with its source"
    body = "\n".join(_body(diagnosis, receipt, title, folder, pictures))
    page = f"""{_BEGIN}
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""
    # A file's name may hold bytes that are no UTF-8, which could not be written.
    return page.encode("utf-8", "backslashreplace").decode()


def _body(
    diagnosis: Diagnosis, receipt: Mapping[str, Any], title: str, folder: str, pictures: Sequence[Picture]
) -> Iterator[str]:
    proof = receipt.get("verification")
    yield f"<h1>{escape(title)}</h1>"
    yield _verdict(diagnosis, proof)
    yield "<h2>Difference at each layer</h2>"
    yield figure(draw_differences(diagnosis))
    yield from _layers(diagnosis)
    yield f"<h2>What was {'verified' if proof else 'run'}</h2>"
    yield rows((("folder", folder), *_facts(receipt)))
    if proof:
        counts = [
            (k, f"{n:,}", number_text(proof["largest_difference"][k])) for k, n in proof["compared"].items()
        ]
        yield table(("compared", "comparisons", "largest difference"), counts)
    if pictures:
        yield "<h2>Classes of the images</h2>"
        yield from _pictures(pictures, proof)
    yield "<h2>Error in each precision</h2>"
    yield figure(draw_errors(diagnosis))
    yield "<h2>Logits</h2>"
    yield figure(draw_logits(diagnosis))
    if diagnosis.coverage:
        yield "<h2>Coverage over depth</h2>"
        yield figure(draw_coverage(diagnosis))
        yield "<h2>Dead channels</h2>"
        yield from _dead(diagnosis.dead)
    yield "<h2>Error of the logits in each setting</h2>"
    yield from _settings(diagnosis.measured)


def _layers(diagnosis: Diagnosis) -> Iterator[str]:
    """Yields the plots over depth as a table."""
    if not diagnosis.layers:
        return
    columns = ["layer", "difference", *(f"error in {precision}" for precision in diagnosis.ours)]
    values = zip(diagnosis.layers, diagnosis.apart, *diagnosis.ours.values(), strict=False)
    cells = [(f"{i:,}: {name}", *map(number_text, numbers)) for i, (name, *numbers) in enumerate(values)]
    yield f"<details><summary>Each layer as a row of a table</summary>{table(columns, cells)}</details>"


def _pictures(pictures: Sequence[Picture], proof: Mapping[str, Any] | None) -> Iterator[str]:
    """The first images, and of how many."""
    compared = (proof or {}).get("images", {}).get("images", len(pictures))
    of = f"The first {len(pictures):,} of {compared:,} images" if compared > len(pictures) else "Each image"
    yield (
        f'<p class="soft">{of}, with the classes that each network gives most, and the probability that it '
        "gives them.</p>"
    )
    yield from map(picture, pictures)


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
    text = "".join(f"<p>{breakable(part)}</p>" for part in lines if part)
    return f'<div class="verdict failed"><strong>✗ Failed</strong>{text}</div>'


def _facts(receipt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source, converter = receipt["source"], receipt["converter"]
    size = f"{source['size'] / 1e6:.1f} MB"
    yield "converter", f"{converter['name']} {converter['version']}"
    yield "source", f"{origin_text(source)}: {source['format']}, layout {source['layout']}, {size}"
    yield "SHA-256", source["sha256"]
    yield "network", architecture_label(config_from(receipt["config"]))
    yield "tensors", f"{len(receipt['tensors']):,}, and {len(receipt['dropped']):,} dropped"
    proof = receipt.get("verification")
    ran = receipt["attempt"] if proof is None else proof
    yield "reference", ran["reference"]
    yield "device", f"{ran['device']}, {ran['dtype']}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in ran["versions"].items())
    if proof is None:
        yield "inputs", f"{inputs_text(ran)}: in this order, until something differs"
        yield from ran["asked"].items()
        return
    yield "inputs", inputs_text(proof)
    facts = {"every input": every_input_text(proof), "coverage": coverage_text(proof)}
    yield from ((name, text) for name, text in facts.items() if text)
    yield from asked_for(proof).items()


def _dead(dead: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    if not dead:
        yield '<p class="soft">None: every channel passes something on.</p>'
        return
    yield f'<p class="soft">{_count(sum(map(len, dead.values())))}, by the tensor that would read them.</p>'
    yield table(("tensor", "dead", "channels"), [(n, f"{len(c):,}", _runs(c)) for n, c in dead.items()])


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
    yield table(columns, rows)


def _share(one: Measured) -> str:
    share = one.ours / one.bound if one.bound else one.ours and inf
    if one.holds:
        return f"{number_text(100 * share)}%{'' if one.tells else ', tells nothing'}"
    return f"beyond: {share:.4g} times" if isfinite(share) else "beyond"
