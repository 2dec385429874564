"""Networks that are none of ours are named as what they are, and no DenseNet is taken for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from checkpoints import StateDict, checkpoint_of, in_names_of, save, state_dict_of

from densenet_convert.errors import ArchitectureError
from densenet_convert.layouts import BUILT_IN
from densenet_convert.layouts.network import identify_network
from densenet_convert.layouts.strangers import refuse_strangers
from densenet_convert.records import Options

STATE = state_dict_of()
WEIGHT = "features.conv0.weight"
LAST = "features.denseblock4.denselayer2.conv2.weight"


def without_statistics(state: StateDict) -> StateDict:
    return {name: tensor for name, tensor in state.items() if "running" not in name and "tracked" not in name}


def deep(state: StateDict) -> StateDict:
    steps = {f"features.conv{i}.weight": torch.rand(8, 8, 3, 3) for i in (1, 2)}
    return {**state, WEIGHT: torch.rand(8, 3, 3, 3), **steps}


DENSENETS = {
    "3x3 stem, as for small images": {**STATE, WEIGHT: torch.rand(8, 3, 3, 3)},
    "deep stem of three convolutions": deep(STATE),
    "in 3 dimensions under other names than MONAI's": {**STATE, WEIGHT: torch.rand(8, 3, 7, 7, 7)},
    "convolutions of 5x5 in its dense layers": {**STATE, LAST: torch.rand(4, 8, 5, 5)},
    "norms keep no running statistics": without_statistics(STATE),
}


@pytest.mark.parametrize("what", DENSENETS)
@pytest.mark.parametrize("prefix", ["", "module.", "_module.encoder.", "features._orig_mod."])
def test_a_densenet_of_another_kind_is_named(what: str, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in DENSENETS[what].items()}
    with pytest.raises(ArchitectureError, match=f"^This is a DenseNet .*{what}") as refused:
        identify_network(checkpoint_of(state), Options())
    assert "tampered" not in str(refused.value)


FAMILIES = {
    "resnet18": "a ResNet",
    "vgg11": "a VGG",
    "efficientnet_b0": "an EfficientNet",
    "mobilenet_v3_small": "an EfficientNet or a MobileNet",
    "convnext_tiny": "a ConvNeXt",
    "vit_b_16": "a vision transformer",
    "swin_t": "a Swin transformer",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_another_family_is_named(name: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(name).state_dict()
    under = {f"module.{one}": tensor for one, tensor in state.items()}
    with pytest.raises(ArchitectureError, match=f"^This is {FAMILIES[name]}"):
        identify_network(checkpoint_of(under), Options())


@pytest.mark.parametrize("layout", [one.name for one in BUILT_IN])
def test_no_densenet_is_a_stranger(layout: str) -> None:
    refuse_strangers(in_names_of(layout, STATE))


def test_another_network_of_volumes_is_not_taken_for_a_densenet() -> None:
    refuse_strangers({"net.conv0.weight": torch.rand(8, 1, 7, 7, 7), "net.head.weight": torch.rand(2, 8)})


def test_a_densenet_beside_a_stranger_is_still_found() -> None:
    resnet = {f"layer{i}.0.conv1.weight": torch.rand(4, 4, 3, 3) for i in (1, 4)}
    state = {f"teacher.{name}": tensor for name, tensor in in_names_of("mmpretrain", STATE).items()}
    state |= {f"student.{name}": tensor for name, tensor in resnet.items()}
    with pytest.raises(Exception, match="only='teacher"):
        identify_network(checkpoint_of(state), Options())
    both = {f"b.{name}": tensor for name, tensor in DENSENETS["3x3 stem, as for small images"].items()}
    refuse_strangers({**both, **{f"a.{name}": tensor for name, tensor in STATE.items()}})


CODE = """
import sys
from densenet_convert.cli import main
code = main(["file", *sys.argv[1:]], standalone_mode=False)
assert "torch" not in sys.modules
sys.exit(code)
"""


def test_they_are_named_before_torch_is_imported(tmp_path: Path) -> None:
    path = save(DENSENETS["3x3 stem, as for small images"], tmp_path / "stem.pth")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), "--output", str(tmp_path / "new")],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: This is a DenseNet with a 3x3 stem")
