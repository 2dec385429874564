"""The part of a card that tells how MONAI loads a network in one or three dimensions."""

from __future__ import annotations

from collections.abc import Iterator

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config_file import WEIGHTS

from .wording import other_function


def example_of_monai(config: DenseNetConfig, repo_id: str) -> Iterator[str]:
    """Yields the code that loads the weights into MONAI's own network, or why there is none."""
    other = other_function(config)
    if other or config.stem_bias:
        yield f"No other library has such a network{f': {other}' if other else ''}."
        return
    yield "```python\n" + "\n".join(_code(config, repo_id)) + "\n```"
    yield "timm, transformers and torchvision have no such network."


def _code(config: DenseNetConfig, repo_id: str) -> Iterator[str]:
    yield "import re"
    yield ""
    if not config.num_classes:
        yield "import torch"
    yield from (
        "from huggingface_hub import hf_hub_download",
        "from monai.networks.nets import DenseNet",
        "from safetensors.torch import load_file",
        "",
        "model = DenseNet(",
        f"    spatial_dims={config.spatial_dims},",
        f"    in_channels={config.in_channels},",
        f"    out_channels={config.num_classes or 1},",
        f"    init_features={config.num_init_features},",
        f"    growth_rate={config.growth_rate},",
        f"    block_config={config.block_config},",
        f"    bn_size={config.bn_size},",
        ")",
    )
    if not config.num_classes:
        yield "model.class_layers.out = torch.nn.Identity()"
    yield from (
        f'tensors = load_file(hf_hub_download("{repo_id}", "{WEIGHTS}"))',
        'names = {name: name.replace("classifier", "class_layers.out") for name in tensors}',
        r'names = {ours: re.sub(r"(denselayer\d+)", r"\1.layers", name) for ours, name in names.items()}',
        "model.load_state_dict({names[ours]: tensor for ours, tensor in tensors.items()})",
        "model.eval()",
    )
