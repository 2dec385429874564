"""What commands print for people: first what they want to know, and with ``-v`` the details as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import DenseNetConfig, architecture_of
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
    network_name,
    origin_text,
    other_function,
    prepared_text,
    rewrites_text,
    tensors_text,
)
from ..layouts.network import command_for
from ..records import MULTI_LABEL, ORIGIN_FILE, ORIGIN_RANDOM, Options
from ..results import EQUAL
from .columns import rows_as_text, wrapped
from .tables import measured_table

if TYPE_CHECKING:
    from ..api.doctor import Examination, Package
    from ..api.inspection import Inspection
    from ..api.many import Outcome
    from ..hub.records import Published, Sent

# What a setting is called whose value is torchvision's, because nothing says otherwise.
ASSUMED = "assumed, as torchvision"


def receipt_as_text(receipt: Mapping[str, Any], *, source: str | None = None, verbose: bool = False) -> str:
    """What was converted, which network it is, and the verdict; numbers are rounded.

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
    yield "source", _source(receipt["source"], source)
    yield "network", f"{_name(config)}, {_classes(config)}{_labels(receipt['labels'])}"
    yield "verdict", _verdict(proof)
    yield "beware", other_function(config)
    yield "assumed", assumed_text(receipt)
    yield "images", _images(receipt)
    changed = rewrites_text(receipt)
    yield "stored as", f"{changed}; no output changes by it" if changed else ""
    yield "left out", first_few([entry["source_name"] for entry in receipt["dropped"]])
    yield "beside", first_few(list(receipt["beside"]))
    yield from ((label, text) for label, text in asked_for(proof).items() if label != "library")
    yield "precision", _precision(proof.get("measured", []))
    yield "files", ", ".join(name for name in FILE_NAMES if name in (*file_digests(receipt), FILE_NAME))


def _source(source: Mapping[str, Any], named: str | None) -> str:
    """``"chest.pth, 32.4 MB: layout torchvision, prefix module., key state_dict"``."""
    kind = quoted(named) if named and source["origin"] == ORIGIN_FILE else origin_text(source)
    found = [f"layout {quoted(source['layout'])}"]
    found += [f"prefix {quoted(source['prefix'])}"] if source["prefix"] else []
    found += [f"key {quoted(source['container'])}"] if source["container"] else []
    return f"{kind}, {_size(source['size'])}: {', '.join(found)}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count:,} bytes"


def _name(config: DenseNetConfig) -> str:
    return network_name(config) if architecture_of(config) else architecture_label(config)


def _classes(config: DenseNetConfig) -> str:
    if not config.num_classes:
        return "without a head"
    return "1 class" if config.num_classes == 1 else f"{config.num_classes:,} classes"


def _labels(labels: Mapping[str, Any]) -> str:
    named = ", named" if labels["sha256"] else ""
    return f"{named}, of which several may hold at once" if labels["problem_type"] == MULTI_LABEL else named


def _verdict(proof: Mapping[str, Any]) -> str:
    """What the proof came to; it ends in an error where anything differs."""
    known = proof.get("every_input")
    if known is None or any(known[kind] != EQUAL for kind in ("logits", "gradients", "buffers")):
        return "equal to the original network, to the last bit, in all that was compared (-v: in what)"
    return "equal to the original network, to the last bit: outputs, gradients, running statistics"


def _images(receipt: Mapping[str, Any]) -> str:
    """How images are prepared, and how that is known."""
    if receipt["source"]["origin"] == ORIGIN_RANDOM:
        return ""
    text = prepared_text(receipt)
    if text.endswith(ASSUMED) and not receipt["preprocessing"]:
        return "prepared as torchvision does, which is assumed: densenet-convert describe --help, to state it"
    return text


def _precision(measured: Sequence[Mapping[str, Any]]) -> str:
    """What came of the settings of a report; it ends in an error where one is beyond its bound."""
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


def published_as_text(published: Published) -> str:
    """A few lines for the terminal; of what would be sent, every file and the card."""
    where = f"{published.repo_id}, {published.revision}"
    if published.commit is None:
        lines = rows_as_text((file.action, _sent(file)) for file in published.files)
        would = "would be sent in one commit" if published.changed else "nothing would be sent"
        head = [*wrapped(f"{where}: {would}"), *rows_as_text([("message", published.message)])]
        shown = published.card or published.description
        card = (f"  {line}".rstrip() for line in shown.splitlines())
        return "\n".join([*head, *lines, "", *card])
    rows = {
        "commit": published.commit,
        "url": published.url or "",
        **{
            action: ", ".join(file.name for file in published.files if file.action == action)
            for action in ("add", "change", "delete", "keep")
        },
        "fetched": "back and compared: not a byte differs",
    }
    status = "published" if published.changed else "is there already"
    return "\n".join([*wrapped(f"{where}: {status}"), *rows_as_text(rows.items())])


