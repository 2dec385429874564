"""What a person, or a program, is told of a receipt or an inspection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from .errors import ConvertError, ParityError, some
from .folder import digests
from .records import Inspection

SCHEMA_VERSION = 1


def as_text(receipt: Mapping[str, Any]) -> str:
    """A few lines for the terminal; numbers are rounded."""
    proof = receipt["verification"]
    covered = proof["coverage"]
    rows = {
        "source": _source(receipt["source"]),
        "tensors": _tensors(receipt["tensors"], receipt["dropped"]),
        "verified": f"on {proof['device']} in {proof['dtype']} against {proof['reference']}",
        "inputs": ", ".join(f"{x['mode']} {'x'.join(map(str, x['shape']))}" for x in proof["inputs"]),
        "compared": ", ".join(f"{count:,} {kind}" for kind, count in proof["compared"].items()),
        "difference": f"{max(proof['largest_difference'].values()):.3g}",
        "coverage": f"{_percent(covered['parameters']['share'])} of the parameters, "
        f"{_percent(covered['running_statistics']['share'])} of the running statistics; "
        f"{_percent(covered['reaching_logits']['share'])} of the parameters reach the logits",
        "unseen": _dead(covered["dead_channels"]),
        **asked_for(proof),
        "files": ", ".join([*digests(receipt), "conversion.json"]),
    }
    lines = [f"  {label:<12}{row}" for label, row in rows.items() if row]
    return "\n".join([*lines, *_measured(proof.get("measured", []))])


def asked_for(proof: Mapping[str, Any]) -> dict[str, str]:
    """What was compared only because someone asked for it, in words."""
    rows = {}
    if images := proof.get("images"):
        rows["images"] = (
            f"{images['images']:,}: the same class for {images['agreed']:,}, "
            f"largest difference of a logit {images['largest']:.3g}"
        )
    if golden := proof.get("golden"):
        rows["golden"] = (
            f"every layer within its bound, the largest difference at {golden['share_of_bound']:.1%} of it"
        )
    return rows


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
    return some([f"{name} channels {some([str(c) for c in found], 8)}" for name, found in channels.items()])


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


def inspection_as_text(found: Inspection, *, verbose: bool = False) -> str:
    """A few lines for the terminal, and with ``verbose`` or hashes one for each tensor."""
    container = f", under {found.container}" if found.container else ""
    dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in found.dtypes.items())
    rows = {
        "format": f"{found.format}{container}",
        "layout": found.layout or "unknown",
        "network": _network(found),
        "tensors": f"{len(found.tensors):,}: {dtypes}",
        "size": f"{found.size:,} bytes",
        "sha256": found.sha256,
        "metadata": ", ".join(some([f"{key}={value}"]) for key, value in found.metadata.items()),
        "refers to": some(found.names, limit=8),
        "problem": found.problem,
    }
    lines = [f"  {label:<12}{row}" for label, row in rows.items() if row]
    if verbose or any(tensor.sha256 for tensor in found.tensors):
        lines += [
            f"  {some([tensor.name])} {tensor.dtype} {list(tensor.shape)} {tensor.sha256 or ''}".rstrip()
            for tensor in found.tensors
        ]
    return "\n".join(lines)


def inspection_as_json(found: Inspection) -> dict[str, Any]:
    """All of it; a number that JSON can't hold is text."""
    metadata = {
        key: str(value) if isinstance(value, float) and not isfinite(value) else value
        for key, value in found.metadata.items()
    }
    return {"schema_version": SCHEMA_VERSION, **asdict(found), "path": str(found.path), "metadata": metadata}


def _network(found: Inspection) -> str:
    if found.config is None:
        return "not recognised"
    config = found.config
    shape = (
        f"blocks {config.block_config}, growth rate {config.growth_rate}, {config.num_init_features} channels"
    )
    return f"{found.architecture or f'a DenseNet with {shape} in the stem'}, {config.num_classes} classes"


def error_as_json(error: ConvertError, **where: str) -> dict[str, Any]:
    """What went wrong, and the ``folder`` or ``path`` it went wrong with."""
    details: dict[str, Any] = {
        "type": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
    }
    if isinstance(error, ParityError):
        details["where"] = error.where
        # JSON has no infinity, which stands for another shape or another layer, and no NaN.
        details["largest_difference"] = error.largest if isfinite(error.largest) else None
    return {"schema_version": SCHEMA_VERSION, "status": "error", **where, "error": details}


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
