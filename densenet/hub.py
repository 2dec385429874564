"""Networks from a folder or from the Hugging Face Hub, and back to a folder."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from .blank import SkipInit
from .config_file import FILE_NAME, OTHER, WEIGHTS, Claimed, claimed_in, config_from_file, config_json

if TYPE_CHECKING:
    from .config import DenseNetConfig

Network = TypeVar("Network", bound=torch.nn.Module)

log = logging.getLogger("densenet_convert")
# Files that a conversion left beside the weights, and those of every repository or folder of the client.
RECEIPT = "conversion.json"
UNCOUNTED = (RECEIPT, "verification.intoto.json", "model.sig", ".gitattributes", ".cache")


def from_pretrained(
    network: Callable[[DenseNetConfig], Network],
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[Network, Claimed]:
    """Does what ``DenseNet.from_pretrained`` says; ``network`` is the class that was asked.

    Returns:
        The network, and what config.json says beside it.
    """
    from safetensors.torch import load_file

    folder = Path(source)
    if folder.is_dir() and revision is not None:
        raise ValueError(f"{folder} is a folder, and has no revision {revision!r}.")
    if folder.is_dir():
        names = [path.name for path in folder.iterdir()]
    else:
        folder, names = _fetch(os.fspath(source), revision, token)
    receipt = _receipt_in(folder)
    covered = () if receipt is None else _covered_by(receipt)
    if receipt is not None and (others := sorted({*names} - {*covered, *UNCOUNTED})):
        log.warning("%s: not covered by %s: %s", source, RECEIPT, ", ".join(map(ascii, others)))
    if receipt is None or FILE_NAME in covered:
        content = json.loads((folder / FILE_NAME).read_bytes())
    else:
        # The config.json is somebody else's, who may say less.
        said = receipt.get("preprocessing") or {}
        content = {**receipt["config"], **said, "pretrained_cfg": said}
    tensors = load_file(folder / WEIGHTS)
    config = config_from_file(content, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    with torch.device("meta"), SkipInit():
        model = network(config)
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval(), claimed_in(content, config)


def save_pretrained(
    model: torch.nn.Module, config: DenseNetConfig, claimed: Claimed | None, folder: str | os.PathLike[str]
) -> None:
    """Does what ``DenseNet.save_pretrained`` says; ``claimed`` is what was said of the network before."""
    from safetensors.torch import save_file

    path = Path(folder)
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    content = config_json(config) if claimed is None else claimed.said_of(config)
    config_from_file(content, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    path.mkdir(parents=True, exist_ok=True)
    # As a conversion writes it, so that a network that was not changed gives the same bytes.
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    (path / FILE_NAME).write_bytes(text.encode())
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
    # safetensors makes its file private to the user.
    shutil.copymode(path / FILE_NAME, path / WEIGHTS)


def _receipt_in(folder: Path) -> dict[str, Any] | None:
    """Returns the receipt of a conversion; None where there is none.  What it says is not proven again."""
    try:
        content = json.loads((folder / RECEIPT).read_bytes())
        known = content["converter"]["name"] == OTHER and isinstance(content["config"], dict)
        return content if known and _covered_by(content) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _covered_by(receipt: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the files whose digests a receipt has."""
    return *receipt["files"], *receipt["verification"].get("files", {})


def _fetch(name: str, revision: str | None, token: str | bool | None) -> tuple[Path, list[str]]:
    """Returns where the files are, and the names of all that the repository has, as far as that is known."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        # One call, so that all files are of one commit.
        files = [FILE_NAME, WEIGHTS, RECEIPT]
        folder = snapshot_download(name, revision=revision, token=token, allow_patterns=files)
    except HFValidationError as error:
        raise FileNotFoundError(
            f"{name} is no folder here, and no name of a repository on the Hub, USER/NAME: {error}"
        ) from error
    return Path(folder), _names_in(name, Path(folder), token)


def _names_in(name: str, folder: Path, token: str | bool | None) -> list[str]:
    """Returns all that a repository holds; nothing where the Hub is not asked, or fails."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE or not (folder / RECEIPT).exists():
        return []
    try:
        found = HfApi(token=token).model_info(name, revision=folder.name)
    except Exception:  # the network is loaded whatever the Hub's client raises now
        return []
    return [file.rfilename for file in found.siblings or ()]
