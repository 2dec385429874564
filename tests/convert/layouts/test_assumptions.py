"""What a file does not tell of its network's function is said, with what would settle it."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from checkpoints import SMALL, save, state_dict_of
from torch import nn

import densenet_convert as dc
from densenet_convert.api.claims import make_claims
from densenet_convert.claims import Beside
from densenet_convert.errors import ArchitectureError, FolderError, LayoutError
from densenet_convert.folder.receipt import seal
from densenet_convert.layouts.network import identify_network
from densenet_convert.records import ORIGIN_IMAGENET, ORIGIN_RANDOM, Options
from densenet_convert.source.read import read_checkpoint

STEM = "the first convolution and the pooling behind it have stride 2"
ORDER = "in dense layers and transitions, norms, ReLUs, convolutions and average pooling take turns"
EPSILON = "the epsilon of every batch norm is 1e-05"
RELU = "a ReLU stands behind the last norm"
POOLING = "the last maps are averaged over all places"
BEFORE = "nothing that is left out stands before the features"


def torchvision_network() -> nn.Module:
    network: nn.Module = torchvision.models.DenseNet(4, (1, 2), 8, bn_size=2, num_classes=3)
    return network.eval()


class Own(nn.Module):
    """A class of the user's own, whose forward no file holds."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Pooling(nn.Module):
    """A power mean with a fixed exponent, which leaves no tensor."""


class MyFlatten(nn.Module):
    """Changes no number."""


def in_sequence(*, relu: bool = True) -> nn.Module:
    network = torchvision_network()
    parts: dict[str, nn.Module] = {"features": network.features, "relu": nn.ReLU()}
    if not relu:
        del parts["relu"]
    rest = {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "classifier": network.classifier}
    return nn.Sequential(OrderedDict(parts | rest))


def assumed(content: object, folder: Path, **options: object) -> list[str]:
    checkpoint = read_checkpoint(save(content, folder / "source.pth"))
    network = identify_network(checkpoint, Options(**options), source="x.pth")  # type: ignore[arg-type]
    return [one.what for one in network.assumptions]


def test_a_state_dict_tells_no_layer(tmp_path: Path) -> None:
    assert assumed(state_dict_of(), tmp_path) == [STEM, ORDER, EPSILON, RELU, POOLING]


def test_what_the_user_says_is_not_assumed(tmp_path: Path) -> None:
    assert RELU not in assumed(state_dict_of(), tmp_path, final_relu=True)


def test_of_features_of_something_larger_it_is_assumed_that_nothing_stands_before_them(
    tmp_path: Path,
) -> None:
    assert assumed(state_dict_of(), tmp_path, only="features.")[0] == BEFORE


@pytest.mark.parametrize("library", ["torchvision", "timm", "monai"])
def test_a_whole_network_of_a_library_settles_everything(library: str, tmp_path: Path) -> None:
    if library == "torchvision":
        network = torchvision_network()
    elif library == "timm":
        module = pytest.importorskip("timm.models.densenet", reason="timm is not installed")
        network = module.DenseNet(4, (1, 2), num_classes=3, bn_size=2)
    else:
        module = pytest.importorskip("monai.networks.nets.densenet", reason="MONAI is not installed")
        network = module.DenseNet(2, 3, 3, 8, 4, (1, 2), 2)
    assert assumed(network, tmp_path) == []
    assert assumed(Own(net=network), tmp_path) == []


def test_a_sequence_settles_what_stands_in_it(tmp_path: Path) -> None:
    assert assumed(in_sequence(), tmp_path) == []


def test_a_sequence_without_a_relu_is_a_network_without_it(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError) as caught:
        assumed(in_sequence(relu=False), tmp_path)
    assert str(caught.value).endswith("\ndc.convert('x.pth', final_relu=False)")
    assert assumed(in_sequence(relu=False), tmp_path, final_relu=False) == []
    with pytest.raises(ArchitectureError, match="relu is .*ReLU, expected global average pooling"):
        assumed(in_sequence(), tmp_path, final_relu=False)


def test_a_class_of_the_user_s_own_settles_no_function_that_its_forward_calls(tmp_path: Path) -> None:
    network = torchvision_network()
    own = Own(features=network.features, classifier=network.classifier)
    assert assumed(own, tmp_path) == [RELU, POOLING]
    with pytest.raises(LayoutError, match="`final_relu=True`;"):
        assumed(Own(base=network.features, classifier=network.classifier), tmp_path)


