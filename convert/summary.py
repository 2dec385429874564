"""What a person, or a program, is told of a receipt."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from .errors import ConvertError, ParityError

SCHEMA_VERSION = 1


def as_text(receipt: Mapping[str, Any]) -> str:
    """A few lines for the terminal; numbers are rounded."""
    proof = receipt["verification"]
    covered = proof["coverage"]
    least = covered["parameters"]["least"]
    rows = {
        "source": _source(receipt["source"]),
        "tensors": _tensors(receipt["tensors"], receipt["dropped"]),
        "verified": f"on {proof['device']} in {proof['dtype']} against {proof['reference']}",
        "inputs": ", ".join(f"{x['mode']} {'x'.join(map(str, x['shape']))}" for x in proof["inputs"]),
        "compared": ", ".join(f"{count:,} {kind}" for kind, count in proof["compared"].items()),
        "difference": f"{max(proof['largest_difference'].values()):.3g}",
        "coverage": f"{_percent(covered['parameters']['share'])} of the parameters "
        f"(least: {least['name']}, {_percent(least['share'])}), "
        f"{_percent(covered['running_statistics']['share'])} of the running statistics",
        "files": ", ".join([*receipt["files"], "conversion.json"]),
    }
    return "\n".join(f"  {label:<12}{row}" for label, row in rows.items())


def as_json(receipt: Mapping[str, Any], *, status: str, folder: str) -> dict[str, Any]:
    """The receipt without its list of tensors, which is in the folder."""
    document = {key: receipt[key] for key in ("source", "config", "files", "verification")}
    return {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "folder": folder,
        **document,
        "tensors": _counts(receipt["tensors"], receipt["dropped"]),
    }


def error_as_json(error: ConvertError, *, folder: str) -> dict[str, Any]:
    """What went wrong."""
    details: dict[str, Any] = {
        "type": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
    }
    if isinstance(error, ParityError):
        details["where"] = error.where
        # JSON has no infinity, which stands for another shape or another layer, and no NaN.
        details["largest_difference"] = error.largest if isfinite(error.largest) else None
    return {"schema_version": SCHEMA_VERSION, "status": "error", "folder": folder, "error": details}


def _source(source: Mapping[str, Any]) -> str:
    kinds = {"random": f"random weights, seed {source['seed']}", "file": "a file"}
    origin = kinds.get(source["origin"], f"torchvision's {source['origin']}")
    return (
        f"{origin}: {source['format']}, layout {source['layout']}, {source['size'] / 1e6:.1f} MB, "
        f"sha256 {source['sha256'][:8]}"
    )


def _counts(tensors: list[Mapping[str, Any]], dropped: list[Any]) -> dict[str, int]:
    zero = sum(entry["source_name"] is None for entry in tensors)
    renamed = sum(entry["source_name"] not in (None, entry["name"]) for entry in tensors)
    return {
        "total": len(tensors),
        "renamed": renamed,
        "kept": len(tensors) - renamed - zero,
        "zero": zero,
        "dropped": len(dropped),
    }


def _tensors(tensors: list[Mapping[str, Any]], dropped: list[Any]) -> str:
    counts = _counts(tensors, dropped)
    zero = f", {counts['zero']:,} num_batches_tracked absent and written as zero" if counts["zero"] else ""
    return (
        f"{counts['total']:,}: {counts['renamed']:,} renamed, {counts['kept']:,} under their own names"
        f"{zero}, {counts['dropped']:,} dropped"
    )


def _percent(share: float) -> str:
    # Rounded down: 100% means all of them.
    return f"{int(share * 1000) / 10:g}%"
