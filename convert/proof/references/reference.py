"""Builds the reference: the source library's own network, without the converter's renaming."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torchvision
from torch.nn.modules.batchnorm import _BatchNorm

from densenet_convert.densenet import DenseNetConfig, architecture_of
from densenet_convert.densenet.blank import SkipInit

from ...errors import ParityError, is_out_of_memory
from ...layout import Layout, Reading
from ...layouts import TORCHVISION, TORCHVISION_DOTTED
from ...records import ORIGIN_IMAGENET, Checkpoint
from ...temporary import temporary_folder
from ...torchvision_weights import weights_url
from .trees import under_source_names

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger("densenet_convert")

# The first forces torch.load to be safe, the second not to be; torch refuses both at once.
WEIGHTS_ONLY = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")


@dataclass(frozen=True)
class Reference:
    """The source library's own network with the source's tensors, in eval mode.

    Attributes:
        network: built without the converter's renaming.
        description: how it was built, such as ``"torchvision's own loader"``.
        outputs: what the library's own network computes of images, in float64, with its description, where
            its layers are not torch's; raises ImportError where it is not installed.
    """

    network: nn.Module
    description: str
    outputs: Callable[[Tensor], tuple[Tensor, str]] | None = None


def load_reference(checkpoint: Checkpoint, reading: Reading, config: DenseNetConfig) -> Reference:
    """Returns the source library's own network where it can be had, else torchvision's modules in a tree.

    It is given the source's untouched tensors under the source's names, in eval mode on the CPU, through
    torchvision's own loader where that takes the source.  Weights in half precision are held as
    float32, exactly.

    Raises:
        ParityError: the network does not take the tensors, strictly.
    """
    layout = reading.layout
    if _own_loader_takes(checkpoint, reading, config):
        network = _through_own_loader(checkpoint, layout, config)
        how = f"torchvision's own loader, torchvision {torchvision.__version__}"
    else:
        network, how = _network(layout, config)
        _load(network, checkpoint, reading)
        if checkpoint.norm_eps is not None:
            for module in network.modules():
                if isinstance(module, _BatchNorm):
                    module.eps = checkpoint.norm_eps
    if _dtype(checkpoint) in (torch.float16, torch.bfloat16):
        network.float()
    outputs = None
    if layout.outputs is not None and config.final_relu:
        outputs = partial(_named(layout.outputs), _own_tensors(checkpoint, reading), config)
    return Reference(network.eval(), how, outputs)


def _dtype(checkpoint: Checkpoint) -> torch.dtype:
    return next(tensor.dtype for tensor in checkpoint.tensors.values() if tensor.dtype.is_floating_point)


def _own_loader_takes(checkpoint: Checkpoint, reading: Reading, config: DenseNetConfig) -> bool:
    # Its regex leaves a dotted num_batches_tracked behind, and it loads into float32.
    dotted_counter = re.compile(r".*\.norm\.[12]\.num_batches_tracked")
    return (
        reading.is_plain
        and reading.layout in (TORCHVISION, TORCHVISION_DOTTED)
        and architecture_of(config) is not None
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
    with temporary_folder() as hub:
        file = hub / "checkpoints" / weights_url(architecture).rpartition("/")[2]
        file.parent.mkdir()
        _save(checkpoint, file)
        with _hub_folder(hub), SkipInit(), _strictly(layout):
            return cast(
                "nn.Module",
                torchvision.models.get_model(architecture, weights=ORIGIN_IMAGENET, progress=False),
            )


def _save(checkpoint: Checkpoint, file: Path) -> None:
    try:
        # A plain dict has no _metadata, as torchvision's files have none.
        torch.save(dict(checkpoint.tensors), file)
    except RuntimeError as error:  # of torch's writer, on a full disk
        raise OSError(str(error)) from error


def _network(layout: Layout, config: DenseNetConfig) -> tuple[nn.Module, str]:
    """On the meta device, and whose it is."""
    # No library has a network without a last ReLU, or with a bias in the stem.
    if layout.library is not None and config.final_relu and not config.stem_bias:
        try:
            library: tuple[nn.Module, str] = _named(layout.library)(config)
            return library
        except ImportError:
            pass
        except Exception as error:  # whatever another version of it, or a broken installation, raises
            log.warning(
                "%s can't be used, and torchvision's modules are: %r",
                layout.library.partition(":")[2],
                error,
            )
    how = f"torchvision's modules in a tree, torchvision {torchvision.__version__}"
    if config.spatial_dims != 2:
        how = f"torch's modules under the source's names, torch {torch.__version__}"
    return _named(layout.reference)(config), how


def own_names(layout: Layout, config: DenseNetConfig) -> list[str]:
    """Returns the layout's names of a network's tensors, without a prefix."""
    if layout.names is not None:
        return list(_named(layout.names)(config))
    return list(_named(layout.reference)(config).state_dict())


def _named(function: str) -> Any:
    """Returns the object that ``"module:function"`` names."""
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)


def _load(network: nn.Module, checkpoint: Checkpoint, reading: Reading) -> None:
    """Loads strictly; what the layout leaves out is no part of the network."""
    with _strictly(reading.layout):
        if reading.layout.loader is not None:
            _named(reading.layout.loader)(network, _own_tensors(checkpoint, reading))
        else:
            tensors = {reading.clean(name): tensor for name, tensor in _kept(checkpoint, reading).items()}
            under_source_names(network, reading).load_state_dict(tensors, strict=True, assign=True)


def _kept(checkpoint: Checkpoint, reading: Reading) -> dict[str, Tensor]:
    dropped = reading.explanation.dropped
    return {name: tensor for name, tensor in checkpoint.tensors.items() if name not in dropped}


def _own_tensors(checkpoint: Checkpoint, reading: Reading) -> dict[str, Tensor]:
    """Returns them without a prefix and under the library's own name of the head, but not renamed."""
    return {reading.own_name(name) or name: tensor for name, tensor in _kept(checkpoint, reading).items()}


@contextmanager
def _strictly(layout: Layout) -> Iterator[None]:
    """Raises ParityError if load_state_dict fails: then the renaming, which reported nothing, is wrong."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
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
