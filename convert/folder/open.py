"""Opens a converted folder, once its files and its receipt agree."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import config_file

from ..errors import FolderError, first_few
from ..formats.safetensors import Entry, read_data, read_header
from ..records import MULTI_LABEL, ORIGIN_FILE, ORIGIN_IMAGENET, ORIGIN_MEMORY, ORIGIN_RANDOM
from ..tensors import announce_torch
from . import receipt
from .files import (
    CARD,
    FILE_NAMES,
    FILES,
    GOLDEN,
    METADATA,
    SIGNATURE_FILES,
    WEIGHTS,
    file_digests,
    file_sha256,
)
from .others import require_ours_taken
from .records import Written

if TYPE_CHECKING:
    from torch import Tensor


def open_folder(folder: Path) -> Written:
    """Opens a folder that this converter wrote, once every byte of it agrees with its receipt; without torch.

    Other files may lie beside ours: ``others.uncovered`` names them.

    Raises:
        FolderError: a file is missing or was changed, or the receipt was, or what lies beside them would be
            taken for one of ours.
    """
    with _naming(folder):
        if not folder.is_dir():
            raise FolderError("this is no folder. Name one that densenet-convert wrote.")
        _require_regular_files(folder)
        content = _read_receipt(folder)
        require_ours_taken("this", [path.name for path in folder.iterdir()], content, folder)
        problems = _disagreements(folder, content)
    if problems:
        raise FolderError(
            f"{folder} disagrees with its {receipt.FILE_NAME}: {first_few(problems)}. "
            "Convert again, or get the folder again from where it came from."
        )
    return Written(folder, content)


def read_receipt(folder: Path) -> dict[str, Any]:
    """Returns a folder's receipt, which was not changed; no other file is looked at.

    Raises:
        FolderError: it is missing, was changed or has not the form of one.
    """
    with _naming(folder):
        return _read_receipt(folder)


def _read_receipt(folder: Path) -> dict[str, Any]:
    content = receipt.unseal((folder / receipt.FILE_NAME).read_bytes().decode())
    _require_fields(content)
    return content


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Whatever is raised in the block becomes a FolderError that names the folder or its receipt."""
    path = folder / receipt.FILE_NAME
    try:
        yield
    except FileNotFoundError as error:
        raise FolderError(f"{error.filename} is missing. Convert again, or get the whole folder.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f"{path} can't be read: {error}.") from error
    except FolderError as error:
        raise FolderError(f"{folder}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise FolderError(f"{path} lacks a field, or has one of another type: {error!r}.") from error


def label_names(written: Written) -> list[str] | None:
    """Returns the names of the classes that a folder's config.json has; None where it has none of ours."""
    if not written.receipt["labels"]["sha256"]:
        return None
    content = json.loads((written.folder / config_file.FILE_NAME).read_bytes())
    return list(content["label_names"])


def read_golden(written: Written) -> dict[str, Tensor] | None:
    """The golden outputs of a folder; None where it has none."""
    if GOLDEN not in file_digests(written.receipt):
        return None
    return dict(read_tensors(written.folder / GOLDEN))


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yields name and tensor of a file of ours, one after the other.

    Raises:
        FolderError: it is no safetensors file, or holds other metadata than ours.
    """
    announce_torch()
    import torch

    for entry, data in _read_bytes(path):
        dtype = getattr(torch, entry.dtype)
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        yield entry.name, flat.reshape(entry.shape)


def _read_bytes(path: Path) -> Iterator[tuple[Entry, bytearray]]:
    """Yields each tensor's name, dtype and shape, and its bytes; the errors are those of ``read_tensors``."""
    try:
        with path.open("rb") as file:
            header = read_header(file, path.stat().st_size)
            if header.metadata != METADATA:
                raise FolderError(f"{path} has metadata {header.metadata}, expected {METADATA}.")
            yield from read_data(file, header)
    except ValueError as error:
        raise FolderError(f"{path} is no sound safetensors file: {error}") from error


def _require_regular_files(folder: Path) -> None:
    """A pipe of one of these names would be waited for without end."""
    for name in (*FILE_NAMES, *SIGNATURE_FILES):
        path = folder / name
        if path.exists() and not path.is_file():
            raise FolderError(f"{name} is no regular file. Get the folder from where it came from.")


def _require_fields(content: dict[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError if a receipt has not the form of one."""
    for field in ("config", "converter", "dropped", "labels", "verification"):
        content[field]
    for field in ("preprocessing", "preprocessing_origin", "card"):
        dict(content[field])
    _require_claims(content)
    counted, expected = set(content["files"]), set(FILES)
    # A conversion that was added to somebody's repository may have their config.json beside it.
    if counted != expected and not ("added_to" in content and counted == {WEIGHTS}):
        raise ValueError(f"files are {sorted(counted)}, expected {sorted(expected)}")
    if not set(content["verification"].get("files", {})) <= {GOLDEN, CARD}:
        raise ValueError(
            f"files are {sorted(file_digests(content))}, expected {GOLDEN} and {CARD} beside them"
        )
    _require_source(content["source"])
    for step in content["rewrites"]:
        if not all(isinstance(step[field], str) for field in ("step", "name", "sha256")):
            raise TypeError(f"a rewrite is {step!r}")
        if not all(isinstance(one["source_name"], str) for one in step["sources"]):
            raise TypeError(f"the sources of a rewrite are {step['sources']!r}")
        if not isinstance(step.get("transform"), dict | None):
            raise TypeError(f"the transform of a rewrite is {step['transform']!r}")
    for entry in content["dropped"]:
        if not isinstance(entry["source_name"], str):
            raise TypeError(f"the name of what was dropped is {entry['source_name']!r}")
    for entry in content["tensors"]:
        _require_tensor(entry)


def _require_claims(content: dict[str, Any]) -> None:
    """Raises as ``_require_fields`` does, if an assumption, a remark or a digest has not its form."""
    for one in content["assumptions"] or []:
        if not all(isinstance(one[field], str) for field in ("what", "because", "settled_by")):
            raise TypeError(f"an assumption is {one!r}")
    for one in content["remarks"]:
        names = one.get("names", [])
        if not all(isinstance(text, str) for text in (one["kind"], one["text"], *names)):
            raise TypeError(f"a remark is {one!r}")
    for name, digest in content["beside"].items():
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(f"sha256 of {name!r}, beside the source, is {digest!r}")


def _require_source(source: dict[str, Any]) -> None:
    """Raises as ``_require_fields`` does, if what is said of the source has not its form."""
    for field in ("sha256", "format", "layout", "prefix"):
        if not isinstance(source[field], str):
            raise TypeError(f"{field} of the source is {source[field]!r}")
    if not re.fullmatch("[0-9a-f]{64}", source["sha256"]):
        raise ValueError(f"sha256 of the source is {source['sha256']!r}")
    origins = (ORIGIN_IMAGENET, ORIGIN_RANDOM, ORIGIN_FILE, ORIGIN_MEMORY)
    if type(source["size"]) is not int or source["origin"] not in origins:
        raise ValueError(f"size and origin of the source are {source['size']!r} and {source['origin']!r}")
    if not isinstance(source["norm_eps"], float | None):
        raise TypeError(f"norm_eps of the source is {source['norm_eps']!r}")
    if (source["origin"] == ORIGIN_RANDOM) != (type(source["seed"]) is int):
        raise ValueError(f"origin and seed are {source['origin']!r} and {source['seed']!r}")


def _require_tensor(entry: dict[str, Any]) -> None:
    """Raises as ``_require_fields`` does, if what is said of a tensor has not its form."""
    if not isinstance(entry["name"], str) or not isinstance(entry["source_name"], str | None):
        raise TypeError(f"the names of a tensor are {entry['name']!r} and {entry['source_name']!r}")
    axes = receipt.axes_from(entry["transform"])
    if axes is not None and sorted(axes) != list(range(len(entry["shape"]))):
        raise ValueError(f"the axes of {entry['name']!r} are {axes!r}")


def _disagreements(folder: Path, content: dict[str, Any]) -> list[str]:
    present = {path.name for path in folder.iterdir()} - {CARD}
    expected = {name: digest for name, digest in file_digests(content).items() if name != CARD}
    problems = [f"{name} is missing" for name in expected if name not in present]
    if GOLDEN in present - expected.keys():
        problems.append(f"{GOLDEN} was added")
    for name in [name for name in expected if name in present]:
        found = file_sha256(folder / name)
        if found != expected[name]:
            problems.append(f"{name} was changed (SHA-256 {found}, expected {expected[name]})")
    if problems:
        return problems
    problems = _other_tensors(folder / WEIGHTS, content)
    return problems + (_other_config(folder, content) if config_file.FILE_NAME in expected else [])


def _other_tensors(path: Path, content: dict[str, Any]) -> list[str]:
    tensors = {
        entry.name: {
            "shape": list(entry.shape),
            "dtype": entry.dtype,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for entry, data in _read_bytes(path)
    }
    entries = {entry["name"]: entry for entry in content["tensors"]}
    problems = [f"tensor {name} is not in {WEIGHTS}" for name in entries if name not in tensors]
    problems += [f"tensor {name} is not in the receipt" for name in tensors if name not in entries]
    for name in [name for name in tensors if name in entries]:
        problems += [
            f"tensor {name} has {field} {value}, expected {entries[name][field]}"
            for field, value in tensors[name].items()
            if entries[name][field] != value
        ]
    return problems


def _other_config(folder: Path, content: dict[str, Any]) -> list[str]:
    found = json.loads((folder / config_file.FILE_NAME).read_bytes())
    config, labels = receipt.config_from(content["config"]), content["labels"]
    names = found.get("label_names") if labels["sha256"] else None
    if labels["problem_type"] not in (None, MULTI_LABEL):
        return [f"{receipt.FILE_NAME} has problem_type {labels['problem_type']!r}"]
    if isinstance(names, list) and not (
        len(names) == config.num_classes and all(isinstance(name, str) for name in names)
    ):
        return [f"{config_file.FILE_NAME} has no label_names of {config.num_classes} classes"]
    claims = (names, labels["problem_type"], content["preprocessing"])
    expected = json.loads(json.dumps(config_file.config_json(config, *claims)))
    if expected["architecture"] == config_file.OTHER and "architecture" not in found:
        del expected["architecture"]  # as folders with a receipt of version 1 have it
    problems = [f"{config_file.FILE_NAME} has {difference}" for difference in _differences(found, expected)]
    if labels["sha256"] and not (
        isinstance(names, list) and receipt.labels_sha256(names) == labels["sha256"]
    ):
        problems.append(f"{config_file.FILE_NAME} has other label_names than the receipt names")
    return problems


def _differences(found: dict[str, Any], expected: dict[str, Any], path: str = "") -> Iterator[str]:
    """``"pretrained_cfg.interpolation bicubic, expected bilinear"`` for each field that differs."""
    for name in sorted({*found, *expected}):
        a, b = found.get(name), expected.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{path}{name}.")
        elif a != b:
            yield f"{path}{name} {a}, expected {b}"
