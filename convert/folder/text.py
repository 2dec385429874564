"""A receipt as the lines that people read: first what they want to know, then the details.

Numbers are rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from densenet_convert.densenet import DenseNetConfig, architecture_of
from densenet_convert.densenet.config import architecture_label

from ..columns import rows_as_text, table, wrapped
from ..errors import first_few, quoted
from ..records import MULTI_LABEL, ORIGIN_FILE, ORIGIN_RANDOM
from ..results import EQUAL
from .files import FILE_NAMES, file_digests
from .receipt import FILE_NAME, config_from
from .wording import (
    asked_for,
    assumed_text,
    coverage_text,
    every_input_text,
    inputs_text,
    network_name,
    origin_text,
    other_function,
    prepared_text,
    rewrites_text,
    tensors_text,
)

# What a setting is called whose value is torchvision's, because nothing says otherwise.
ASSUMED = "assumed, as torchvision"


def receipt_as_text(receipt: Mapping[str, Any], *, source: str | None = None, verbose: bool = False) -> str:
    """Says what was converted, which network it is, and the verdict; numbers are rounded.

    Args:
        receipt: the content of a conversion.json.
        source: what the user calls the source.
        verbose: print digests, counts and versions as well.
    """
    lines = rows_as_text(_rows(receipt, source))
    if verbose:
        lines += [
            *rows_as_text(_details(receipt)),
            *measured_table(receipt["verification"].get("measured", [])),
        ]
    return "\n".join(lines)


def _rows(receipt: Mapping[str, Any], source: str | None) -> Iterator[tuple[str, str]]:
    proof, config = receipt["verification"], config_from(receipt["config"])
    yield "source", source_text(receipt["source"], source)
    yield "network", f"{network_text(config)}, {classes_text(config)}{_labels(receipt['labels'])}"
    yield "verdict", verdict(proof)
    yield "signed", receipt.get("signed_by") or ""
    yield "beware", other_function(config)
    yield "assumed", assumed_text(receipt)
    yield "images" if config.spatial_dims == 2 else "input", _images(receipt)
    yield "steps", rewrites_text(receipt)
    yield "left out", first_few([entry["source_name"] for entry in receipt["dropped"]])
    yield "beside", first_few(list(receipt["beside"]))
    yield from ((label, text) for label, text in asked_for(proof).items() if label != "library")
    yield "precision", _precision(proof.get("measured", []))
    written = file_digests(receipt)  # none of a network that was verified, and not written
    files = [name for name in FILE_NAMES if name in (*written, FILE_NAME)] if written else []
    yield "files", ", ".join(files)


def source_text(source: Mapping[str, Any], named: str | None) -> str:
    """``"chest.pth, 32.4 MB: layout torchvision, prefix module., key state_dict"``."""
    kind = quoted(named) if named and source["origin"] == ORIGIN_FILE else origin_text(source)
    found = [f"layout {quoted(source['layout'])}"]
    found += [f"prefix {quoted(source['prefix'])}"] if source["prefix"] else []
    found += [f"key {quoted(source['container'])}"] if source["container"] else []
    return f"{kind}, {size_text(source['size'])}: {', '.join(found)}"


def size_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count:,} bytes"


def network_text(config: DenseNetConfig) -> str:
    named = architecture_of(replace(config, spatial_dims=2))
    return network_name(config) if named else architecture_label(config)


def classes_text(config: DenseNetConfig) -> str:
    if not config.num_classes:
        return "without a head"
    return "1 class" if config.num_classes == 1 else f"{config.num_classes:,} classes"


def _labels(labels: Mapping[str, Any]) -> str:
    named = ", named" if labels["sha256"] else ""
    return f"{named}, of which several may hold at once" if labels["problem_type"] == MULTI_LABEL else named


def verdict(proof: Mapping[str, Any]) -> str:
    """Returns what was proven; a proof that finds a difference ends in an error."""
    reference, _, _ = proof["reference"].partition(", ")
    whose = "torchvision's network" if reference.startswith("torchvision") else reference
    known = proof.get("every_input")
    if known is None or any(known[kind] != EQUAL for kind in ("logits", "gradients", "buffers")):
        return f"equal to {whose} with these weights, to the last bit, in all that was compared"
    return f"equal to {whose} with these weights, to the last bit"


def _images(receipt: Mapping[str, Any]) -> str:
    """Returns how images are prepared, and how that is known."""
    if receipt["source"]["origin"] == ORIGIN_RANDOM:
        return ""
    text = prepared_text(receipt)
    if text.endswith(ASSUMED) and not receipt["preprocessing"]:
        return "prepared as torchvision does: assumed (describe can state it)"
    return text


def _precision(measured: Sequence[Mapping[str, Any]]) -> str:
    """Returns the settings of a report; an error beyond its bound fails the proof."""
    names = ", ".join(one["setting"] for one in measured)
    return f"rounding errors are within their bounds in {names}" if measured else ""


def _details(receipt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source, proof = receipt["source"], receipt["verification"]
    yield "format", f"{quoted(source['format'])}, sha256 {source['sha256']}"
    yield "tensors", tensors_text(receipt)
    yield "compared", ", ".join(f"{count:,} {kind}" for kind, count in proof["compared"].items())
    yield "with", f"{proof['reference']}, on {proof['device']} in {proof['dtype']}"
    yield "on", inputs_text(proof)
    yield "difference", f"{max(proof['largest_difference'].values()):.3g}"
    yield "known", every_input_text(proof)
    yield "seen", coverage_text(proof)
    yield "not seen", _dead(proof.get("coverage", {}).get("dead_channels", {}))
    yield "library", asked_for(proof).get("library", "")
    yield "versions", ", ".join(f"{name} {value}" for name, value in proof["versions"].items())
    for name, digest in file_digests(receipt).items():
        yield "sha256", f"{digest}  {name}"


def _dead(channels: Mapping[str, list[int]]) -> str:
    """``"features.conv0.weight channels 3, 5"``; empty where nothing is dead."""
    return first_few(
        [f"{name} channels {first_few([str(c) for c in found], 8)}" for name, found in channels.items()]
    )


def measured_table(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of errors against float64; None is infinite."""
    if not measured:
        return []
    labels = ("ours", "theirs", "bound")
    rows = [
        (f"    {one['setting']}{'' if _tells(one) else ' *'}", [_number(one[label]) for label in labels])
        for one in measured
    ]
    lines = list(table("  error of the logits", labels, rows))
    if not all(map(_tells, measured)):
        lines += wrapped("  * in this setting rounding alone may be as large as the logits: it shows nothing")
    return lines


def _tells(one: Mapping[str, Any]) -> bool:
    return one["bound"] is not None and one["bound"] < one["spread"]


def _number(value: float | None) -> str:
    return "infinite" if value is None else format(value, ".2e")