def test_nor_does_a_class_of_the_user_s_own_within_the_features(tmp_path: Path) -> None:
    network = torchvision_network()
    layer = network.features.denseblock1.denselayer1
    network.features.denseblock1.denselayer1 = Own(**dict(layer.named_children()))
    assert assumed(network, tmp_path) == [ORDER]


def test_a_layer_of_the_user_s_own_without_tensors_may_run_before_the_head(tmp_path: Path) -> None:
    network = torchvision_network()
    parts = {"features": network.features, "classifier": network.classifier}
    with pytest.raises(LayoutError, match=r"^pool \(\S+.Pooling\) may run with the network") as caught:
        assumed(Own(**parts, pool=Pooling()), tmp_path)
    assert str(caught.value).endswith("\ndc.convert('x.pth', only='features.')")
    assert assumed(Own(**parts, flat=MyFlatten()), tmp_path) == [RELU, POOLING]
    assert assumed(Own(net=network, metric=Pooling()), tmp_path) == []


def test_a_head_in_a_class_of_the_user_s_own_asks_for_the_relu(tmp_path: Path) -> None:
    network = torchvision_network()
    with pytest.raises(LayoutError, match="`final_relu=True`;"):
        assumed(Own(features=network.features, head=Own(fc=network.classifier)), tmp_path)
    in_order = nn.Sequential(nn.Dropout(), network.classifier)
    assert assumed(Own(features=network.features, head=in_order), tmp_path) == [RELU, POOLING]


@pytest.mark.parametrize("origin", [ORIGIN_IMAGENET, ORIGIN_RANDOM])
def test_of_weights_that_are_published_or_drawn_nothing_is_assumed(origin: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save(state_dict_of(), tmp_path / "source.pth"))
    network = identify_network(checkpoint, Options())
    published = make_claims(checkpoint, network, Options(), Beside())
    assert len(published.assumptions) == 5
    object.__setattr__(checkpoint, "origin", origin)
    if origin == ORIGIN_RANDOM:
        assert make_claims(checkpoint, network, Options(), Beside()).assumptions == ()
    else:
        labels = Options(labels=save_names(tmp_path))
        assert make_claims(checkpoint, network, labels, Beside()).assumptions == ()


def save_names(folder: Path) -> Path:
    (folder / "names.txt").write_text("\n".join("abcde"))
    return folder / "names.txt"


def test_the_receipt_and_the_card_hold_them_and_verify_compares_them_with_the_source(tmp_path: Path) -> None:
    source = save(state_dict_of(), tmp_path / "source.pth")
    written = dc.convert(source, tmp_path / "new", device="cpu")
    assert [one["what"] for one in written.receipt["assumptions"]] == [STEM, ORDER, EPSILON, RELU, POOLING]
    assert RELU in (written.folder / "README.md").read_text()
    receipt = json.loads((written.folder / "conversion.json").read_text())
    del receipt["self_sha256"]
    receipt["assumptions"].pop(0)
    (written.folder / "conversion.json").write_text(seal(receipt))
    with pytest.raises(FolderError, match="'assumptions'"):
        dc.verify(written.folder, source=source, device="cpu")


def test_a_receipt_of_version_2_is_verified_though_it_says_nothing_of_them(tmp_path: Path) -> None:
    source = save(state_dict_of(), tmp_path / "source.pth")
    path = dc.convert(source, tmp_path / "new", device="cpu").folder / "conversion.json"
    receipt = json.loads(path.read_text())
    for field in ("self_sha256", "assumptions", "remarks", "beside"):
        del receipt[field]
    path.write_text(seal({**receipt, "schema_version": 2}))
    assert dc.verify(tmp_path / "new", source=source, device="cpu")


def test_a_network_without_the_relu_is_no_architecture_of_others(tmp_path: Path) -> None:
    head = {"head.weight": torch.rand(5, SMALL.num_features), "head.bias": torch.rand(5)}
    features = {f"base.{n}": t for n, t in state_dict_of().items() if n.startswith("features.")}
    source = save({**features, **head}, tmp_path / "source.pth")
    written = dc.convert(source, tmp_path / "new", head="head", final_relu=False, device="cpu")
    content = json.loads((written.folder / "config.json").read_text())
    assert (content["architecture"], content["final_relu"]) == ("densenet-convert", False)
    assert written.receipt["config"]["final_relu"] is False
    with pytest.raises(LayoutError, match="has final_relu True, and this one False"):
        dc.export(written.folder, "torchvision", tmp_path / "out.pth")
