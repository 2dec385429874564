"""``export``, the way back: a converted folder to a file that the source's library loads, bit for bit."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config import UNSEEN_IN_SHAPES

from ..errors import FolderError, LayoutError
from ..folder.files import WEIGHTS, require_outside
from ..folder.open import open_folder, read_tensors
from ..folder.receipt import config_from, describe_axes
from ..folder.records import Written
from ..folder.recover import as_in_source
from ..folder.replace import sync
from ..formats.plain_pickle import write_arrays
from ..formats.torch_legacy import Elements, write_legacy
from ..hub.fetch import local_folder
from ..layout import Reading
from ..layouts import known_layouts
from ..layouts.explain import explain
from ..layouts.identify import named_layout
from ..source.file import parse_checkpoint
from ..tensors import dtype_name, tensor_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from ..layout import Layout

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")

SUFFIXES = {"torch-legacy": ".pth", "keras-h5": ".h5", "pickle": ".pdparams"}
# The ending tells readers the format of the file.
OTHERS = {".safetensors", ".keras", ".h5", ".pth", ".pdparams"}
COUNTER = "num_batches_tracked"


def export(
    folder: str | os.PathLike[str],
    layout: str,
    output: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
) -> Path:
    """Writes the tensors of a converted folder under a layout's names, as that layout's library loads them.

    The file is the same on every run: in torch's format of before 1.6, which every torch reads, or in Keras'.

    Args:
        folder: one that was converted, here or as ``hf://USER/NAME[@REVISION]`` on the Hugging Face Hub.
        layout: name of the layout, such as ``"torchvision-dotted"``, or how only one begins: ``"keras"``.
        output: the file, whose folder is made where it is missing; by default it is named after both, in
            the working folder.
        force: replace it where it exists.

    Returns:
        The file, once it was read back and its tensors compared.

    Raises:
        HubError: the Hub does not have the folder, or does not give it.
        FolderError: a file of the folder is missing or was changed, or the output can't be written.
        LayoutError: there is no such layout, it can't hold this network, or h5py is missing.

    Examples:
        >>> dc.export("densenet121", "torchvision-dotted", "old.pth").name
        'old.pth'
    """
    here = local_folder(folder)
    phases.info("reading %s", here)
    written = open_folder(here)
    table = named_layout(layout, known_layouts())
    if not table.export_format:
        raise LayoutError(
            f"{table.name} is read, and not written: a file of {table.origin} holds more than this. "
            "Choose another layout."
        )
    path = Path(
        f"{here.absolute().name}-{table.name}{SUFFIXES[table.export_format]}" if output is None else output
    )
    if path.suffix.lower() in OTHERS - {SUFFIXES[table.export_format]}:
        raise LayoutError(
            f"{path}: {table.name} is not written to {path.suffix} files. Choose an `output=...` that ends "
            f"in {SUFFIXES[table.export_format]}."
        )
    if table.export_format == "keras-h5" and path.name.endswith(".weights.h5"):
        raise LayoutError(
            f"{path}: Keras takes a file of this name for one of Keras 3, and this is one that Keras 2 and 3 "
            "load by their names. Choose another `output=...` that ends in .h5."
        )
    require_outside(path)
    _check_target(path, force)
    tensors = _tensors(written, table)
    phases.info("writing %s", path)
    data = WRITERS[table.export_format](tensors)
    _read_back(data, tensors, path)
    _write(data, path, force)
    return path


def _check_target(path: Path, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise FolderError(
            f"{path} exists and is left alone. Name another `output=...`, or replace it with `force=True`."
        )


def _tensors(written: Written, layout: Layout) -> dict[str, Tensor]:
    """Returns them by the layout's own names, in its own order of axes."""
    from ..proof.references.reference import own_names

    config, source = config_from(written.receipt["config"]), written.receipt["source"]["layout"]
    _require_same_function(config, layout, source)
    names = own_names(layout, config)
    explanation = explain(Reading(layout), names, expect_drops=False).explanation
    held = dict(read_tensors(written.folder / WEIGHTS))
    traced = {entry["name"]: entry["source_name"] for entry in written.receipt["tensors"]}
    same = source == layout.name
    chosen = {}
    left_out = 0
    for name, target in explanation.targets.items():
        was_there = traced[target] is not None
        if target.endswith(COUNTER) and not (layout.has_counters or (same and was_there)):
            left_out += was_there
            continue
        chosen[name] = as_in_source(held[target], describe_axes(explanation.axes.get(name)))
    if left_out:
        log.warning("%d %s are left out: the library of %s takes none.", left_out, COUNTER, layout.name)
    return chosen


