"""Compares somebody else's config.json with the network that it lies beside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densenet_convert.densenet import DenseNetConfig, architecture_of
from densenet_convert.densenet.config_file import OTHER, OWN_FIELDS, as_json

from ..errors import quoted

# By which transformers loads a DenseNet: through timm, or by code of the repository's own.
MODEL_TYPES = ("timm_wrapper", "densenet")


def contradictions(path: Path, config: DenseNetConfig) -> list[str]:
    """Returns what a config.json says otherwise than the network is; to say nothing is no contradiction.

    timm's fields are read, those of transformers and our own.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return ["it holds no JSON"]
    if not isinstance(content, dict):
        return ["it holds no object"]
    compared = {**dict(_counted(content, config)), **dict(_own_fields(content, config))}
    differing = [
        f"{name} is {quoted(str(found), 60)}, expected {expected}"
        for name, (found, expected) in compared.items()
        if found != expected
    ]
    return [*_of_another_kind(content), *_of_another_size(content, config), *differing]


def _of_another_kind(content: Mapping[str, Any]) -> Iterator[str]:
    """Yields what transformers is told, where that is no DenseNet."""
    kind = content.get("model_type")
    if kind is not None and kind not in MODEL_TYPES:
        yield f"model_type is {quoted(str(kind), 60)}, expected one of a DenseNet"
    classes = content.get("architectures")
    for name in classes if isinstance(classes, list) else []:
        if not str(name).lower().startswith(("densenet", "timmwrapper")):
            yield f"architectures has {quoted(str(name), 60)}, expected one of a DenseNet"


def _of_another_size(content: Mapping[str, Any], config: DenseNetConfig) -> Iterator[str]:
    """Yields what timm is told to build, where that is another network."""
    said = content.get("architecture")
    if not isinstance(said, str) or said == OTHER:
        return
    expected = architecture_of(config)
    if said.split(".")[0].removeprefix("tv_") != expected:
        yield (
            f"architecture is {quoted(said, 60)}, expected "
            f"{expected or f'none, for timm has no such network: {json.dumps(as_json(config))}'}"
        )
    arguments = content.get("model_args")
    channels = arguments.get("in_chans", 3) if isinstance(arguments, dict) else 3
    if channels != config.in_channels:
        yield f"model_args.in_chans is {quoted(str(channels), 60)}, expected {config.in_channels}"


def _counted(content: Mapping[str, Any], config: DenseNetConfig) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yields the numbers of classes, features and channels that are said, each with the network's."""
    fields = content.get("pretrained_cfg")
    holders = {"": content, "pretrained_cfg.": fields if isinstance(fields, dict) else {}}
    for prefix, holder in holders.items():
        for name in ("num_classes", "num_labels"):
            if type(holder.get(name)) is int:
                yield f"{prefix}{name}", (holder[name], config.num_classes)
        for name in ("id2label", "label_names"):
            if isinstance(holder.get(name), dict | list):
                yield f"the number of {prefix}{name}", (len(holder[name]), config.num_classes)
        size = holder.get("input_size")
        if isinstance(size, list) and len(size) == 3:
            yield f"{prefix}input_size[0]", (size[0], config.in_channels)
    if type(content.get("num_features")) is int:
        yield "num_features", (content["num_features"], config.num_features)


def _own_fields(content: Mapping[str, Any], config: DenseNetConfig) -> Iterator[tuple[str, tuple[Any, Any]]]:
    known = {"final_relu": True, **as_json(config)}
    for name in (*OWN_FIELDS, "final_relu"):
        if name in content:
            yield name, (content[name], known[name])
