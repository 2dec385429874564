"""Which format a file is in, by its content and never by its name, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .archive import MAGIC as ZIP_MAGIC
from .archive import Archive
from .class_names import Names as ClassNames
from .class_names import find_class_names
from .keras import is_hdf5, is_keras, read_hdf5, read_keras
from .modules import Layers
from .objects import is_harmless
from .plain_pickle import read_first_pickle
from .raw import RawTensor, Whole
from .safetensors import looks_like_safetensors, read_safetensors
from .state_dict import find_state_dict, scalars
from .torch_legacy import MAGIC_NUMBER, read_legacy
from .torch_tar import MAGIC as TAR_MAGIC
from .torch_tar import MAGIC_AT as TAR_MAGIC_AT
from .torch_tar import read_tar
from .torch_zip import read_zip
from .unpickle import Names
from .untrusted import MALFORMED, Budget, FormatError

# What checkpoints' names end in: for choosing among files, never for telling a format.
SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".dat", ".safetensors", ".h5", ".keras")
# What is taken for a checkpoint, by how it begins, and what to do then.
FOREIGN = {
    b"\x1f\x8b": ("a gzip file", "Unpack it with gunzip."),
    b"BZh": ("a bzip2 file", "Unpack it with bunzip2."),
    b"\xfd7zXZ": ("an xz file", "Unpack it with unxz."),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "Unpack it with unzstd."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it."),
    b"Rar!": ("a rar archive", "Unpack it."),
    b"\x93NUMPY": ("one array of numpy", "Save all arrays in one dict, by name."),
    b"version https://git-lfs": ("a pointer of git LFS, not the file itself", "Run git lfs pull."),
    b"<": ("an HTML or XML page, not a checkpoint: a login or an error, perhaps", "Download it again."),
    b"{": (
        "JSON, not a checkpoint: an index of several files, or an error message",
        "Merge the files of an index into one, or download it again.",
    ),
}
KNOWN = "Expected a file that torch.save, pickle.dump, safetensors or Keras wrote."
PICKLE_MAGIC = 0x80


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        format: ``"torch-zip"``, ``"torch-legacy"``, ``"torch-tar"``, ``"pickle"``, ``"safetensors"``,
            ``"keras-h5"`` or ``"keras"``.
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


def read_content(data: Whole, key: str | None = None) -> Content:
    """What ``data``, the whole of a file, holds; its tensors are views of it where they can be.

    Raises:
        FormatError: it is in no known format, or not sound.
    """
    names: Names = {}
    layers: Layers = {}
    try:
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


def _read(data: Whole, budget: Budget, names: Names, layers: Layers) -> tuple[str, Any, dict[str, Any]]:
    """The format's name, the file's object, and metadata; Keras' layers are put into ``layers``."""
    head = bytes(data[: TAR_MAGIC_AT + len(TAR_MAGIC)])
    if is_hdf5(data):
        return "keras-h5", read_hdf5(data, budget, layers), {}
    if head.startswith(ZIP_MAGIC):
        archive = Archive(data, budget)
        if is_keras(archive):
            return "keras", read_keras(archive, budget, layers), {}
        return "torch-zip", read_zip(archive, budget, names), {}
    if head[TAR_MAGIC_AT:] == TAR_MAGIC:
        return "torch-tar", read_tar(data, budget, names), {}
    if looks_like_safetensors(data):
        return "safetensors", *read_safetensors(data)
    for magic, (kind, advice) in FOREIGN.items():
        if head.lstrip().startswith(magic):
            raise FormatError(f"it is {kind}", advice)
    return *_read_pickles(data, budget, names), {}


def _read_pickles(data: Whole, budget: Budget, names: Names) -> tuple[str, Any]:
    try:
        value, end = read_first_pickle(data, budget, names)
    except FormatError as error:
        if data[0] == PICKLE_MAGIC:
            raise
        raise FormatError(f"it begins with {bytes(data[:8])!r}, as no checkpoint does", KNOWN) from error
    if value == MAGIC_NUMBER:
        return "torch-legacy", read_legacy(data, budget, names)
    if end != len(data):
        raise FormatError(f"its pickle goes on for {len(data) - end:,} bytes after its end")
    return "pickle", value
