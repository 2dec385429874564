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
from .exported import RUNTIMES, Exported, check_target, write_files

if TYPE_CHECKING:
    from ..folder.records import Written
    from ..results import ExportProof

phases = logging.getLogger("densenet_convert.phases")

DTYPES = ("float32", "float16")
# The key under which a model names the folder that it was exported from.
RECEIPT = "densenet_convert.receipt_sha256"


def write_network(
    written: Written,
    runtime: str,
    output: AnyPath | None,
    *,
    dtype: str | None,
    dynamic_size: bool,
    force: bool,
) -> Exported:
    """Writes the network of a folder in a runtime's format, once it was proven.

    Raises:
        FolderError: the file can't be written.
        LayoutError: a package is missing, or the dtype or the file's ending is another one.
        ParityError: what would be written does not compute the folder's function.
        ValueRangeError: the network overflows in this dtype.
    """
    if dtype not in (None, *DTYPES):
        raise LayoutError(f"{dtype!r} is no dtype of an exported network, expected {' or '.join(DTYPES)}.")
    folder, suffix = written.folder, RUNTIMES[runtime]
    path = Path(f"{folder.absolute().name}{suffix}" if output is None else output)
    if path.suffix.lower() != suffix:
        raise LayoutError(
            f"{path} is no name of a file for {runtime}. Choose an `output=...` that ends in {suffix}."
        )
    targets = [path, path.with_suffix(".bin")] if runtime == "openvino" else [path]
    for target in targets:
        check_target(target, force)
    sides = None if dynamic_size else _sides(folder)
    announce_torch()
    with plain_torch():
        network = DenseNet.from_pretrained(folder)
        digest = hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()
        files, proof = MAKERS[runtime](network, dtype or "float32", sides, {RECEIPT: digest})
    # The weights first: a reader takes the text for a whole model.
    write_files(dict(reversed(list(zip(targets, files, strict=True)))), force)
    return Exported(path, folder, proof)


def _in_onnx(
    network: DenseNet, dtype: str, sides: tuple[int, ...] | None, properties: dict[str, str]
) -> tuple[list[bytes], ExportProof]:
    from ..proof.exported.graph import graph_of
    from ..proof.exported.prove import prove_graph

    data = _onnx_model(network, dtype, sides, properties)
    return [data], prove_graph(graph_of(data), network)


def _in_openvino(
    network: DenseNet, dtype: str, sides: tuple[int, ...] | None, properties: dict[str, str]
) -> tuple[list[bytes], ExportProof]:
    from ..proof.exported.ir import ir_of
    from ..proof.exported.ir_run import openvino
    from ..proof.exported.ir_write import ir_files
    from ..proof.exported.prove import prove_graph

    openvino()  # what is missing is said before torch exports
    text, weights = ir_files(_onnx_model(network, "float32", sides, {}), dtype == "float16", properties)
    return [text, weights], prove_graph(ir_of(text, weights, "The model"), network)


def _as_program(
    network: DenseNet, dtype: str, sides: tuple[int, ...] | None, _: dict[str, str]
) -> tuple[list[bytes], ExportProof]:
    import torch

    from ..proof.exported.program import program_bytes
    from ..proof.exported.prove_program import prove_program

    data = program_bytes(network, getattr(torch, dtype), sides)
    return [data], prove_program(data, network, "The archive", ours=True)


MAKERS = {"onnx": _in_onnx, "openvino": _in_openvino, "pt2": _as_program}


def _onnx_model(
    network: DenseNet, dtype: str, sides: tuple[int, ...] | None, properties: dict[str, str]
) -> bytes:
    import torch

    from ..proof.exported import write

    phases.info("exporting with torch %s", torch.__version__)
    return write.onnx_model(network, getattr(torch, dtype), sides, properties)


def _sides(folder: Path) -> tuple[int, ...]:
    """Returns height and width of the images, or as many sides as there are, as config.json states them."""
    said = json.loads((folder / CONFIG).read_bytes())
    size = said.get("pretrained_cfg", said).get("input_size")
    if size is None:
        raise LayoutError(
            f"{folder / CONFIG} states no size of the input. Leave it free with `dynamic_size=True`."
        )
    return tuple(size[1:])
