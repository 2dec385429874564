"""Reads torch's format since 1.6: a zip of ``data.pkl`` and a record for each storage.

All lie in one folder of any name: ``data.pkl``, ``data/KEY`` for the elements of the
storage KEY, ``byteorder`` (little where it is absent), ``version`` and others.

Source of the layout: ``_load`` in ``torch/serialization.py``.
"""

from __future__ import annotations

from typing import Any

from .archive import Archive
from .foreign import foreign_folder
from .objects import storage_dtype
from .raw import Storage, declare
from .streams import Stream
from .unpickle import Names
from .untrusted import Budget, FormatError, shown

ORDERS = {b"little": False, b"big": True}


def read_zip(archive: Archive, budget: Budget, names: Names) -> Any:
    """The object, whose storages are views of the file where they are stored as they are.

    Raises:
        FormatError: a record is missing, left over or damaged, or disagrees with another.
    """
    folder = _folder(archive)
    storages: dict[str, Storage] = {}

    def load(identifier: Any) -> Storage:
        kind, storage_class, key, _, count = identifier
        if kind != "storage":
            raise FormatError(f"it refers to a {shown(kind)}, expected a storage")
        return declare(storages, key, storage_dtype(storage_class), count)

    stream = Stream(*archive.locate(f"{folder}/data.pkl"), budget, names)
    root = stream.load(load)
    stream.finish()
    _fill(storages, archive, folder)
    return root


def _folder(archive: Archive) -> str:
    folders = {name.partition("/")[0] for name in archive.records}
    folder = next(iter(folders), "")
    if found := foreign_folder({name.rpartition("/")[2] for name in archive.records}):
        raise FormatError(f"it is a zip of {found[0]}", found[1])
    if len(folders) != 1 or f"{folder}/data.pkl" not in archive.records:
        raise FormatError(
            "it is a zip, but not one that torch.save wrote: it hasn't one folder with a data.pkl",
            "Unpack it: the checkpoint may be within.",
        )
    return folder


def _fill(storages: dict[str, Storage], archive: Archive, folder: str) -> None:
    """Gives every storage its record, and checks the sums of all others."""
    prefix = f"{folder}/data/"
    found = {name.removeprefix(prefix) for name in archive.records if name.startswith(prefix)}
    if found != set(storages):
        odd = sorted(found ^ set(storages))
        raise FormatError(f"storage {odd[0][:99]!r} is {'not referred to' if odd[0] in found else 'missing'}")
    order = _byte_order(archive, folder)
    for name in archive.records:
        if name == f"{folder}/data.pkl":
            continue
        content = archive.read(name)
        if name.startswith(prefix):
            storage = storages[name.removeprefix(prefix)]
            if len(content) != storage.size:
                raise FormatError(
                    f"storage {storage.label} holds {len(content)} bytes, and {storage.size} are declared"
                )
            storage.data, storage.big_endian = content, order


def _byte_order(archive: Archive, folder: str) -> bool:
    """Whether the elements are big-endian."""
    name = f"{folder}/byteorder"
    order = bytes(archive.read(name)) if name in archive.records else b"little"
    if order not in ORDERS:
        raise FormatError(f"its byte order is {order[:20]!r}, expected one of {', '.join(map(repr, ORDERS))}")
    return ORDERS[order]
