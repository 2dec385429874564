"""An exported file, what was proven of it, and how it is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from ..columns import rows_as_text
from ..errors import FolderError, first_few, quoted
from ..folder.files import require_outside
from ..folder.replace import sync
from ..hub.fetch import local_folder
from ..shown import Shown

if TYPE_CHECKING:
    from ..records import AnyPath
    from ..results import ExportProof, LayerError, Measured

# What a network is exported to beside the layouts, and the ending of its file.
RUNTIMES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}


@dataclass(frozen=True, repr=False)
class Exported(Shown):
    """A file that was written of a converted folder, or held against one.  ``open`` and ``Path`` take it.

    Attributes:
        path: the file.
        folder: the converted folder.
        proof: what was proven of the network that it holds; None where it holds tensors alone, which were
            read back and compared.
    """

    path: Path
    folder: Path
    proof: ExportProof | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        rows = [] if self.proof is None else rows_as_text(_rows(self.proof, self.folder))
        return "\n".join([str(self.path), *rows])

    def _shown(self) -> dict[str, object]:
        """Returns the file, and what is proven of it."""
        equal = "equal tensors, bit for bit" if self.proof is None else _verdict(self.proof, self.folder)
        return {"path": self.path, "folder": self.folder, "verified": equal}


def _rows(proof: ExportProof, folder: Path) -> Iterator[tuple[str, str]]:
    yield "verdict", _verdict(proof, folder)
    yield "weights", f"{proof.tensors:,} tensors are the folder's, bit for bit"
    if proof.nearest is None:
        yield "output", f"{len(proof.measured)} runs, each equal to the network's, bit for bit"
    else:
        yield "layers", f"{proof.layers:,}, each run alone; {_nearest_layer(proof.nearest)}"
        worst = max(proof.measured, key=lambda one: one.ours / one.bound)
        yield "output", f"{len(proof.measured)} runs; {_nearest_run(worst)}"
    for change, layers in proof.changes.items():
        yield "changed", f"{change}: {first_few(layers)}"
    yield "format", f"{proof.format}, {proof.dtype}"


def _verdict(proof: ExportProof, folder: Path) -> str:
    name = quoted(folder.absolute().name)
    if proof.nearest is None:
        return f"equal to {name} in {proof.runtime}, bit for bit in {proof.dtype}"
    return f"equal to {name} in {proof.runtime}, as far as rounding in {proof.dtype} allows"


def _nearest_layer(layer: LayerError) -> str:
    return f"the largest error is {layer.share:.0%} of its bound, at {quoted(layer.layer)}"


def _nearest_run(run: Measured) -> str:
    return f"the largest error is {run.ours / run.bound:.0%} of its bound ({run.setting})"


def folder_of(named: AnyPath) -> Path:
    """Returns the folder, or says how a network that was exported is verified.

    Raises:
        FolderError: it is such a network.
    """
    path = Path(named)
    if path.suffix.lower() in RUNTIMES.values() and path.is_file():
        raise FolderError(
            f"{path} is a network that was exported. Compare it with the folder that it was exported from:\n"
            f"dc.verify_exported({str(path)!r}, against='FOLDER')"
        )
    return local_folder(named)


def check_target(path: Path, force: bool) -> None:
    """Refuses a file that is there, or that would lie in a converted folder.

    Raises:
        FolderError: it is one of these.
    """
    require_outside(path)
    if os.path.lexists(path) and not force:
        raise FolderError(
            f"{path} exists and is left alone. Name another `output=...`, or replace it with `force=True`."
        )


def write_files(files: Mapping[Path, bytes], force: bool) -> None:
    """Writes files of one folder, all of them whole or none at all.

    Raises:
        FolderError: one can't be written, or something is there meanwhile.
    """
    partials = {path: path.with_name(f".{uuid4().hex}.partial") for path in files}
    path = next(iter(files))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            for path, partial in partials.items():
                partial.write_bytes(files[path])
                sync(partial)
            for path in files:
                check_target(path, force)  # someone may have put something there meanwhile
            for path, partial in partials.items():
                partial.replace(path)
        finally:
            for partial in partials.values():
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(
            f"{path} can't be written: {error.strerror or error}. Name another `output=...`."
        ) from error
