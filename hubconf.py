"""For ``torch.hub.load("densenet-convert/densenet-convert", "from_pretrained", "densenet169")`` and so on."""

from densenet import DenseNet as _DenseNet
from densenet import densenet121, densenet161, densenet169, densenet201

dependencies = ["torch", "safetensors", "huggingface_hub"]


def from_pretrained(source: str, **options: object) -> _DenseNet:
    """A converted folder, or USER/NAME on the Hugging Face Hub, as ``DenseNet.from_pretrained`` loads it."""
    return _DenseNet.from_pretrained(source, **options)


__all__ = ["densenet121", "densenet161", "densenet169", "densenet201", "from_pretrained"]
