"""A folder's network for another runtime, written once it is proven."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from densenet_convert.densenet import DenseNet
from densenet_convert.densenet.config_file import FILE_NAME as CONFIG

from ..errors import LayoutError
from ..folder.receipt import FILE_NAME
from ..proof.devices import plain_torch
from ..records import AnyPath
from ..tensors import announce_torch
from .exported import RUNTIMES, Exported, check_target, write_file

if TYPE_CHECKING:
    from ..folder.records import Written

phases = logging.getLogger("densenet_convert.phases")

DTYPES = ("float32", "float16")
# The key under which a model names the folder that it was exported from.
RECEIPT = "densenet_convert.receipt_sha256"


def write_network(
    written: Written, output: AnyPath | None, *, dtype: str | None, dynamic_size: bool, force: bool
) -> Exported:
    """Writes the network of a folder in ONNX's format, once it was proven.

    Raises:
        FolderError: the file can't be written.
        LayoutError: a package is missing, or the dtype or the file's ending is another one.
        ParityError: what would be written does not compute the folder's function.
        ValueRangeError: the network overflows in this dtype.
    """
    if dtype not in (None, *DTYPES):
        raise LayoutError(f"{dtype!r} is no dtype of an exported network, expected {' or '.join(DTYPES)}.")
    folder = written.folder
    path = Path(f"{folder.absolute().name}.{RUNTIMES[0]}" if output is None else output)
    if path.suffix.lower() != f".{RUNTIMES[0]}":
        raise LayoutError(f"{path} is no name of an ONNX file. Choose an `output=...` that ends in .onnx.")
    check_target(path, force)
    sides = None if dynamic_size else _sides(folder)
    announce_torch()
    import torch

    from ..proof.exported.graph import graph_of
    from ..proof.exported.prove import prove_graph
    from ..proof.exported.write import onnx_model

    with plain_torch():
        network = DenseNet.from_pretrained(folder)
        phases.info("exporting with torch %s", torch.__version__)
        digest = hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()
        data = onnx_model(network, getattr(torch, dtype or "float32"), sides, {RECEIPT: digest})
        proof = prove_graph(graph_of(data), network)
    write_file(data, path, force)
    return Exported(path, folder, proof)


def _sides(folder: Path) -> tuple[int, ...]:
    """Returns height and width of the images, or as many sides as there are, as config.json states them."""
    said = json.loads((folder / CONFIG).read_bytes())
    size = said.get("pretrained_cfg", said).get("input_size")
    if size is None:
        raise LayoutError(
            f"{folder / CONFIG} states no size of the input. Leave it free with `dynamic_size=True`."
        )
    return tuple(size[1:])
