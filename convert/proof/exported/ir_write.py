"""Writes a network as OpenVINO's IR, by its own reader of ONNX; every tensor stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from .ir_run import openvino


def ir_files(model: bytes, half: bool, properties: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Returns the text and the weights.

    OpenVINO's ``convert_model`` would fold the norms at once; its reader of ONNX leaves them, so that their
    tensors can be compared bit for bit.  They are folded when the model is compiled.

    Args:
        model: the network in ONNX's format, in float32.
        half: keeps the weights in float16; they are cast to float32 where the model runs.
        properties: metadata of the model, each under a name of two parts.
    """
    module = openvino()
    read = module.Core().read_model(model)
    for name, value in properties.items():
        read.set_rt_info(value, name.split("."))
    for number, op in enumerate(read.get_ordered_ops()):
        if op.get_friendly_name() == op.get_name():  # a number that grows with all that the process made
            op.set_friendly_name(f"{op.get_type_name().lower()}.{number}")
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        module.save_model(read, path, compress_to_fp16=half)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
