"""Step 5: the source library's own network, built without the converter's renaming."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torchvision

from densenet_convert.densenet import DenseNetConfig, architecture_of

from ..blank import NothingDrawn
from ..errors import ParityError
from ..layout import Layout
from ..published import published_url
from ..records import PUBLISHED, Checkpoint, Reference
from ..scratch import scratch_folder

if TYPE_CHECKING:
    from torch import nn


# The first forces torch.load to be safe, the second not to be; torch refuses both at once.
WEIGHTS_ONLY = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")


def load_reference(checkpoint: Checkpoint, layout: Layout, config: DenseNetConfig) -> Reference:
    """torchvision's own loader where it takes the source, else its modules under the source's names.

    Either way the network is given the source's untouched tensors under the source's
    names, in eval mode on the CPU.  Weights in half precision are held as float32,
    exactly.

    Raises:
        ParityError: the network does not take the tensors, strictly.
    """
    if _own_loader_takes(checkpoint, config):
        network, how = _through_own_loader(checkpoint, layout, config), "torchvision's own loader"
    else:
        network, how = _through_tree(checkpoint, layout, config), "torchvision's modules in a tree"
    if _dtype(checkpoint) in (torch.float16, torch.bfloat16):
        network.float()
    return Reference(network.eval(), f"{how}, torchvision {torchvision.__version__}")


def _dtype(checkpoint: Checkpoint) -> torch.dtype:
    return next(tensor.dtype for tensor in checkpoint.tensors.values() if tensor.dtype.is_floating_point)


def _own_loader_takes(checkpoint: Checkpoint, config: DenseNetConfig) -> bool:
    # Its regex leaves a dotted num_batches_tracked behind, and it loads into float32.
    dotted_counter = re.compile(r".*\.norm\.[12]\.num_batches_tracked")
    return (
        architecture_of(config) is not None
        and config.num_classes == 1000
        and config.in_channels == 3
        and _dtype(checkpoint) != torch.float64
        and not any(map(dotted_counter.fullmatch, checkpoint.tensors))
    )


def _through_own_loader(checkpoint: Checkpoint, layout: Layout, config: DenseNetConfig) -> nn.Module:
    """Puts the tensors where torchvision looks for its download, and asks it for the network.

    The loader runs code from some files, so it gets one that was saved here: in the zip
    format, for it takes what looks like a zip of one member for something to unpack.
    """
    architecture = architecture_of(config) or ""
    with scratch_folder() as hub:
        file = hub / "checkpoints" / published_url(architecture).rpartition("/")[2]
        file.parent.mkdir()
        _save(checkpoint, file)
        with _hub_folder(hub), NothingDrawn(), _strictly(layout):
            return cast(
                "nn.Module",
                torchvision.models.get_model(architecture, weights=PUBLISHED, progress=False),
            )


def _save(checkpoint: Checkpoint, file: Path) -> None:
    try:
        # A plain dict has no _metadata, as torchvision's files have none.
        torch.save(dict(checkpoint.tensors), file)
    except RuntimeError as error:  # of torch's writer, on a full disk
        raise OSError(str(error)) from error


def _through_tree(checkpoint: Checkpoint, layout: Layout, config: DenseNetConfig) -> nn.Module:
    module, _, function = layout.reference.partition(":")
    network: nn.Module = getattr(import_module(module), function)(config)
    with _strictly(layout):
        network.load_state_dict(dict(checkpoint.tensors), strict=True, assign=True)
    return network


@contextmanager
def _strictly(layout: Layout) -> Iterator[None]:
    """What load_state_dict objects to is a fault of the renaming, which objected to nothing."""
    try:
        yield
    except RuntimeError as error:
        raise ParityError(
            f"The reference of {layout.name} does not take the source's tensors, which the converter renamed "
            f"without an objection: {' '.join(str(error).split())}",
            where=layout.name,
            largest=float("inf"),
        ) from error


@contextmanager
def _hub_folder(folder: Path) -> Iterator[None]:
    """Points torchvision's loader at ``folder``, and forbids it to unpickle more than tensors."""
    kept = {key: os.environ.pop(key) for key in WEIGHTS_ONLY if key in os.environ}
    # set_dir alone could not restore a folder that follows TORCH_HOME.
    hub = torch.hub._hub_dir
    torch.hub.set_dir(folder)
    os.environ[WEIGHTS_ONLY[0]] = "1"
    try:
        yield
    finally:
        torch.hub._hub_dir = hub
        del os.environ[WEIGHTS_ONLY[0]]
        os.environ.update(kept)
