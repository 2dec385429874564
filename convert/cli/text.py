"""Turns results into the text that people read; numbers are rounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet.config import architecture_label

from ..errors import first_few, quoted
from ..folder.files import FILE_NAMES, file_digests
from ..folder.receipt import FILE_NAME, config_from
from ..folder.wording import (
    asked_for,
    assumed_text,
    coverage_text,
    every_input_text,
    inputs_text,
    origin_text,
    other_function,
    prepared_text,
    rewrites_text,
    tensors_text,
)
from ..records import ORIGIN_RANDOM

if TYPE_CHECKING:
    from ..api.doctor import Examination, Package
    from ..api.inspection import Inspection
    from ..api.many import Outcome
    from ..hub.records import Published
    from ..proof.selftest.counting import FaultKind, SelfTest


def receipt_as_text(receipt: Mapping[str, Any]) -> str:
    """A few lines for the terminal; numbers are rounded."""
    proof = receipt["verification"]
    rows = {
        "source": _source(receipt["source"]),
        "tensors": tensors_text(receipt),
        "rewritten": rewrites_text(receipt),
        "left out": first_few([entry["source_name"] for entry in receipt["dropped"]]),
        "beware": other_function(config_from(receipt["config"])),
        "assumed": assumed_text(receipt),
        "beside": first_few(list(receipt["beside"])),
        "images": prepared_text(receipt) if receipt["source"]["origin"] != ORIGIN_RANDOM else "",
        "verified": f"on {proof['device']} in {proof['dtype']} against {proof['reference']}",
        "inputs": inputs_text(proof),
        "compared": ", ".join(f"{count:,} {kind}" for kind, count in proof["compared"].items()),
        "difference": f"{max(proof['largest_difference'].values()):.3g}",
        "every input": every_input_text(proof),
        "coverage": coverage_text(proof),
        "unseen": _dead(proof.get("coverage", {}).get("dead_channels", {})),
        **asked_for(proof),
        "files": ", ".join(name for name in FILE_NAMES if name in (*file_digests(receipt), FILE_NAME)),
    }
    lines = [f"  {label:<12}{row}" for label, row in rows.items() if row]
    return "\n".join([*lines, *_measured(proof.get("measured", []))])


def _measured(measured: list[Mapping[str, Any]]) -> list[str]:
    """A table of errors against float64; None is infinite."""
    if not measured:
        return []
    columns = ("ours", "theirs", "bound")
    head = f"  {'error of the logits':<22}" + "".join(f"{column:>12}" for column in columns)
    return [head] + [
        f"    {one['setting']:<20}"
        + "".join(f"{'infinite' if one[c] is None else format(one[c], '.2e'):>12}" for c in columns)
        + ("" if one["bound"] is not None and one["bound"] < one["spread"] else "  (tells nothing)")
        for one in measured
    ]


def _dead(channels: Mapping[str, list[int]]) -> str:
    """``"features.conv0.weight channels 3, 5"``; empty where nothing is dead."""
    return first_few(
        [f"{name} channels {first_few([str(c) for c in found], 8)}" for name, found in channels.items()]
    )


def published_as_text(published: Published) -> str:
    """A few lines for the terminal; of what would be sent, every file and the card."""
    where = f"{published.repo_id}, {published.revision}"
    if published.commit is None:
        lines = [
            f"  {file.action:<8}{file.name:<20}"
            + ("" if file.size is None else f"{file.size:>12,} bytes  sha256 {file.sha256}")
            for file in published.files
        ]
        would = "would be sent in one commit" if published.changed else "nothing would be sent"
        head = [f"{where}: {would}", f"  message {published.message}"]
        shown = published.card or published.description
        card = (f"  {line}".rstrip() for line in shown.splitlines())
        return "\n".join([*head, *lines, "", *card])
    rows = {
        "commit": published.commit,
        "url": published.url,
        **{
            action: ", ".join(file.name for file in published.files if file.action == action)
            for action in ("add", "change", "delete", "keep")
        },
        "fetched": "back and compared: not a byte differs",
    }
    status = "published" if published.changed else "is there already"
    return "\n".join([f"{where}: {status}", *(f"  {label:<12}{row}" for label, row in rows.items() if row)])


def outcomes_as_text(outcomes: Sequence[Outcome]) -> str:
    """``"3 sources: 1 converted, 1 skipped, 1 failed"``."""
    counts = Counter(outcome.status for outcome in outcomes)
    counted = ", ".join(f"{counts[status]:,} {status}" for status in ("converted", "skipped", "failed"))
    return f"{len(outcomes):,} sources: {counted}"


def inspection_as_text(found: Inspection, *, verbose: bool = False) -> str:
    """A few lines for the terminal, and with ``verbose`` or hashes one for each tensor."""
    container = f", under {quoted(found.container)}" if found.container else ""
    dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in found.dtypes.items())
    rows = {
        "format": f"{found.format}{container}",
        "layout": _layout(found),
        "network": _network(found),
        "state dicts": first_few([one or "its own dict" for one in found.containers], limit=8),
        "tensors": "" if found.containers else f"{len(found.tensors):,}: {dtypes}",
        "size": f"{found.size:,} bytes",
        "sha256": found.sha256,
        "metadata": ", ".join(quoted(f"{key}={value}") for key, value in found.metadata.items()),
        "refers to": first_few(found.names, limit=8),
        "labels": "; ".join(
            f"{len(names):,} in {key}: {first_few(names)}" for key, names in found.labels.items()
        ),
        "remarks": " ".join(remark.text for remark in found.remarks),
        "problem": found.problem,
    }
    lines = [f"  {label:<12}{row}" for label, row in rows.items() if row]
    if verbose or any(tensor.sha256 for tensor in found.tensors):
        lines += [
            f"  {quoted(tensor.name)} {tensor.dtype} {list(tensor.shape)} {tensor.sha256 or ''}".rstrip()
            for tensor in found.tensors
        ]
    return "\n".join(lines)


def _layout(found: Inspection) -> str:
    if found.containers:
        return ""
    return (found.layout or "unknown") + (f", under {quoted(found.prefix)}" if found.prefix else "")


def _network(found: Inspection) -> str:
    if found.containers:
        return ""
    if found.config is None:
        return "not recognised"
    return f"{architecture_label(found.config)}, {found.config.num_classes} classes"


def examination_as_text(found: Examination) -> str:
    """One screen: versions, devices, packages, layouts, and what is wrong."""
    rows = [(one.name, one.description) for one in found.devices]
    rows += [(one.name, _installed(one)) for one in found.packages]
    rows.append(("layouts", ", ".join(found.layouts)))
    head = f"densenet-convert {found.version}, Python {found.python}, {found.platform}"
    end = [f"problem: {problem}" for problem in found.problems] or ["ready"]
    return "\n".join([head, *(f"  {label:<16}{row}".rstrip() for label, row in rows), *end])


def _installed(package: Package) -> str:
    if package.version is None and package.extra:
        return f'not installed; pip install "densenet-convert[{package.extra}]"'
    floor = f">={package.floor}" if package.floor else ""
    return f"{package.version or 'not installed':<16}{floor:<10}{package.extra or ''}"


def _source(source: Mapping[str, Any]) -> str:
    return (
        f"{origin_text(source)}: {quoted(source['format'])}, layout {quoted(source['layout'])}, "
        f"{source['size'] / 1e6:.1f} MB, sha256 {source['sha256'][:8]}"
    )


# Longer than a column is wide.
SHORT = {"placement": "place", "gradients": "grads", "statistics": "stats", "read-back": "back"}


def self_test_as_text(tested: SelfTest) -> str:
    """Three tables: how many of each fault were caught and located, and by which checks, ours and others'."""
    width = max(len(row.name) for row in tested.rows)
    versions = ", ".join(f"{name} {value}" for name, value in tested.environment["versions"].items())
    return "\n".join(
        [
            f"{tested.network}, on {tested.device}, {versions}",
            "",
            *_table(width, "fault", ("injected", "idle", "caught", "located"), _counted(tested.rows)),
            "",
            *_table_of_checks(width, "caught by each check alone", tested.rows, "checks"),
            "",
            *_table_of_checks(width, "by the checks that people use", tested.rows, "peers"),
            "",
            f"false alarms: {len(tested.false_alarms)} in {tested.clean_runs} clean runs",
            *(["", f"escaped: {first_few(tested.escaped, 5)}"] if tested.escaped else []),
            *(["", f"first false alarm: {tested.false_alarms[0]}"] if tested.false_alarms else []),
        ]
    )


