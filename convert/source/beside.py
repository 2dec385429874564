"""Reads what lies beside a checkpoint: a config.json of timm or transformers, a card's front matter, or the
metadata of a MONAI bundle.

The files are a stranger's: they are bounded in size and depth, and each value is checked before it is taken.
What converted folders hold beside their weights is not read here: their receipt is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config import UNSEEN_IN_SHAPES, unlike_torchvision
from densenet_convert.densenet.config_file import FILE_NAME, OTHER, SAID_OF_VOLUMES, WEIGHTS

from ..claims import Beside, Remark
from ..errors import ConvertError, FolderError, quoted
from ..folder.card_fields import card_fields_of, license_of
from ..folder.files import CARD, is_ours
from ..folder.preprocessing import SOUND
from ..folder.receipt import FILE_NAME as RECEIPT
from ..folder.receipt import config_from, unseal
from ..formats.class_names import is_label
from ..layouts.tables.monai import MONAI_0_3
from .bundle import NAME as METADATA
from .bundle import metadata_of, read_metadata

MOST_BYTES = 1 << 20
# transformers' name for a class that nobody named.
UNNAMED = re.compile(r"LABEL_\d+", re.ASCII)


def read_beside(path: Path, config: DenseNetConfig) -> Beside:
    """Returns what the files beside a checkpoint tell of the network in it.

    Args:
        path: the checkpoint.
        config: the network's hyperparameters, which they must not contradict.
    """
    folder = path.parent
    if is_ours(folder):
        return Beside()
    files: dict[str, str] = {}
    remarks: list[Remark] = []
    names, preprocessing, card = None, dict[str, Any](), dict[str, Any]()
    if data := _bytes_of(folder / FILE_NAME, remarks):
        names, preprocessing = _read_config(data, config, remarks)
        if names or preprocessing or settings_beside(path):
            files[FILE_NAME] = hashlib.sha256(data).hexdigest()
    if (metadata := metadata_of(folder)) and (data := _bytes_of(metadata, remarks)):
        of_bundle, size = read_metadata(data, config, remarks)
        if (of_bundle and not names) or size:
            files[METADATA] = hashlib.sha256(data).hexdigest()
        names, preprocessing = names or of_bundle, {**size, **preprocessing}
    if data := _bytes_of(folder / CARD, remarks):
        card = _read_card(folder / CARD, remarks)
        if card:
            files[CARD] = hashlib.sha256(data).hexdigest()
    return Beside(names, preprocessing, card, files, tuple(remarks))


def preprocessing_beside(path: Path, config: DenseNetConfig) -> dict[str, Any]:
    """Returns the fields of ``pretrained_cfg`` that the files beside a checkpoint tell."""
    data = _bytes_of(path.parent / FILE_NAME, [])
    found = _read_config(data, config, [])[1] if data else {}
    metadata = metadata_of(path.parent)
    data = _bytes_of(metadata, []) if metadata else None
    return {**(read_metadata(data, config, [])[1] if data else {}), **found}


def settings_beside(path: Path, *, ignore_config: bool = False) -> dict[str, Any]:
    """Returns what is written beside weights of the function that they are of, and shapes do not tell.

    A converted folder's receipt tells it, and the config.json of ``DenseNet.save_pretrained``.

    Args:
        path: the weights.
        ignore_config: whether a config.json is not to be looked at.

    Returns:
        The fields ``norm_eps`` and ``final_relu`` of DenseNetConfig that are other than torchvision's.

    Raises:
        FolderError: the receipt was changed, or one of the two tells of a function that a conversion of
            weights can't be given.
    """
    if path.name != WEIGHTS:
        return {}
    if is_ours(path.parent):
        config = config_from(unseal((path.parent / RECEIPT).read_bytes().decode())["config"])
    elif ignore_config:
        return {}
    else:
        config = _own_config(path.parent / FILE_NAME)
    other = unlike_torchvision(config)
    known: dict[str, Any] = {name: other.pop(name) for name in ("norm_eps", "final_relu") if name in other}
    if other:
        settings = ", ".join(f"{name} {value}" for name, value in other.items())
        raise FolderError(
            f"The files beside {path} say that its network has {settings}, which a conversion of weights "
            "can't be given. Convert what they were made from."
        )
    return known


def layout_beside(path: Path, *, ignore_config: bool = False) -> str | None:
    """Returns the layout of weights that this converter or its network wrote in one or three dimensions.

    Their names are torchvision's, which has no such networks; None for all others.

    Args and Raises: as ``settings_beside``.
    """
    if path.name != WEIGHTS:
        return None
    if is_ours(path.parent):
        config = unseal((path.parent / RECEIPT).read_bytes().decode())["config"]
    else:
        config = {} if ignore_config else _content_of(path.parent / FILE_NAME)
        config = config if config.get("architecture") == OTHER else {}  # others may say it of any names
    return MONAI_0_3.name if config.get("spatial_dims", 2) != 2 else None


def _own_config(path: Path) -> DenseNetConfig:
    """Returns the settings that ``DenseNet.save_pretrained`` wrote; torchvision's where it did not."""
    content = _content_of(path)
    try:
        return DenseNetConfig(**{name: content[name] for name in UNSEEN_IN_SHAPES if name in content})
    except (ValueError, TypeError) as error:
        raise FolderError(
            f"{path} tells of a function that no DenseNet has: {quoted(str(error))}. Mend it, or leave it "
            "alone with `ignore_config=True`."
        ) from error


