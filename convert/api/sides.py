"""Reads both sides of a comparison: files, converted folders or what is on the Hub; without torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..comparing.renamed import match_names
from ..comparing.sides import COUNTER, Side, Tensor, canonical_side, held_tensors
from ..errors import ArchitectureError, FolderError, LayoutError, ReadError, SeveralError, first_few
from ..folder.files import WEIGHTS, is_ours
from ..folder.receipt import FILE_NAME, config_from, unseal
from ..formats.untrusted import FormatError
from ..hub.fetch import local_file
from ..layouts.network import identify_tensors
from ..records import AnyPath, Rewrite
from ..source.beside import layout_beside, preprocessing_beside, settings_beside
from ..source.file import map_whole, parse_checkpoint
from .choices import MOST_CHOICES

if TYPE_CHECKING:
    from ..formats.recognise import Content

phases = logging.getLogger("densenet_convert.phases")
AGAIN = "Convert again, or get the folder again from where it came from."
# Settings of the function that neither names nor shapes tell.
FUNCTION = ("norm_eps", "final_relu", "stem_padding", "transition_pool")


class Opened(NamedTuple):
    """A file whose tensors are known by its own names.

    Attributes:
        named: as the user calls it.
        path: where it lies.
        key: what led to its state dict, as it was asked for.
        content: what it holds.
        held: its tensors.
    """

    named: str
    path: Path
    key: str | None
    content: Content
    held: Mapping[str, Tensor]

    @property
    def label(self) -> str:
        """``"run.ckpt, ema"``."""
        return self.named if self.key is None else f"{self.named}, {self.key}"


class Known(NamedTuple):
    """A side, and the steps that its own names need; none where a layout explains them."""

    side: Side
    steps: tuple[Rewrite, ...] = ()


def open_both(a: AnyPath, b: AnyPath, key_a: str | None, key_b: str | None) -> tuple[Opened, Opened]:
    """Opens both files; where one holds several state dicts, the message ends with calls that choose."""
    try:
        return _open(a, key_a), _open(b, key_b)
    except SeveralError as error:
        pairs = list(product(_keys_of(a, key_a), _keys_of(b, key_b)))
        if os.fspath(a) == os.fspath(b):  # with itself there is nothing to compare
            apart = [pair for pair in pairs if pair[0] != pair[1]]
            pairs = [pair for i, pair in enumerate(apart) if pair[::-1] not in apart[:i]]
        calls = [_call(a, b, *pair) for pair in pairs[:MOST_CHOICES]]
        text = f"{error} Each of these lines compares one:" if calls else str(error)
        raise SeveralError("\n".join([text, *calls]), error.keys) from error


def _keys_of(named: AnyPath, key: str | None) -> list[str | None]:
    """Returns the key that was asked for, or where one must be chosen those that lead to a DenseNet."""
    try:
        _open(named, key)
    except SeveralError as error:
        return [one for one in error.keys[:MOST_CHOICES] if _is_network(named, one)]
    return [key]


def _is_network(named: AnyPath, key: str) -> bool:
    try:
        return bool(_side(_open(named, key)).tensors)
    except (ReadError, LayoutError, ArchitectureError):
        return False


def _call(a: AnyPath, b: AnyPath, key_a: str | None, key_b: str | None) -> str:
    keys = {"key_a": key_a, "key_b": key_b}
    words = [f"{name}={key!r}" for name, key in keys.items() if key is not None]
    return f"dc.compare({', '.join([repr(os.fspath(a)), repr(os.fspath(b)), *words])})"


def _open(named: AnyPath, key: str | None) -> Opened:
    path = local_file(named)
    if path.is_dir():
        path = _weights_in(path)
    phases.info("reading %s", path)
    data = map_whole(path)
    try:
        content = parse_checkpoint(data, path, key)
        return Opened(os.fspath(named), path, key, content, held_tensors(content.tensors, len(data)))
    except SeveralError as error:
        listed = first_few([one or "its own dict" for one in error.keys], MOST_CHOICES)
        raise SeveralError(
            f"{path} holds {len(error.keys)} state dicts, which differ: {listed}.", error.keys
        ) from error
    except FormatError as error:
        raise ReadError(f"{path} can't be read: {error}") from error


def _weights_in(folder: Path) -> Path:
    """Returns the weights in a folder that was converted, or that a library saved."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    raise ReadError(f"{folder} is a folder without {WEIGHTS}. Name the checkpoint file itself.")


