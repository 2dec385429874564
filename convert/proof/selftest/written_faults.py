"""Faults of what is written, each done to a copy of a sound folder.

Where a fault is one of content, the receipt is made to agree with the file: then no digest
stands in for looking at what the file says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from densenet_convert.densenet import config_file

from ...folder import receipt
from ...folder.files import FILES
from .faults import IN_FILES, Fault

# Bytes of each file that are changed, one at a time.
BYTES = 16


def written_faults(folder: Path, seed: int = 0) -> Iterator[Fault]:
    """The catalogue for one folder.

    Args:
        folder: a sound one; the faults are for copies of it.
        seed: what places are drawn from.
    """
    random = Random(seed)
    files = (*FILES, receipt.FILE_NAME)
    for name in files:
        for _ in range(BYTES):
            spoil = _changing_a_byte(
                name, random.randrange((folder / name).stat().st_size), random.randrange(8)
            )
            yield _fault("a byte changed", spoil, name)
        yield _fault("a file missing", _removing(name), name)
        yield _fault("a file cut short", _cutting(name), name)
    for added in ("model.safetensors.index.json", "model-00001-of-00002.safetensors"):
        yield _fault("a file added", _adding(added), added)
    content = json.loads((folder / config_file.FILE_NAME).read_bytes())
    # Of volumes and signals config.json tells no pre-processing.
    for field, value in WRONG_PREPROCESSING if "pretrained_cfg" in content else ():
        yield _fault("wrong preprocessing", _telling(field, value), f"pretrained_cfg.{field}")
    yield _fault("labels permuted", _permuting_labels, "label_names")


def _fault(name: str, spoil: Callable[[Path], object], where: str) -> Fault:
    return Fault(name, IN_FILES, spoil, frozenset({where}))


# Fields of pretrained_cfg, and what others have in them.
WRONG_PREPROCESSING: tuple[tuple[str, Any], ...] = (
    ("interpolation", "bicubic"),  # timm's own for DenseNet
    ("interpolation", "nearest"),
    ("crop_pct", 0.9),
    ("crop_pct", 1.0),
    ("crop_mode", "squash"),
    ("input_size", [3, 256, 256]),
    ("mean", [0.5, 0.5, 0.5]),
    ("mean", [0.406, 0.456, 0.485]),  # as BGR
    ("mean", [0.0, 0.0, 0.0]),
    ("std", [0.5, 0.5, 0.5]),
    ("std", [0.225, 0.224, 0.229]),
    ("std", [1 / 255, 1 / 255, 1 / 255]),
)


def _changing_a_byte(name: str, offset: int, bit: int) -> Callable[[Path], object]:
    def spoil(copy: Path) -> None:
        content = bytearray((copy / name).read_bytes())
        content[offset] ^= 1 << bit
        (copy / name).write_bytes(content)

    return spoil


def _removing(name: str) -> Callable[[Path], object]:
    return lambda copy: (copy / name).unlink()


def _cutting(name: str) -> Callable[[Path], object]:
    return lambda copy: (copy / name).write_bytes((copy / name).read_bytes()[:-1])


def _adding(name: str) -> Callable[[Path], object]:
    return lambda copy: (copy / name).write_bytes(b"")


def _telling(field: str, value: object) -> Callable[[Path], object]:
    def spoil(copy: Path) -> None:
        config = json.loads((copy / config_file.FILE_NAME).read_bytes())
        config["pretrained_cfg"][field] = value
        _write_config(copy, config)

    return spoil


def _permuting_labels(copy: Path) -> None:
    config = json.loads((copy / config_file.FILE_NAME).read_bytes())
    labels = config.get("label_names") or [f"class {i}" for i in range(config["num_classes"])]
    config["label_names"] = labels[1:] + labels[:1]
    _write_config(copy, config)


def _write_config(copy: Path, config: dict[str, Any]) -> None:
    """Writes config.json, and a receipt that names its digest."""
    text = receipt.canonical_json(config).encode()
    (copy / config_file.FILE_NAME).write_bytes(text)
    path = copy / receipt.FILE_NAME
    content = receipt.unseal(path.read_bytes().decode())
    content["files"][config_file.FILE_NAME] = hashlib.sha256(text).hexdigest()
    path.write_bytes(receipt.seal(content).encode())