def _counted(rows: Sequence[FaultKind]) -> Iterator[tuple[str, list[str]]]:
    for row in rows:
        yield row.name, _columns(row.injected, row.nothing, row.caught, row.located)
    sums = [
        sum(column)
        for column in zip(*((r.injected, r.nothing, r.caught, r.located) for r in rows), strict=True)
    ]
    yield "all of them", _columns(*sums)


def _columns(injected: int, nothing: int, caught: int, located: int) -> list[str]:
    return [f"{injected:,}", f"{nothing:,}", _share(caught, injected), _share(located, injected)]


def _table_of_checks(width: int, title: str, rows: Sequence[FaultKind], which: str) -> Iterator[str]:
    counts: list[tuple[str, Mapping[str, tuple[int, int]]]] = [
        (row.name, getattr(row, which)) for row in rows
    ]
    names = list(counts[0][1])
    lines = [(name, [_share(*found[check]) for check in names]) for name, found in counts if _judged(found)]
    return _table(width, title, names, lines)


def _judged(found: Mapping[str, tuple[int, int]]) -> bool:
    return any(of for _, of in found.values())


def _table(
    width: int, title: str, columns: Sequence[str], rows: Iterator[tuple[str, list[str]]] | list[Any]
) -> Iterator[str]:
    labels = [SHORT.get(column, column) for column in columns]
    widths = [max(len(label), 6) + 1 for label in labels]

    def line(name: str, cells: Sequence[str]) -> str:
        return f"{name:<{width}}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))

    yield line(title, labels)
    for name, cells in rows:
        yield line(name, cells)


def _share(caught: int, of: int) -> str:
    """Rounded down: 100% means all of them.  A dash where there was nothing to judge."""
    return f"{int(1000 * caught / of) / 10:g}%" if of else "-"
