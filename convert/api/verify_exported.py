"""``verify_exported``: a network that somebody exported, held against the folder that it came from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from densenet_convert.densenet import DenseNet

from ..folder.open import open_folder
from ..hub.fetch import local_folder
from ..proof.devices import plain_torch
from ..records import AnyPath
from ..source.file import read_whole
from ..tensors import announce_torch
from .exported import RUNTIMES, Exported

if TYPE_CHECKING:
    from ..results import ExportProof

phases = logging.getLogger("densenet_convert.phases")


def verify_exported(file: AnyPath, against: AnyPath) -> Exported:
    """Proves that an exported network computes what a converted folder does, whoever exported it.

    The weights must be the folder's, bit for bit, or what folding a norm into a convolution makes of them.
    Each layer runs alone on the folder's own values, and the whole network end to end: in every provider of
    onnxruntime that is there, at each level of its optimisation, or in OpenVINO on the CPU, by one thread and
    by all.  Names play no part.  An archive of torch.export must hold the tensors under the folder's names,
    and give the same logits to the bit.

    Args:
        file: the ``.onnx`` file, or OpenVINO's ``.xml``, or ``.pt2`` of torch.export; weights that lie beside
            it are read as well.
        against: the converted folder, here or as ``hf://USER/NAME[@REVISION]`` on the Hugging Face Hub.

    Raises:
        HubError: the Hub does not have the folder, or does not give it.
        FolderError: a file is missing, or one of the folder was changed.
        ReadError: the file can't be read, or holds an operator that no rule knows.
        LayoutError: onnx and onnxruntime, or openvino, are not installed.
        ParityError: a tensor or a layer is another one; the first is named.

    Examples:
        >>> dc.verify_exported("densenet121.onnx", "densenet121").proof.tensors
        606
    """
    folder = local_folder(against)
    phases.info("reading %s", folder)
    written = open_folder(folder)
    announce_torch()
    with plain_torch():
        proof = _prove(Path(file), written.folder)
    return Exported(Path(file), folder, proof)


def _prove(file: Path, folder: Path) -> ExportProof:
    from ..proof.exported.graph import read_graph
    from ..proof.exported.ir import read_ir
    from ..proof.exported.prove import prove_graph
    from ..proof.exported.prove_program import prove_program

    network, suffix = DenseNet.from_pretrained(folder), file.suffix.lower()
    if suffix == RUNTIMES["pt2"]:
        return prove_program(bytes(read_whole(file)), network, file)
    return prove_graph(read_ir(file) if suffix == RUNTIMES["openvino"] else read_graph(file), network)
