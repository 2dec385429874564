"""``inspect``: what a file holds, without torch and without a proof; nothing is copied or executed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import DenseNetConfig, architecture_of

from ..claims import Remark
from ..errors import ArchitectureError, LayoutError, ReadError, SeveralError, first_few
from ..formats.untrusted import Budget, FormatError
from ..hub.fetch import local_file
from ..layouts import known_layouts
from ..layouts.attempt import network_of
from ..layouts.checkup import check_up, check_up_file
from ..layouts.identify import identify_layout
from ..layouts.network import identify_network
from ..layouts.prepare import Held, prepare
from ..records import ORIGIN_MEMORY, AnyPath, InMemory, Options
from ..source.beside import settings_beside
from ..source.file import map_whole, parse_checkpoint
from ..source.memory import read_memory
from ..tensors import dtype_name
from .choices import MOST_CHOICES, with_calls

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig

    from ..formats.raw import RawTensor, Whole
    from ..formats.recognise import Content
    from ..layout import Reading

phases = logging.getLogger("densenet_convert.phases")


@dataclass(frozen=True)
class TensorInfo:
    """A tensor under the source's name; ``sha256`` of its row-major bytes is None unless asked for."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str | None


@dataclass(frozen=True)
class Inspection:
    """The content of a checkpoint's file.

    Attributes:
        path: the file; None of what is in memory.
        size: its length in bytes.
        sha256: its digest, hexadecimal.
        format: ``"torch-zip"``, ``"torch-legacy"``, ``"torch-tar"``, ``"pickle"``, ``"safetensors"``,
            ``"keras-h5"`` or ``"keras"``; ``"memory"`` of what is in memory.
        container: the keys that lead to the state dict, joined by dots; None for the file's own object.
        containers: the same of each state dict, where there are several that differ: ``key`` chooses one, and
            nothing else is said of any.
        layout: what the tensors' names are called as a whole; None where no layout explains them.
        prefix: what stands before these names; None likewise.
        architecture: such as ``"densenet169"``; None where it is another network.
        config: the network's hyperparameters, as far as the file tells them; None where it is no DenseNet.
        problem: why ``layout`` or ``config`` is None, or what only the owner of the file knows, with the
            calls that convert it.
        dtypes: number of tensors of each dtype.
        tensors: each of them, in the file's order.
        metadata: what the file says beside them, in words and numbers.
        names: what its pickles want to import; nothing of it was.
        labels: names of the classes that it holds, by the keys that lead to them.
        remarks: what a sample of the values tells: layers that were probably never loaded, and the like.
    """

    path: Path | None
    size: int
    sha256: str
    format: str
    container: str | None
    containers: tuple[str, ...]
    layout: str | None
    prefix: str | None
    architecture: str | None
    config: DenseNetConfig | None
    problem: str | None
    dtypes: Mapping[str, int]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Any]
    names: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    remarks: tuple[Remark, ...] = ()


def inspect(path: AnyPath | InMemory, *, key: str | None = None, hashes: bool = False) -> Inspection:
    """Says what the file at ``path`` holds; it is mapped, not read into memory.

    A file that is made shorter meanwhile ends the process, by the system's signal SIGBUS.

    Args:
        path: a checkpoint in one of the known formats, of a DenseNet or another network; a file here, or
            ``hf://USER/NAME[@REVISION][/FILE]`` on the Hugging Face Hub. A network at hand, or a mapping of
            names to tensors, is taken as well.
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
    if not isinstance(path, str | os.PathLike):
        return _inspect_memory(path, hashes)
    path = local_file(path)
    phases.info("reading %s", path)
    data = map_whole(path)
    with ThreadPoolExecutor(1) as executor:  # hashing holds no lock of Python's
        digest = executor.submit(hashlib.sha256, data)
        content, keys = _parse(data, path, key)
        found = _identify(content, path, Options(key=key))
        reading, config, problem = (None, None, _choices(keys, data, path)) if keys else found
    return Inspection(
        path=path,
        size=len(data),
        sha256=digest.result().hexdigest(),
        format=content.format,
        container=content.container,
        containers=keys,
        layout=reading.layout.name if reading else None,
        prefix=reading.prefix if reading else None,
        architecture=architecture_of(config) if config else None,
        config=config,
        problem=problem,
        dtypes=dict(Counter(raw.dtype for raw in content.tensors.values())),
        tensors=_describe(content.tensors, _digests(content.tensors, len(data), path) if hashes else {}),
        metadata=content.metadata,
        names=content.names,
        labels=content.labels,
        remarks=check_up_file(content.tensors, reading) if reading and config else (),
    )


def _inspect_memory(source: InMemory, hashes: bool) -> Inspection:
    held = read_memory(source)
    reference = None if isinstance(source, Mapping) else ORIGIN_MEMORY
    reading, config, problem = _identify(held, None, Options(reference=reference))
    digests = held.digests if hashes else {}
    dtypes = {name: dtype_name(tensor) for name, tensor in held.tensors.items()}
    return Inspection(
        path=None,
        size=held.size,
        sha256=held.sha256,
        format=held.format,
        container=None,
        containers=(),
        layout=reading.layout.name if reading else None,
        prefix=reading.prefix if reading else None,
        architecture=architecture_of(config) if config else None,
        config=config,
        problem=problem,
        dtypes=dict(Counter(dtypes.values())),
        tensors=tuple(
            TensorInfo(name, tuple(tensor.shape), dtypes[name], digests.get(name))
            for name, tensor in held.tensors.items()
        ),
        metadata={},
        names=(),
        labels={},
        remarks=check_up(held, reading) if reading and config else (),
    )


def _parse(data: Whole, path: Path, key: str | None) -> tuple[Content, tuple[str, ...]]:
    """Returns what a file holds; where it holds several state dicts, none of them, and the key of each."""
    try:
        return parse_checkpoint(data, path, key), ()
    except SeveralError as error:
        keys = error.keys
    for one in keys:
        with suppress(ReadError):
            return replace(parse_checkpoint(data, path, one), container=None, tensors={}), keys
    return parse_checkpoint(data, path, keys[0]), keys


def _choices(keys: tuple[str, ...], data: Whole, path: Path) -> str:
    """Returns which state dicts a file holds, with the calls that convert one."""
    listed = first_few([one or "its own dict" for one in keys], MOST_CHOICES)
    error = SeveralError(f"It holds {len(keys)} state dicts, which differ: {listed}.", keys)
    return with_calls(error, data, path, Options(), str(path))


def _identify(
    content: Held, path: Path | None, options: Options
) -> tuple[Reading | None, DenseNetConfig | None, str | None]:
    """Returns the reading and the config, or why one of them is None, or what only the owner knows."""
    settings = {} if path is None else settings_beside(path)
    norm_eps, final_relu = settings.get("norm_eps"), settings.get("final_relu")
    try:
        options = replace(options, final_relu=final_relu)
        network = identify_network(content, options, norm_eps, source=None if path is None else str(path))
        return network.reading, network.config, None
    except (ArchitectureError, LayoutError) as error:
        problem = str(error)
    try:
        reading = identify_layout(prepare(content).tensors, known_layouts())
    except LayoutError:
        return None, None, problem
    try:
        return reading, network_of(content, reading, norm_eps, final_relu).config, problem
    except (ArchitectureError, LayoutError):
        return reading, None, problem


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