def _sent(file: Sent) -> str:
    return file.name if file.size is None else f"{file.name:<20}{file.size:>12,} bytes  sha256 {file.sha256}"


def outcomes_as_text(outcomes: Sequence[Outcome]) -> str:
    """``"3 sources: 1 converted, 1 skipped, 1 failed"``."""
    counts = Counter(outcome.status for outcome in outcomes)
    counted = ", ".join(f"{counts[status]:,} {status}" for status in ("converted", "skipped", "failed"))
    return f"{len(outcomes):,} sources: {counted}"


def inspection_as_text(
    found: Inspection, named: str, *, key: str | None = None, verbose: bool = False
) -> str:
    """What a file holds, whether it can be converted, and the command for it.

    Args:
        found: what was found.
        named: what the user calls the file.
        key: which state dict of it the user chose.
        verbose: print a digest, dtypes and a line for each tensor as well.
    """
    lines = _findings(found, named, key)
    lines += rows_as_text(_contents(found))
    if verbose:
        lines += rows_as_text(_bytes(found))
    if verbose or any(tensor.sha256 for tensor in found.tensors):
        for tensor in found.tensors:
            shape = f"{tensor.dtype} {list(tensor.shape)} {tensor.sha256 or ''}".rstrip()
            lines += wrapped(f"  {quoted(tensor.name)} {shape}", indent="    ")
    return "\n".join(lines)


def _findings(found: Inspection, named: str, key: str | None) -> list[str]:
    """What it is, whether it can be converted, and the command, or why there is none."""
    problem, *commands = (found.problem or "").splitlines() or [""]
    if found.config is not None:
        what = f"{_name(found.config)}, {_classes(found.config)}"
    elif found.containers:
        what = "several state dicts"
    else:
        what = "a DenseNet that is read by an option" if commands else "no DenseNet that is known here"
    if found.problem is None:
        command = command_for(named, Options(key=key))
        return [*wrapped(f"{quoted(named)}: {what}. This command converts it:"), *filter(None, [command])]
    can = "can be converted, by a command below" if commands else "can't be converted as it is"
    return [*wrapped(f"{quoted(named)}: {what}. It {can}."), *wrapped(problem), *commands]


def _contents(found: Inspection) -> Iterator[tuple[str, str]]:
    names = [f"layout {found.layout}"] if found.layout else []
    names += [f"prefix {quoted(found.prefix)}"] if found.prefix else []
    names += [f"key {quoted(found.container)}"] if found.container else []
    yield "state dicts", first_few([one or "its own dict" for one in found.containers], limit=8)
    yield "holds", "" if found.containers else ", ".join([f"{len(found.tensors):,} tensors", *names])
    yield "file", f"{found.format}, {_size(found.size)}"
    yield "metadata", ", ".join(quoted(f"{key}={value}") for key, value in found.metadata.items())
    held = [f"{len(names):,} in {key}: {first_few(names)}" for key, names in found.labels.items()]
    yield "labels", "; ".join(held)


def _bytes(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "size", f"{found.size:,} bytes"
    yield "sha256", found.sha256
    yield "dtypes", ", ".join(f"{count:,} {dtype}" for dtype, count in found.dtypes.items())
    yield "refers to", first_few(found.names, limit=8)


def examination_as_text(found: Examination) -> str:
    """One screen: versions, devices, packages, layouts, and what is wrong."""
    rows = [(one.name, one.description) for one in found.devices]
    rows += [(one.name, _installed(one)) for one in found.packages]
    rows.append(("layouts", ", ".join(found.layouts)))
    head = f"densenet-convert {found.version}, Python {found.python}, {found.platform}"
    end = [f"problem: {problem}" for problem in found.problems] or ["ready"]
    lines = [*wrapped(head), *rows_as_text(rows)]
    for line in end:
        lines += wrapped(line)
    return "\n".join(lines)


def _installed(package: Package) -> str:
    if package.version is None and package.extra:
        return f'not installed; pip install "densenet-convert[{package.extra}]"'
    floor = f">={package.floor}" if package.floor else ""
    return f"{package.version or 'not installed':<16}{floor:<10}{package.extra or ''}"
