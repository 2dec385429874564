"""The result of ``inspect``, and its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config import architecture_label

from ..errors import first_few, quoted
from ..folder.text import source_text
from ..folder.wording import network_name
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

    def __str__(self) -> str:
        return f"{self.path or 'in memory'}\n{inspection_as_text(self)}"

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
        **_converted(found.receipt),
        "problem": found.problem,
    }
    lines = [f"  {label:<12}{row}" for label, row in rows.items() if row]
    if verbose or any(tensor.sha256 for tensor in found.tensors):
        lines += [
            f"  {quoted(tensor.name)} {tensor.dtype} {list(tensor.shape)} {tensor.sha256 or ''}".rstrip()
            for tensor in found.tensors
        ]
    return "\n".join(lines)


def _converted(receipt: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns what a converted folder's receipt says of its source and its proof."""
    if receipt is None:
        return {}
    proof = receipt["verification"]
    return {
        "converted": f"from {source_text(receipt['source'])}",
        "verified": f"then, on {proof['device']} in {proof['dtype']} against {proof['reference']}",
    }


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
