"""``inspect``: what a file holds, without torch and without a proof; nothing is copied or executed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import DenseNetConfig, architecture_of
from densenet_convert.densenet.config_file import FILE_NAME as CONFIG

from ..errors import ArchitectureError, LayoutError, ReadError, SeveralError, first_few
from ..folder.files import CARD, WEIGHTS, file_digests, file_sha256, is_ours
from ..folder.open import label_names, read_receipt
from ..folder.receipt import FILE_NAME as RECEIPT
from ..folder.records import Written
from ..formats.untrusted import Budget, FormatError
from ..hub.fetch import local_file
from ..layouts import known_layouts
from ..layouts.attempt import network_of
from ..layouts.checkup import check_up, check_up_file
from ..layouts.identify import identify_layout
from ..layouts.network import identify_network
from ..layouts.prepare import Held, prepare
from ..records import ORIGIN_MEMORY, AnyPath, InMemory, Options
from ..source.beside import layout_beside, settings_beside
from ..source.file import map_whole, parse_checkpoint
from ..source.memory import read_memory
from ..tensors import dtype_name
from .choices import MOST_CHOICES, with_calls
from .inspected import Inspection, TensorInfo

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig

    from ..formats.raw import RawTensor, Whole
    from ..formats.recognise import Content
    from ..layout import Reading

phases = logging.getLogger("densenet_convert.phases")


def inspect(path: AnyPath | InMemory, *, key: str | None = None, hashes: bool = False) -> Inspection:
    """Says what the file at ``path`` holds; it is mapped, not read into memory.

    A file that is made shorter meanwhile ends the process, by the system's signal SIGBUS.

    Args:
        path: a checkpoint in one of the known formats, of a DenseNet or another network; a file here, or
            ``hf://USER/NAME[@REVISION][/FILE]`` on the Hugging Face Hub. A network at hand, or a mapping of
            names to tensors, is taken as well, and a converted folder here, of which no proof is made.
        key: keys that lead to the state dict, joined by dots, in a file that holds several.
        hashes: digest every tensor as well.

    Raises:
        HubError: the Hub does not have the file, or does not give it.
        ReadError: the file can't be read, is not sound or holds no state dict.
        FolderError: the receipt of a converted folder is not sound.

    Examples:
        >>> found = dc.inspect("old.pth")
        >>> found.format, found.layout, found.architecture, found.config.num_classes
        ('torch-legacy', 'torchvision-dotted', 'densenet121', 1000)
    """
    if not isinstance(path, str | os.PathLike):
        return _inspect_memory(path, hashes)
    path = local_file(path)
    phases.info("reading %s", path)
    if is_ours(path):
        return _inspect_folder(path, hashes)
    data = map_whole(path)
    with ThreadPoolExecutor(1) as executor:  # hashing holds no lock of Python's
        digest = executor.submit(hashlib.sha256, data)
        content, keys = _parse(data, path, key)
        found = _identify(content, path, Options(key=key, layout=layout_beside(path)))
        reading, config, problem = (None, None, _choices(keys, data, path)) if keys else found
    return Inspection(
        path=path,
        size=len(data),
        sha256=digest.result().hexdigest(),
        format=content.format,
        container=content.container,
        containers=keys,
        **_network(reading, config, problem),
        dtypes=dict(Counter(raw.dtype for raw in content.tensors.values())),
        tensors=_describe(content.tensors, _digests(content.tensors, len(data), path) if hashes else {}),
        metadata=content.metadata,
        names=content.names,
        labels=content.labels,
        remarks=check_up_file(content.tensors, reading) if reading and config else (),
    )


def _network(reading: Reading | None, config: DenseNetConfig | None, problem: str | None) -> dict[str, Any]:
    """Returns the fields that say which network it is."""
    return {
        "layout": reading.layout.name if reading else None,
        "prefix": reading.prefix if reading else None,
        "architecture": architecture_of(config) if config else None,
        "config": config,
        "problem": problem,
    }


def _inspect_folder(folder: Path, hashes: bool) -> Inspection:
    """Says what a converted folder holds, and which of its files its receipt does not know."""
    receipt = read_receipt(folder)
    found = inspect(folder / WEIGHTS, hashes=hashes)
    sums = {name: digest for name, digest in file_digests(receipt).items() if name != CARD}
    changed = [name for name, digest in sums.items() if _sum_of(folder / name, found) != digest]
    if changed:
        problem = (
            f"{first_few(changed)} {'is' if len(changed) == 1 else 'are'} missing or not what "
            f"{RECEIPT} names. Convert again, or get the folder again from where it came from."
        )
        return replace(found, receipt=receipt, problem=problem)
    names = label_names(Written(folder, receipt))
    return replace(found, receipt=receipt, labels={CONFIG: tuple(names)} if names else {})


def _sum_of(path: Path, weights: Inspection) -> str | None:
    """Returns the SHA-256 of a file in a converted folder, of which the weights' is known."""
    if path == weights.path:
        return weights.sha256
    return file_sha256(path) if path.is_file() else None


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
        **_network(reading, config, problem),
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
