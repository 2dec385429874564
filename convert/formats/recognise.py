"""Which format a file is in, by its content and never by its name, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .archive import MAGIC as ZIP_MAGIC
from .archive import Archive
from .class_names import Names as ClassNames
from .class_names import find_class_names
from .foreign import refuse_by_fields, refuse_by_magic, refuse_by_name, refuse_joblib
from .gzip_files import MAGIC as GZIP_MAGIC
from .gzip_files import UNPACK, unpack
from .keras import is_hdf5, is_keras, read_hdf5, read_keras
from .modules import Layers
from .numpy_files import MAGIC as NUMPY_MAGIC
from .numpy_files import is_npz, read_npy, read_npz
from .objects import is_harmless
from .plain_pickle import read_first_pickle, without_paddle_names
from .raw import RawTensor, Whole
from .safetensors import looks_like_safetensors, read_safetensors
from .state_dict import find_state_dict, scalars
from .torch_export import is_export, old_state, read_export
from .torch_legacy import MAGIC_NUMBER, read_legacy
from .torch_script import is_script, script_state
from .torch_tar import MAGIC as TAR_MAGIC
from .torch_tar import MAGIC_AT as TAR_MAGIC_AT
from .torch_tar import read_tar
from .torch_zip import read_zip
from .trailing_digest import without_digest
from .unpickle import Names
from .untrusted import MALFORMED, Budget, FormatError, SeveralError

# Endings of checkpoints' names: for choosing among files, never for telling a format.
SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".dat", ".safetensors", ".h5", ".keras")
KNOWN = "Expected a file that torch.save, pickle.dump, safetensors, numpy or Keras wrote."
PICKLE_MAGIC = 0x80


@dataclass(frozen=True)
class Content:
    """The content of a file.

    Attributes:
        format: ``"torch-zip"``, ``"torch-legacy"``, ``"torch-tar"``, ``"torchscript"``, ``"pt2"``,
            ``"pickle"``, ``"safetensors"``, ``"npz"``, ``"npy"``, ``"keras-h5"`` or ``"keras"``; that of what
            a gzip file holds.
        container: the keys that lead to the state dict, joined by dots; None for the file's own object.
        tensors: the state dict.
        metadata: what the file says beside it, in words and numbers.
        names: what its pickles want to import; nothing of it was.
        calls: what of it they would call, beyond what makes a value; nothing of it was.
        layers: what the file tells of the layers that hold the tensors; empty for a state dict.
        labels: names of the classes that it holds, by the keys that lead to them.
    """

    format: str
    container: str | None
    tensors: dict[str, RawTensor]
    metadata: dict[str, Any]
    names: tuple[str, ...]
    calls: tuple[str, ...]
    layers: Layers
    labels: dict[str, ClassNames]


def read_content(data: Whole, key: str | None = None, name: str = "") -> Content:
    """Returns the content of ``data``, a whole file; its tensors are views of it where they can be.

    Args:
        data: the file's bytes.
        key: see ``find_state_dict``.
        name: what the file is called, which tells a shard of another library's where the bytes do not.

    Raises:
        FormatError: it is in no known format, or not sound.
    """
    try:
        return _read_whole(data, key, name)
    except SeveralError:
        raise
    except FormatError:
        if (shorter := without_digest(data, Budget(len(data)))) is None:
            raise
    return _read_whole(shorter, key, name)


def _read_whole(data: Whole, key: str | None, name: str) -> Content:
    names: Names = {}
    layers: Layers = {}
    try:
        refuse_by_name(name)
        budget = Budget(len(data))
        format_name, root, metadata = _read(data, budget, names, layers)
        container, tensors, declared = find_state_dict(root, budget, key)
        labels = find_class_names(root, budget)
    except FormatError:
        raise
    except MALFORMED as error:
        raise FormatError("its parts do not have the form that they should have") from error
    metadata = {**scalars(root), **metadata}
    called = [name for name, is_called in names.items() if is_called]
    calls = tuple(str(name) for name in called if not is_harmless(name))
    known = tuple(map(str, names))
    return Content(format_name, container, tensors, metadata, known, calls, layers or declared, labels)


def _read(
    data: Whole, budget: Budget, names: Names, layers: Layers, *, packed: bool = False
) -> tuple[str, Any, dict[str, Any]]:
    """The format's name, the file's object, and metadata; Keras' layers are put into ``layers``."""
    head = bytes(data[: TAR_MAGIC_AT + len(TAR_MAGIC)])
    if is_hdf5(data):
        return "keras-h5", read_hdf5(data, budget, layers), {}
    if head.startswith(ZIP_MAGIC):
        return *_read_archive(Archive(data, budget), budget, names, layers), {}
    if head[TAR_MAGIC_AT:] == TAR_MAGIC:
        return "torch-tar", read_tar(data, budget, names), {}
    if looks_like_safetensors(data):
        return "safetensors", *read_safetensors(data)
    if head.startswith(GZIP_MAGIC):
        if packed:
            raise FormatError("it is a gzip file within another", UNPACK)
        return _read(unpack(data, budget), budget, names, layers, packed=True)
    if head.startswith(NUMPY_MAGIC):
        return "npy", read_npy(data, budget, names), {}
    refuse_by_magic(data)
    return *_read_pickles(data, budget, names), {}


def _read_archive(archive: Archive, budget: Budget, names: Names, layers: Layers) -> tuple[str, Any]:
    """The format of a zip, and its object."""
    if is_keras(archive):
        return "keras", read_keras(archive, budget, layers)
    if is_npz(archive):
        return "npz", read_npz(archive, budget, names)
    if is_export(archive):
        state = old_state(archive)
        if state is None:
            return "pt2", read_export(archive, budget)
        budget.take(len(state))
        return "pt2", read_zip(Archive(bytes(state), budget), budget, names)
    root = read_zip(archive, budget, names)
    if is_script(archive):
        return "torchscript", script_state(root, budget)
    return "torch-zip", root


def _read_pickles(data: Whole, budget: Budget, names: Names) -> tuple[str, Any]:
    try:
        value, end = read_first_pickle(data, budget, names)
    except FormatError as error:
        refuse_joblib(names)
        if data[0] == PICKLE_MAGIC:
            raise
        refuse_by_fields(data)
        raise FormatError(f"it begins with {bytes(data[:8])!r}, as no checkpoint does", KNOWN) from error
    refuse_joblib(names)
    if value == MAGIC_NUMBER:
        return "torch-legacy", read_legacy(data, budget, names)
    if end != len(data):
        raise FormatError(f"its pickle goes on for {len(data) - end:,} bytes after its end")
    return "pickle", without_paddle_names(value, budget)