def _content_of(path: Path) -> dict[str, Any]:
    """Returns the object in a file; an empty one where there is none."""
    try:
        content = json.loads(_bytes_of(path, []) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _bytes_of(path: Path, remarks: list[Remark]) -> bytes | None:
    """Returns what a file holds; None where there is none, or too much in it."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        remarks.append(_not_read(path.name, error.strerror or str(error)))
        return None
    if len(data) > MOST_BYTES:
        remarks.append(_not_read(path.name, f"it is larger than {MOST_BYTES:,} bytes"))
        return None
    return data


def _not_read(name: str, why: str) -> Remark:
    return Remark("not-read", f"{name} beside the source was not read: {why}.", (name,))


def _read_config(
    data: bytes, config: DenseNetConfig, remarks: list[Remark]
) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """Returns the names of the classes and the fields of ``pretrained_cfg`` that a config.json tells."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        remarks.append(_not_read(FILE_NAME, "it holds no JSON"))
        return None, {}
    if not isinstance(content, dict) or not _is_of_densenet(content):
        remarks.append(_not_read(FILE_NAME, "it tells of no DenseNet of timm or transformers"))
        return None, {}
    names = _labels_in(content)
    if names is not None and len(names) != config.num_classes:
        why = f"it names {len(names):,} classes, and the network has {config.num_classes:,}"
        remarks.append(Remark("not-read", f"The labels in {FILE_NAME} were not read: {why}.", (FILE_NAME,)))
        names = None
    preprocessing = dict(_preprocessing_in(content, config, remarks))
    return names, preprocessing


def _is_of_densenet(content: Mapping[str, Any]) -> bool:
    """Whether timm's or transformers' word for the architecture is a DenseNet's."""
    architectures = content.get("architectures")
    words = [content.get("architecture"), content.get("model_type")]
    words += architectures if isinstance(architectures, list) else []
    return any(isinstance(word, str) and word.lower().startswith("densenet") for word in words)


def _labels_in(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns timm's ``label_names`` or transformers' ``id2label``; None where they name nothing."""
    fields = content.get("pretrained_cfg")
    held = content.get("label_names") or (fields.get("label_names") if isinstance(fields, dict) else None)
    numbered = content.get("id2label")
    if not held and isinstance(numbered, dict):
        held = [numbered.get(str(i)) for i in range(len(numbered))]
    if not isinstance(held, list) or not all(map(is_label, held)):
        return None
    return None if all(map(UNNAMED.fullmatch, held)) else tuple(held)


def _preprocessing_in(
    content: Mapping[str, Any], config: DenseNetConfig, remarks: list[Remark]
) -> Iterator[tuple[str, Any]]:
    """Yields the fields of ``pretrained_cfg``, which older files of timm have at their top."""
    fields = content.get("pretrained_cfg")
    fields = fields if isinstance(fields, dict) else content
    for name, is_sound in SOUND.items():
        value = fields.get(name)
        if value is None or (config.spatial_dims != 2 and name not in SAID_OF_VOLUMES):
            continue
        if is_sound(value, config):
            yield name, value
        else:
            shown = quoted(repr(value), 60)
            text = f"{name} in {FILE_NAME} beside the source was not read: it is {shown}."
            remarks.append(Remark("not-read", text, (FILE_NAME,)))


def _read_card(path: Path, remarks: list[Remark]) -> dict[str, Any]:
    """Returns the fields that a model card tells; one that can't be read tells none."""
    try:
        found, named = card_fields_of(path), license_of(path)
    except ConvertError:
        return {}
    if named and "license" not in found:
        why = f"it is {quoted(repr(named), 60)}, and the Hub's list has no such identifier"
        remarks.append(Remark("not-read", f"The license in {CARD} was not read: {why}.", (CARD,)))
    return found
