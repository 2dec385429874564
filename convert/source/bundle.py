"""Reads the metadata of a MONAI bundle: labels and the size of inputs, where they are those of its network.

Source: ``docs/source/mb_specification.rst`` of MONAI 1.6, the fields of ``network_data_format``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densenet_convert.densenet import DenseNetConfig

from ..claims import Remark
from ..folder.preprocessing import SOUND
from ..formats.class_names import by_number

WEIGHTS_FOLDER, NAME = "models", "configs/metadata.json"
# What bundles call a classifier's input and output; another name is taken if it is the only one.
INPUT, OUTPUT = "image", "pred"


def metadata_of(folder: Path) -> Path | None:
    """Returns the metadata of the bundle whose weights lie in a folder; None where that is no bundle's."""
    # The folder may be the working one, and have no name.
    return folder.parent / NAME if folder.resolve().name == WEIGHTS_FOLDER else None


def read_metadata(
    data: bytes, config: DenseNetConfig, remarks: list[Remark]
) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """Returns the names of the classes and the fields of ``pretrained_cfg`` that a bundle's metadata tell.

    Args:
        data: of the file.
        config: the network's hyperparameters; what contradicts them is not taken.
        remarks: to which a remark is added on what is not taken.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        remarks.append(
            Remark("not-read", f"{NAME} beside the source was not read: it holds no JSON.", (NAME,))
        )
        return None, {}
    formats = _field(content, "network_data_format")
    names = _labels_in(_only(_field(formats, "outputs"), OUTPUT), config, remarks)
    return names, _size_in(_only(_field(formats, "inputs"), INPUT), config, remarks)


def _labels_in(
    output: Mapping[str, Any], config: DenseNetConfig, remarks: list[Remark]
) -> tuple[str, ...] | None:
    named = list(_field(output, "channel_def").items())
    names = by_number(named) if config.num_classes else None
    if names is None:
        return None
    counts = {count for count in (output.get("num_channels"), len(names)) if type(count) is int}
    if other := sorted(counts - {config.num_classes}):
        why = f"they are of {other[0]:,} outputs, and the network has {config.num_classes:,}"
        remarks.append(_not_read("labels", why))
        return None
    return names


def _size_in(given: Mapping[str, Any], config: DenseNetConfig, remarks: list[Remark]) -> dict[str, Any]:
    channels, sides = given.get("num_channels"), given.get("spatial_shape")
    if type(channels) is int and channels != config.in_channels:
        why = f"they are of {channels:,} channels, and the network takes {config.in_channels:,}"
        remarks.append(_not_read("inputs", why))
        return {}
    if isinstance(sides, list) and sides and len(sides) != config.spatial_dims:
        why = f"they have {len(sides)} sides, and the network's {config.spatial_dims}"
        remarks.append(_not_read("inputs", why))
        return {}
    # A side may be a condition, such as "16*n", and is then none that is known.
    size = [config.in_channels, *sides] if isinstance(sides, list) else None
    return {"input_size": size} if SOUND["input_size"](size, config) else {}


def _not_read(what: str, why: str) -> Remark:
    return Remark("not-read", f"The {what} in {NAME} were not read: {why}.", (NAME,))


def _field(content: Any, name: str) -> Mapping[str, Any]:
    """Returns an object in an object, which is empty where there is none."""
    found = content.get(name) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def _only(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns the entry of this name, or the only one."""
    return _field(fields, next(iter(fields)) if len(fields) == 1 else name)