def _require_same_function(config: DenseNetConfig, layout: Layout, source: str) -> None:
    """Refuses a network for which the layout's library would compute another function."""
    if config.num_classes and not layout.has_head:
        raise LayoutError(
            f"A network of {layout.name} has no head, and this one has {config.num_classes} classes: its "
            "library does not take them. Choose another layout."
        )
    back = f" It can go back to {source} alone." if source != layout.name else ""
    if config.spatial_dims not in layout.dimensions:
        taken = " or ".join(map(str, layout.dimensions))
        raise LayoutError(
            f"A network of {layout.name} has kernels of {taken} dimensions, and this one of "
            f"{config.spatial_dims}: no library loads it under such names.{back}"
        )
    if config.stem_bias and layout.names is not None:
        raise LayoutError(f"A network of {layout.name} has no bias in its first convolution.{back}")
    for name in UNSEEN_IN_SHAPES:
        found, expected = getattr(config, name), layout.overrides.get(name, getattr(DenseNetConfig(), name))
        if found != expected:
            raise LayoutError(
                f"A network of {layout.name} has {name} {expected}, and this one {found}: its library would "
                f"compute another function.{back}"
            )


def _as_torch(tensors: Mapping[str, Tensor]) -> bytes:
    file = BytesIO()
    write_legacy(
        {n: Elements(dtype_name(t), tuple(t.shape), tensor_bytes(t)) for n, t in tensors.items()}, file
    )
    return file.getvalue()


def _as_keras(tensors: Mapping[str, Tensor]) -> bytes:
    """Returns a file of weights alone as ``Model.load_weights`` reads it under a name that ends in ``.h5``.

    Source: ``load_weights_from_hdf5_group`` in ``keras/src/legacy/saving/legacy_h5_format.py``, Keras 3.15.1.
    """
    if any(dtype_name(tensor) == "bfloat16" for tensor in tensors.values()):
        raise LayoutError("Keras' files hold no bfloat16. Choose another layout.")
    try:
        import h5py  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise LayoutError(
            'Writing Keras\' files needs h5py. Install it with: pip install "densenet-convert[keras]"'
        ) from error
    layers: dict[str, list[str]] = {}
    for name in tensors:
        layers.setdefault(name.rpartition("/")[0], []).append(name)
    file = BytesIO()
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, names in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group.create_dataset(name, data=tensors[name].numpy())
    return file.getvalue()


def _as_numpy(tensors: Mapping[str, Tensor]) -> bytes:
    """A pickle of arrays, as ``paddle.load`` takes it."""
    if any(dtype_name(tensor) == "bfloat16" for tensor in tensors.values()):
        raise LayoutError("Arrays of numpy hold no bfloat16. Choose another layout.")
    file = BytesIO()
    write_arrays(
        {n: Elements(dtype_name(t), tuple(t.shape), tensor_bytes(t)) for n, t in tensors.items()}, file
    )
    return file.getvalue()


WRITERS = {"torch-legacy": _as_torch, "keras-h5": _as_keras, "pickle": _as_numpy}


def _read_back(data: bytes, tensors: dict[str, Tensor], path: Path) -> None:
    """By the reader that reads strangers' files."""
    found = parse_checkpoint(data, path).tensors
    for name, tensor in tensors.items():
        raw = found.get(name)
        if raw is None or raw.shape != tuple(tensor.shape) or bytes(raw.row_major()) != tensor_bytes(tensor):
            raise FolderError(f"{name} was read back and differs. The memory is at fault: run this again.")


def _write(data: bytes, path: Path, force: bool) -> None:
    partial = path.with_name(f".{uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            sync(partial)
            _check_target(path, force)  # someone may have put something there meanwhile
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(
            f"{path} can't be written: {error.strerror or error}. Name another `output=...`."
        ) from error
