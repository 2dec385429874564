"""The way back: a converted folder to a file that a layout's library loads, bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config import UNSEEN_IN_SHAPES

from ..errors import FolderError, LayoutError
from ..folder.files import WEIGHTS
from ..folder.open import read_tensors
from ..folder.receipt import config_from, describe_axes
from ..folder.records import Written
from ..folder.recover import as_in_source
from ..formats.plain_pickle import write_arrays
from ..formats.torch_legacy import Elements, write_legacy
from ..layout import Reading
from ..layouts import known_layouts
from ..layouts.explain import explain
from ..layouts.identify import named_layout
from ..source.file import parse_checkpoint
from ..tensors import dtype_name, tensor_bytes
from .exported import Exported, check_target, write_files

if TYPE_CHECKING:
    from torch import Tensor

    from ..layout import Layout
    from ..records import AnyPath

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")

SUFFIXES = {"torch-legacy": ".pth", "keras-h5": ".h5", "pickle": ".pdparams"}
# The ending tells readers the format of the file.
OTHERS = {".safetensors", ".keras", ".h5", ".pth", ".pdparams"}
COUNTER = "num_batches_tracked"


def write_layout(written: Written, layout: str, output: AnyPath | None, *, force: bool) -> Exported:
    """Writes the tensors of a folder under a layout's names, reads them back and compares them.

    Raises:
        FolderError: the file can't be written.
        LayoutError: there is no such layout, it can't hold this network, or h5py is missing.
    """
    table = named_layout(layout, known_layouts())
    path = _path(written.folder, table, output)
    check_target(path, force)
    tensors = _tensors(written, table)
    phases.info("writing %s", path)
    data = WRITERS[table.export_format](tensors)
    _read_back(data, tensors, path)
    write_files({path: data}, force)
    return Exported(path, written.folder)


def _path(folder: Path, table: Layout, output: AnyPath | None) -> Path:
    """Returns the file, whose ending tells readers its format."""
    if not table.export_format:
        raise LayoutError(
            f"{table.name} is read, and not written: a file of {table.origin} holds more than this. "
            "Choose another layout."
        )
    suffix = SUFFIXES[table.export_format]
    path = Path(f"{folder.absolute().name}-{table.name}{suffix}" if output is None else output)
    if path.suffix.lower() in OTHERS - {suffix}:
        raise LayoutError(
            f"{path}: {table.name} is not written to {path.suffix} files. Choose an `output=...` that ends "
            f"in {suffix}."
        )
    if table.export_format == "keras-h5" and path.name.endswith(".weights.h5"):
        raise LayoutError(
            f"{path}: Keras takes a file of this name for one of Keras 3, and this is one that Keras 2 and 3 "
            "load by their names. Choose another `output=...` that ends in .h5."
        )
    return path


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
