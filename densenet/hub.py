"""Networks from a folder or from the Hugging Face Hub, and back to a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from .blank import NothingDrawn
from .config_file import FILE_NAME, config_file, config_from_file
from .model import DenseNet

WEIGHTS = "model.safetensors"


def from_pretrained(
    source: str | os.PathLike[str], *, revision: str | None = None, token: str | bool | None = None
) -> DenseNet:
    """Builds the network that config.json describes and loads model.safetensors strictly.

    Args:
        source: a folder, or the name of a repository on the Hub, ``"USER/NAME"``; what is a folder here is
            not looked for there.
        revision: branch, tag or commit of the repository.
        token: for a private repository; by default the environment's, or that of the login.

    Returns:
        The network in eval mode on the CPU, of the dtype that the file has.

    Raises:
        FileNotFoundError: a file is missing, or ``source`` is neither a folder nor a repository's name.
        ValueError: config.json describes no DenseNet.
        RuntimeError: a tensor is missing, unexpected or of another shape.
        huggingface_hub.errors.HfHubHTTPError: the Hub refuses; the exception says why.

    Examples:
        >>> model = DenseNet.from_pretrained("densenet121")
        >>> model.training, model.config.num_classes
        (False, 1000)
    """
    from safetensors.torch import load_file

    folder = Path(source)
    if not folder.is_dir():
        folder = _fetch(os.fspath(source), revision, token)
    elif revision is not None:
        raise ValueError(f"{folder} is a folder, and has no revision {revision!r}.")
    content = json.loads((folder / FILE_NAME).read_bytes())
    tensors = load_file(folder / WEIGHTS)
    config = config_from_file(content, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    with torch.device("meta"), NothingDrawn():
        model = DenseNet(config)
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval()


def save_pretrained(model: DenseNet, folder: str | os.PathLike[str]) -> None:
    """Writes config.json and model.safetensors, which ``from_pretrained``, timm and transformers load.

    Nothing is proven of what is written: densenet-convert converts and proves checkpoints.

    Args:
        folder: is created, with its parents; files of these names are replaced.
    """
    from safetensors.torch import save_file

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
    (path / FILE_NAME).write_text(json.dumps(config_file(model.config), indent=2) + "\n", encoding="utf-8")


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
