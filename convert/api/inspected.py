"""The result of ``inspect``, and its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenet_convert.densenet import DenseNetConfig

from ..claims import Remark
from ..columns import rows_as_text, wrapped
from ..errors import first_few, quoted
from ..folder.text import classes_text, network_text, size_text, source_text, verdict
from ..folder.wording import network_name
from ..layouts.network import call_for
from ..records import Options
from ..shown import Shown


@dataclass(frozen=True)
class TensorInfo:
    """A tensor under the source's name; ``sha256`` of its row-major bytes is None unless asked for."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str | None


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """The content of a checkpoint's file.

    Attributes:
        path: the file; None of what is in memory.
        size: its length in bytes.
        sha256: its digest, hexadecimal.
        format: ``"torch-zip"``, ``"torch-legacy"``, ``"torch-tar"``, ``"pickle"``, ``"safetensors"``,
            ``"keras-h5"`` or ``"keras"``; ``"memory"`` of what is in memory.
        container: the keys that lead to the state dict, joined by dots; None for the file's own object.
        containers: the same of each state dict, where there are several that differ: ``key`` chooses one, and
            nothing else is said of any.
        layout: what the tensors' names are called as a whole; None where no layout explains them.
        prefix: what stands before these names; None likewise.
        architecture: such as ``"densenet169"``; None where it is another network.
        config: the network's hyperparameters, as far as the file tells them; None where it is no DenseNet.
        problem: why ``layout`` or ``config`` is None, or what only the owner of the file knows, with the
            calls that convert it.
        dtypes: number of tensors of each dtype.
        tensors: each of them, in the file's order.
        metadata: what the file says beside them, in words and numbers.
        names: what its pickles want to import; nothing of it was.
        labels: names of the classes that it holds, by the keys that lead to them; those of a converted folder
            are in its config.json.
        receipt: of a converted folder, the content of its conversion.json, which proves nothing by itself;
            ``path`` and all else is then of the weights there.
        remarks: what a sample of the values tells: layers that were probably never loaded, and the like.
    """

    path: Path | None
    size: int
    sha256: str
    format: str
    container: str | None
    containers: tuple[str, ...]
    layout: str | None
    prefix: str | None
    architecture: str | None
    config: DenseNetConfig | None
    problem: str | None
    dtypes: Mapping[str, int]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Any]
    names: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    receipt: Mapping[str, Any] | None = None
    remarks: tuple[Remark, ...] = ()

    def __str__(self) -> str:
        return inspection_as_text(self, None if self.path is None else str(self.path))

    def _shown(self) -> dict[str, object]:
        """Returns what the file is, and which network it holds."""
        return {
            "path": self.path,
            "format": self.format,
            "layout": self.layout,
            "network": network_name(self.config) if self.config else None,
            "classes": self.config.num_classes if self.config else None,
            "tensors": f"{len(self.tensors):,}",
            "problem": self.problem,
        }


def inspection_as_text(
    found: Inspection, named: str | None, *, key: str | None = None, verbose: bool = False
) -> str:
    """Says what a file holds, whether it can be converted, and by which call.

    Args:
        found: what was found.
        named: the user's name of the file; None for what is in memory.
        key: the state dict in it that the user chose.
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


def _findings(found: Inspection, named: str | None, key: str | None) -> list[str]:
    """Returns what it is, whether it can be converted, and the call, or why there is none."""
    problem, *calls = (found.problem or "").splitlines() or [""]
    what = f"{quoted(named or 'in memory')}: {_what(found, may_be=bool(calls))}"
    if found.problem is not None:
        can = "can be converted, by what stands below" if calls else "can't be converted as it is"
        return [*wrapped(what if found.receipt else f"{what}. It {can}."), *wrapped(problem), *calls]
    call = None if named is None or found.receipt else call_for(named, Options(key=key))
    return [*wrapped(f"{what}. This converts it:"), call] if call else wrapped(what)


def _what(found: Inspection, *, may_be: bool) -> str:
    if found.config is not None:
        network = f"{network_text(found.config)}, {classes_text(found.config)}"
        return f"a converted folder, {network}" if found.receipt else network
    if found.containers:
        return "several state dicts"
    return "a DenseNet that is read by an option" if may_be else "no DenseNet that is known here"


def _contents(found: Inspection) -> Iterator[tuple[str, str]]:
    names = [f"layout {found.layout}"] if found.layout else []
    names += [f"prefix {quoted(found.prefix)}"] if found.prefix else []
    names += [f"key {quoted(found.container)}"] if found.container else []
    if found.receipt is not None:
        yield "source", source_text(found.receipt["source"], None)
        yield "verdict", verdict(found.receipt["verification"])
    yield "state dicts", first_few([one or "its own dict" for one in found.containers], limit=8)
    yield "holds", "" if found.containers else ", ".join([f"{len(found.tensors):,} tensors", *names])
    yield "file", f"{found.format}, {size_text(found.size)}"
    yield "metadata", ", ".join(quoted(f"{key}={value}") for key, value in found.metadata.items())
    held = [f"{len(names):,} in {key}: {first_few(names)}" for key, names in found.labels.items()]
    yield "labels", "; ".join(held)
    yield "remarks", " ".join(remark.text for remark in found.remarks)


def _bytes(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "size", f"{found.size:,} bytes"
    yield "sha256", found.sha256
    yield "dtypes", ", ".join(f"{count:,} {dtype}" for dtype, count in found.dtypes.items())
    yield "refers to", first_few(found.names, limit=8)
