"""The registries of cases, what puts cases into them, and the networks that the files are around."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from checkpoints import SMALL, StateDict, in_2017_names, state_dict_of
from torch import Tensor, nn
from torchvision.models import DenseNet


class Sound(NamedTuple):
    """A file to read: exactly these tensors, in this order (safetensors: in any)."""

    path: Path
    tensors: StateDict
    format: str
    container: str | None = None


class Refused(NamedTuple):
    """A file to refuse, with a message that matches ``says``, where that is known."""

    path: Path
    says: str | None = None


SOUND: dict[str, Callable[[Path], Sound]] = {}
REFUSED: dict[str, Callable[[Path], Refused]] = {}
# Sound networks beside something absurd: refused, or read right, but soon, and nothing is run.
EITHER: dict[str, Callable[[Path], Sound]] = {}
# A file, and its tensors where these are not all of the network.
Made = bytes | tuple[bytes, StateDict]


def path_of(folder: Path, name: str) -> Path:
    return folder / ("".join(letter if letter.isalnum() else "-" for letter in name) + ".pth")


def once(registry: dict[str, Any], name: str, make: Callable[[Path], Any]) -> None:
    assert name not in registry, name
    registry[name] = make


def sound_case(name: str, format_: str, container: str | None = None) -> Callable[[Callable[[], Made]], None]:
    """Registers what makes a file, or a file and its tensors where these are not all of the network."""

    def register(make: Callable[[], Made]) -> None:
        def write(folder: Path) -> Sound:
            made = make()
            data, tensors = made if isinstance(made, tuple) else (made, network())
            path = path_of(folder, name)
            path.write_bytes(data)
            return Sound(path, tensors, format_, container)

        once(SOUND, name, write)

    return register


def refuse(name: str, says: str | None = None) -> Callable[[Callable[[], bytes]], None]:
    """Registers what makes the bytes of one file."""

    def register(make: Callable[[], bytes]) -> None:
        def write(folder: Path) -> Refused:
            path = path_of(folder, name)
            path.write_bytes(make())
            return Refused(path, says)

        once(REFUSED, name, write)

    return register


# ---- What the files hold.

# The tensor that attacks put anew, and what it then should be.
BIAS = "classifier.bias"
ONES = torch.ones(5)
# How a message names it.
HEAD = r"classifier\.bias"


@functools.cache
def network() -> StateDict:
    return state_dict_of()


@functools.cache
def network_of_2017() -> StateDict:
    return in_2017_names(state_dict_of())


def float_network(dtype: torch.dtype = torch.float32) -> StateDict:
    """Without ``num_batches_tracked``: all of one dtype, as flat buffers need it."""
    return {name: tensor.to(dtype) for name, tensor in network().items() if tensor.is_floating_point()}


def numpy_network() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network().items()}


def module(wrap: Callable[[nn.Module], nn.Module] = lambda made: made) -> nn.Module:
    """torchvision's own, whole, with a buffer that no state dict holds."""
    made = DenseNet(SMALL.growth_rate, SMALL.block_config, SMALL.num_init_features, SMALL.bn_size, 0, 5)
    made.load_state_dict(network(), strict=True)
    made.features.norm0.register_buffer("scratch", torch.ones(3), persistent=False)
    return wrap(made.eval())


def optimizer() -> dict[str, Any]:
    weight = nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([weight])
    weight.sum().backward()
    adam.step()
    return adam.state_dict()


def raw(tensor: Tensor) -> bytes:
    """The elements in row-major order, little-endian as this machine is assumed to be."""
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def saved(content: object, *, legacy: bool = False, protocol: int = 2) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()