def know(one: Opened, other: Opened) -> tuple[Known, Known]:
    """Returns both sides; where the names of one are in no layout, its tensors may be those of the other."""
    try:
        a = Known(_side(one))
    except (LayoutError, ArchitectureError) as error:
        try:
            b = Known(_side(other))
        except (LayoutError, ArchitectureError):
            raise type(error)(f"{one.named} can't be compared: {error}") from None
        return _by_digests(b.side, one, error), b
    try:
        return a, Known(_side(other))
    except (LayoutError, ArchitectureError) as error:
        return a, _by_digests(a.side, other, error)


def _by_digests(known: Side, other: Opened, error: LayoutError | ArchitectureError) -> Known:
    found = match_names(known, other.held)
    if found is None:
        message = (
            f"{other.named} can't be compared: {error} Nor are its tensors those of the other, by digests."
        )
        raise type(error)(message) from error
    return Known(*found)


def _side(opened: Opened) -> Side:
    """Returns the network in a file; of a converted folder as its receipt says."""
    if opened.path.name == WEIGHTS and is_ours(opened.path.parent):
        return _converted(opened)
    settings = settings_beside(opened.path)
    layout = layout_beside(opened.path)
    network = identify_tensors(opened.content, settings.get("norm_eps"), layout)
    stated = {**network.reading.layout.overrides, **settings}
    if network.norm_eps is not None:
        stated["norm_eps"] = network.norm_eps
    beside = preprocessing_beside(opened.path, network.config)
    return canonical_side(
        opened.held,
        network,
        stated={name: stated[name] for name in FUNCTION if name in stated},
        preprocessing={**network.reading.layout.preprocessing, **beside},
    )


def _converted(opened: Opened) -> Side:
    try:
        return _as_counted(opened, _receipt(opened))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        path = opened.path.parent / FILE_NAME
        raise FolderError(f"{path} lacks a field, or has one of another type: {error!r}. {AGAIN}") from error


def _as_counted(opened: Opened, receipt: Mapping[str, Any]) -> Side:
    """Returns the network in a converted folder, by the fields of its receipt."""
    config = config_from(receipt["config"])
    absent = {entry["name"] for entry in receipt["tensors"] if entry["source_name"] is None}
    # A counter that the source lacked was written as zero, and counts nothing.
    lacking = {name for name in absent if name.endswith(COUNTER)}
    names = [name for name in config.tensor_shapes() if name in opened.held.keys() - lacking]
    if set(opened.held) != {entry["name"] for entry in receipt["tensors"]}:
        raise FolderError(f"{opened.path} holds other tensors than its {FILE_NAME} counts. {AGAIN}")
    return Side(
        config,
        {name: opened.held[name] for name in names},
        {name: name for name in names},
        stated={name: getattr(config, name) for name in FUNCTION},
        preprocessing=receipt["preprocessing"],
    )


def _receipt(opened: Opened) -> dict[str, Any]:
    folder = opened.path.parent
    try:
        return unseal((folder / FILE_NAME).read_bytes().decode())
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f"{folder / FILE_NAME} can't be read: {error}.") from error


def take_digests(side: Side) -> None:
    """Takes the digest of every tensor, which is kept."""
    for tensor in side.tensors.values():
        _ = tensor.sha256


def check_receipt(opened: Opened, side: Side) -> None:
    """Raises FolderError where the tensors of a converted folder are not those that its receipt counts."""
    if opened.path.name != WEIGHTS or not is_ours(opened.path.parent):
        return
    counted = {entry["name"]: entry["sha256"] for entry in _receipt(opened)["tensors"]}
    found = {name: tensor.sha256 for name, tensor in side.tensors.items()}
    if other := [name for name in found if counted.get(name) != found[name]]:
        raise FolderError(f"{opened.path.parent} disagrees with its {FILE_NAME}: {first_few(other)}. {AGAIN}")
