"""Reads the tensors of ``.pt2`` archives of ``torch.export``, as data: their program is never run.

Since torch 2.8 each weight is a record of raw elements, which a record of JSON describes; before, the state
dict is a file of ``torch.save`` within the zip.

Sources of the layout: ``torch/export/pt2_archive`` and ``torch/_export/serde/schema.py`` of torch 2.14,
``torch/export/__init__.py`` of torch 2.6.
"""

from __future__ import annotations

import json
from typing import Any

from .archive import Archive
from .raw import RawTensor, Storage
from .stand_ins import Dict
from .untrusted import Budget, FormatError, shown

WEIGHTS, CONFIG = "data/weights/", "data/weights/model_weights_config.json"
OLD_STATE = "serialized_state_dict.pt"
# Text of JSON takes up to twenty times its length in memory.
LONGEST_CONFIG, COST = 4 << 20, 20
# The numbers of ScalarType.
DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
}
SAVE_AGAIN = "Save the state_dict() of the module that it was exported from."


def is_export(archive: Archive) -> bool:
    """Whether a zip is what ``torch.export.save`` writes."""
    folder = _folder(archive)
    return OLD_STATE in archive.records or f"{folder}{CONFIG}" in archive.records


def old_state(archive: Archive) -> memoryview | None:
    """The file within that holds the state dict, up to torch 2.7; None in later archives."""
    return archive.read(OLD_STATE) if OLD_STATE in archive.records else None


def read_export(archive: Archive, budget: Budget) -> Dict:
    """The tensors, views of the file, by name.

    Raises:
        FormatError: a record is missing, damaged or not what is said of it.
    """
    folder = _folder(archive)
    text = archive.read(f"{folder}{CONFIG}")
    if len(text) > LONGEST_CONFIG:
        raise FormatError(f"its weights are described by {len(text):,} bytes", SAVE_AGAIN)
    budget.take(COST * len(text))
    try:
        entries = json.loads(bytes(text).decode())["config"].items()
        described = [(name, _describe(name, fields)) for name, fields in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError("its weights are described in a way that is not known here", SAVE_AGAIN) from error
    storages: dict[str, Storage] = {}
    state = Dict()
    for name, (record, dtype, shape, strides, offset) in described:
        if record not in storages:
            path = f"{folder}{WEIGHTS}{record}"
            if path not in archive.records:
                raise FormatError(f"its record {shown(record)} is missing")
            content = archive.read(path)
            storages[record] = Storage(record[:99], None, len(content), content)
        state.add(name, RawTensor(dtype, shape, strides, storages[record], offset))
    for name in archive.records:
        archive.read(name)  # for its sum
    return state


def _describe(name: str, fields: Any) -> tuple[str, str, tuple[int, ...], tuple[int, ...], int]:
    """Returns a tensor's record, dtype, shape, strides and offset."""
    meta = fields["tensor_meta"]
    if fields["use_pickle"] or meta["dtype"] not in DTYPES:
        raise FormatError(f"its tensor {shown(name)} is pickled, or of a dtype that is not known", SAVE_AGAIN)
    shape, strides = (tuple(side["as_int"] for side in meta[field]) for field in ("sizes", "strides"))
    return fields["path_name"], DTYPES[meta["dtype"]], shape, strides, meta["storage_offset"]["as_int"]


def _folder(archive: Archive) -> str:
    first = next(iter(archive.records), "")
    return first[: first.find("/") + 1]
