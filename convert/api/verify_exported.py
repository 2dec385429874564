"""``verify_exported``: a network that somebody exported, held against the folder that it came from."""

from __future__ import annotations

import logging
from pathlib import Path

from densenet_convert.densenet import DenseNet

from ..folder.open import open_folder
from ..hub.fetch import local_folder
from ..proof.devices import plain_torch
from ..records import AnyPath
from ..tensors import announce_torch
from .exported import Exported

phases = logging.getLogger("densenet_convert.phases")


def verify_exported(file: AnyPath, against: AnyPath) -> Exported:
    """Proves that a file in ONNX's format computes what a converted folder does, whoever exported it.

    The weights must be the folder's, bit for bit, or what folding a norm into a convolution makes of them.
    Each layer runs alone on the folder's own values, and the whole network end to end, in every provider of
    onnxruntime that is there, at each level of its optimisation.  Names play no part.

    Args:
        file: the ``.onnx`` file; weights that lie beside it are read as well.
        against: the converted folder, here or as ``hf://USER/NAME[@REVISION]`` on the Hugging Face Hub.

    Raises:
        HubError: the Hub does not have the folder, or does not give it.
        FolderError: a file is missing, or one of the folder was changed.
        ReadError: the file can't be read, or holds an operator that no rule knows.
        LayoutError: onnx or onnxruntime is not installed.
        ParityError: a tensor or a layer is another one; the first is named.

    Examples:
        >>> dc.verify_exported("densenet121.onnx", "densenet121").proof.tensors
        606
    """
    folder = local_folder(against)
    phases.info("reading %s", folder)
    written = open_folder(folder)
    announce_torch()
    from ..proof.exported.graph import read_graph
    from ..proof.exported.prove import prove_graph

    with plain_torch():
        graph = read_graph(Path(file))
        proof = prove_graph(graph, DenseNet.from_pretrained(written.folder))
    return Exported(Path(file), folder, proof)
