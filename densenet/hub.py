"""Networks from a folder or from the Hugging Face Hub, and back to a folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from .blank import SkipInit
from .config_file import FILE_NAME, WEIGHTS, config_from_file, config_json

if TYPE_CHECKING:
    from .config import DenseNetConfig

Network = TypeVar("Network", bound=torch.nn.Module)


def from_pretrained(
    network: Callable[[DenseNetConfig], Network],
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Network:
    """Does what ``DenseNet.from_pretrained`` says; ``network`` is the class that was asked."""
    from safetensors.torch import load_file

    folder = Path(source)
    if not folder.is_dir():
        folder = _fetch(os.fspath(source), revision, token)
    elif revision is not None:
        raise ValueError(f"{folder} is a folder, and has no revision {revision!r}.")
    content = json.loads((folder / FILE_NAME).read_bytes())
    tensors = load_file(folder / WEIGHTS)
    config = config_from_file(content, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    with torch.device("meta"), SkipInit():
        model = network(config)
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval()


def save_pretrained(model: torch.nn.Module, config: DenseNetConfig, folder: str | os.PathLike[str]) -> None:
    """Does what ``DenseNet.save_pretrained`` says."""
    from safetensors.torch import save_file

    path = Path(folder)
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    content = config_json(config)
    config_from_file(content, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    path.mkdir(parents=True, exist_ok=True)
    (path / FILE_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
    # safetensors makes its file private to the user.
    shutil.copymode(path / FILE_NAME, path / WEIGHTS)


def _fetch(name: str, revision: str | None, token: str | bool | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        # One call, so that both files are of one commit.
        folder = snapshot_download(name, revision=revision, token=token, allow_patterns=[FILE_NAME, WEIGHTS])
    except HFValidationError as error:
        raise FileNotFoundError(
            f"{name} is no folder here, and no name of a repository on the Hub, USER/NAME: {error}"
        ) from error
    return Path(folder)
