"""``inspect``: what a file holds, without torch and without a proof; nothing is copied or executed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import DenseNetConfig, architecture_of, infer_config

from ..errors import ArchitectureError, LayoutError, ReadError, first_few
from ..formats.untrusted import Budget, FormatError
from ..hub.fetch import local_file
from ..layouts import known_layouts
from ..layouts.declared_layers import read_declared
from ..layouts.explain import explain
from ..layouts.identify import identify_layout
from ..source.file import map_whole, parse_checkpoint

if TYPE_CHECKING:
    import os

    from densenet_convert.densenet import DenseNetConfig

    from ..formats.raw import RawTensor
    from ..formats.recognise import Content
    from ..layout import Layout

COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor under the source's name; ``sha256`` of its row-major bytes is None unless asked for."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str | None


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint's file holds.

    Attributes:
        path: the file.
        size: its length in bytes.
        sha256: its digest, hexadecimal.
        format: ``"torch-zip"``, ``"torch-legacy"``, ``"torch-tar"``, ``"pickle"``, ``"safetensors"``,
            ``"keras-h5"`` or ``"keras"``.
        container: the keys that lead to the state dict, joined by dots; None for the file's own object.
        layout: what the tensors' names are called as a whole; None where no layout explains them.
        prefix: what stands before these names; None likewise.
        architecture: such as ``"densenet169"``; None where it is another network.
        config: the network's hyperparameters, as far as the file tells them; None where it is no DenseNet.
        problem: why ``layout`` or ``config`` is None, in a sentence.
        dtypes: number of tensors of each dtype.
        tensors: each of them, in the file's order.
        metadata: what the file says beside them, in words and numbers.
        names: what its pickles want to import; nothing of it was.
    """

    path: Path
    size: int
    sha256: str
    format: str
    container: str | None
    layout: str | None
    prefix: str | None
    architecture: str | None
    config: DenseNetConfig | None
    problem: str | None
    dtypes: Mapping[str, int]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Any]
    names: tuple[str, ...]


def inspect(path: str | os.PathLike[str], *, key: str | None = None, hashes: bool = False) -> Inspection:
    """Says what the file at ``path`` holds; it is mapped, not read into memory.

    A file that is made shorter meanwhile ends the process, by the system's signal SIGBUS.

    Args:
        path: a checkpoint in one of the known formats, of a DenseNet or another network; a file here, or
            ``hf://USER/NAME[@REVISION][/FILE]`` on the Hugging Face Hub.
        key: keys that lead to the state dict, joined by dots, in a file that holds several.
        hashes: digest every tensor as well.

    Raises:
        HubError: the Hub does not have the file, or does not give it.
        ReadError: the file can't be read, is not sound or holds no state dict.

    Examples:
        >>> found = dc.inspect("old.pth")
        >>> found.format, found.layout, found.architecture, found.config.num_classes
        ('torch-legacy', 'torchvision-dotted', 'densenet121', 1000)
    """
    path = local_file(path)
    data = map_whole(path)
    with ThreadPoolExecutor(1) as executor:  # hashing holds no lock of Python's
        digest = executor.submit(hashlib.sha256, data)
        content = parse_checkpoint(data, path, key)
        layout, config, problem = _identify(content)
    return Inspection(
        path=path,
        size=len(data),
        sha256=digest.result().hexdigest(),
        format=content.format,
        container=content.container,
        layout=layout.name if layout else None,
        prefix=layout.prefix if layout else None,
        architecture=architecture_of(config) if config else None,
        config=config,
        problem=problem,
        dtypes=dict(Counter(raw.dtype for raw in content.tensors.values())),
        tensors=_describe(content.tensors, _digests(content.tensors, len(data), path) if hashes else {}),
        metadata=content.metadata,
        names=content.names,
    )


def _identify(content: Content) -> tuple[Layout | None, DenseNetConfig | None, str | None]:
    """The layout, the config, and why one of them is None."""
    try:
        layout = identify_layout(content.tensors, known_layouts())
    except LayoutError as error:
        return None, None, str(error)
    try:
        config = _config(layout, content.tensors)
        norm_eps, _ = read_declared(content.layers, content.format, content.tensors, layout)
    except ArchitectureError as error:
        return layout, None, str(error)
    except ValueError as error:
        return layout, None, f"These are not the tensors of a whole DenseNet: {error}."
    return layout, config if norm_eps is None else replace(config, norm_eps=norm_eps), None


def _config(layout: Layout, tensors: Mapping[str, RawTensor]) -> DenseNetConfig:
    explained = explain(layout, tensors)
    shapes = {}
    for name, target in explained.targets.items():
        shape, axes = tensors[name].shape, explained.axes.get(name)
        if axes is not None and len(axes) != len(shape):
            raise ValueError(f"{name} has shape {list(shape)}, expected {len(axes)} dimensions")
        shapes[target] = shape if axes is None else tuple(shape[axis] for axis in axes)
    config = replace(infer_config(shapes), **layout.overrides)
    for name, expected in config.tensor_shapes().items():
        # Files of 2017 have no counters.
        if shapes.pop(name, () if name.endswith(COUNTER) else None) != expected:
            raise ValueError(f"{name} is missing or not of shape {list(expected)}")
    if shapes:
        raise ValueError(f"{first_few(shapes)} is not part of it")
    return config


def _digests(tensors: Mapping[str, RawTensor], size: int, path: Path) -> dict[Any, str]:
    """SHA-256 of each view's bytes, by its key; views of one storage could claim it over and over."""
    budget, digests = Budget(size), dict[Any, str]()
    try:
        for raw in tensors.values():
            if raw.key not in digests:
                budget.take(raw.nbytes)
                digests[raw.key] = hashlib.sha256(raw.row_major()).hexdigest()
    except FormatError as error:
        raise ReadError(f"{path} can't be read: {error}") from error
    return digests


def _describe(tensors: Mapping[str, RawTensor], digests: Mapping[Any, str]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name, raw.shape, raw.dtype, digests.get(raw.key)) for name, raw in tensors.items()
    )
