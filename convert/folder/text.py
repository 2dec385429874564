"""A receipt as a few lines for the terminal; numbers are rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import first_few, quoted
from ..records import ORIGIN_RANDOM
from .files import FILE_NAMES, file_digests
from .receipt import FILE_NAME, config_from
from .wording import (
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


def receipt_as_text(receipt: Mapping[str, Any]) -> str:
    """A few lines for the terminal; numbers are rounded."""
    proof = receipt["verification"]
    rows = {
        "source": source_text(receipt["source"]),
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
        "files": _files(receipt),
    }
    lines = [f"  {label:<12}{row}" for label, row in rows.items() if row]
    return "\n".join([*lines, *_measured(proof.get("measured", []))])


def _files(receipt: Mapping[str, Any]) -> str:
    """Lists the folder's files; empty of what was not written."""
    digests = file_digests(receipt)
    return ", ".join(name for name in FILE_NAMES if name in (*digests, FILE_NAME)) if digests else ""


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


def source_text(source: Mapping[str, Any]) -> str:
    return (
        f"{origin_text(source)}: {quoted(source['format'])}, layout {quoted(source['layout'])}, "
        f"{source['size'] / 1e6:.1f} MB, sha256 {source['sha256'][:8]}"
    )
