"""What a person, or a program, is told of a receipt or an inspection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import floor, isfinite
from typing import Any

from densenet_convert.densenet import DenseNetConfig

from .errors import ConvertError, ParityError, explanation, some
from .folder import WRITTEN, digests
from .receipt import FILE_NAME, config_from
from .records import FILE, RANDOM, Examination, Inspection, Outcome, Package, Published

SCHEMA_VERSION = 1


def as_text(receipt: Mapping[str, Any]) -> str:
    """A few lines for the terminal; numbers are rounded."""
    proof = receipt["verification"]
    covered = proof["coverage"]
    rows = {
        "source": _source(receipt["source"]),
        "tensors": tensors_text(receipt),
        "left out": some([entry["source_name"] for entry in receipt["dropped"]]),
        "beware": other_function(config_from(receipt["config"])),
        "verified": f"on {proof['device']} in {proof['dtype']} against {proof['reference']}",
        "inputs": ", ".join(f"{x['mode']} {'x'.join(map(str, x['shape']))}" for x in proof["inputs"]),
        "compared": ", ".join(f"{count:,} {kind}" for kind, count in proof["compared"].items()),
        "difference": f"{max(proof['largest_difference'].values()):.3g}",
        "coverage": f"{percent(covered['parameters']['share'])} of the parameters, "
        f"{percent(covered['running_statistics']['share'])} of the running statistics; "
        f"{percent(covered['reaching_logits']['share'])} of the parameters reach the logits",
        "unseen": _dead(covered["dead_channels"]),
        **asked_for(proof),
        "files": ", ".join(name for name in WRITTEN if name in (*digests(receipt), FILE_NAME)),
    }
    lines = [f"  {label:<12}{row}" for label, row in rows.items() if row]
    return "\n".join([*lines, *_measured(proof.get("measured", []))])


def other_function(config: DenseNetConfig) -> str:
    """In what a network is other than torchvision's of the same tensors; empty where it is not."""
    other = [
        f"{name} {getattr(config, name)}"
        for name in ("norm_eps", "stem_padding", "transition_pool")
        if getattr(config, name) != getattr(DenseNetConfig(), name)
    ]
    told = f"torchvision's network would take these weights and compute something else: {', '.join(other)}"
    return told if other else ""


def asked_for(proof: Mapping[str, Any]) -> dict[str, str]:
    """What was compared beside the reference, in words."""
    rows = {}
    if library := proof.get("library"):
        rows["library"] = (
            f"{library['name']}: {library['relative_difference']:.1g} of the outputs, in float64"
        )
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
        card = (f"  {line}".rstrip() for line in published.card.splitlines())
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


def published_as_json(published: Published, *, folder: str) -> dict[str, Any]:
    """All of it."""
    status = "published" if published.changed else "unchanged"
    return {
        "schema_version": SCHEMA_VERSION,
        "status": status if published.commit else "dry-run",
        "folder": folder,
        **asdict(published),
    }


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """What came of one of several sources."""
    return {"schema_version": SCHEMA_VERSION, **asdict(outcome)}


def outcomes_as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All of them, as they were done."""
    return {"schema_version": SCHEMA_VERSION, "conversions": [asdict(outcome) for outcome in outcomes]}


def outcomes_as_text(outcomes: Sequence[Outcome]) -> str:
    """``"3 sources: 1 converted, 1 skipped, 1 failed"``."""
    counts = Counter(outcome.status for outcome in outcomes)
    told = ", ".join(f"{counts[status]:,} {status}" for status in ("converted", "skipped", "failed"))
    return f"{len(outcomes):,} sources: {told}"


def inspection_as_text(found: Inspection, *, verbose: bool = False) -> str:
    """A few lines for the terminal, and with ``verbose`` or hashes one for each tensor."""
    container = f", under {some([found.container])}" if found.container else ""
    dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in found.dtypes.items())
    rows = {
        "format": f"{found.format}{container}",
        "layout": (found.layout or "unknown") + (f", under {some([found.prefix])}" if found.prefix else ""),
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


def examination_as_json(found: Examination) -> dict[str, Any]:
    """All of it."""
    status = "error" if found.problems else "ready"
    return {"schema_version": SCHEMA_VERSION, "status": status, **asdict(found)}


def error_as_json(error: Exception, **where: str) -> dict[str, Any]:
    """What went wrong, and the ``folder`` or ``path`` it went wrong with."""
    details: dict[str, Any] = {
        "type": type(error).__name__,
        "message": explanation(error),
        "exit_code": error.exit_code if isinstance(error, ConvertError) else 1,
    }
    if isinstance(error, ParityError):
        details["where"] = error.where
        # JSON has no infinity, which stands for another shape or another layer, and no NaN.
        details["largest_difference"] = error.largest if isfinite(error.largest) else None
    return {"schema_version": SCHEMA_VERSION, "status": "error", **where, "error": details}


def origin_text(source: Mapping[str, Any]) -> str:
    """``"a file"``, or whose the weights are."""
    kinds = {RANDOM: f"random weights, seed {source['seed']}", FILE: "a file"}
    return kinds.get(source["origin"], f"torchvision's {source['origin']}")


def _source(source: Mapping[str, Any]) -> str:
    return (
        f"{origin_text(source)}: {some([source['format']])}, layout {some([source['layout']])}, "
        f"{source['size'] / 1e6:.1f} MB, sha256 {source['sha256'][:8]}"
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


def tensors_text(receipt: Mapping[str, Any]) -> str:
    """``"1,015: 820 renamed, 26 under their own names"`` and so on."""
    counts = _counts(receipt["tensors"], receipt["dropped"])
    zero = f", {counts['zero']:,} num_batches_tracked absent and written as zero" if counts["zero"] else ""
    return (
        f"{counts['total']:,}: {counts['renamed']:,} renamed, {counts['kept']:,} under their own names"
        f"{zero}, {counts['dropped']:,} dropped"
    )


def percent(share: float) -> str:
    """Rounded down: 100% means all of them."""
    return f"{floor(share * 1000) / 10:g}%" if isfinite(share) else "unknown"
