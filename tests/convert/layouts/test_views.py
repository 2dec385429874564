"""Wrappers anywhere in a name are taken off, features may be numbered, and nothing else comes in with it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL, StateDict, checkpoint_of, in_names_of, save, state_dict_of
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import densenet_convert as dc
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import ArchitectureError, LayoutError, ValueRangeError
from densenet_convert.layouts import BUILT_IN
from densenet_convert.layouts.identify import identify_layout, whole_networks
from densenet_convert.layouts.network import identify_network
from densenet_convert.layouts.rewrite import rewrite_tensors
from densenet_convert.records import Identified, Options
from densenet_convert.source.read import read_checkpoint

STATE = state_dict_of()


def renamed(change: Callable[[str], str]) -> StateDict:
    return {change(name): tensor for name, tensor in STATE.items()}


WRAPPED = {
    "a compiled block": lambda name: re.sub(r"(denseblock\d)\.", r"\1._orig_mod.", name),
    "checkpointed layers": lambda name: re.sub(r"(layer\d)\.", r"\1._checkpoint_wrapped_module.", name),
    "FSDP within FSDP": lambda name: (
        "_fsdp_wrapped_module." + re.sub(r"(block\d)\.", r"\1._fsdp_wrapped_module.", name)
    ),
    "two in a row": lambda name: (
        "module." + re.sub(r"(layer\d)\.", r"\1._fsdp_wrapped_module._checkpoint_wrapped_module.", name)
    ),
    "compiled features": lambda name: name.replace("features.", "features._orig_mod."),
    "a parallel part, a compiled head": lambda name: name.replace("features.", "features.module.").replace(
        "classifier", "classifier._orig_mod"
    ),
    "under Lightning": lambda name: "model._orig_mod." + re.sub(r"(transition\d)\.", r"\1._orig_mod.", name),
}


@pytest.mark.parametrize("change", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_are_taken_off_and_the_source_s_names_are_kept(change: Callable[[str], str]) -> None:
    state = renamed(change)
    reading = identify_layout(state, BUILT_IN)
    assert (reading.layout.name, reading.unwrapped, reading.inside) == ("torchvision", True, "")
    assert reading.explanation.targets == {change(name): name for name in STATE}
    network = identify_network(checkpoint_of(state), Options())
    assert network.config == SMALL
    assert any("runs them as they are" in one.what for one in network.assumptions)


def test_a_wrapped_source_is_converted_verified_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change = WRAPPED["a parallel part, a compiled head"]
    path = save(renamed(change), Path("old.pth"))
    written = dc.convert(path, "new", device="cpu")
    assert [one["source_name"] for one in written.receipt["tensors"]] == list(map(change, STATE))
    assert dc.verify("new", device="cpu").proof.largest["logits"] == 0
    assert dc.verify("new", source=path, device="cpu").proof.largest["logits"] == 0


def test_a_wrapper_before_all_names_stays_a_prefix() -> None:
    reading = identify_layout([f"model._orig_mod.{name}" for name in STATE], BUILT_IN)
    assert (reading.prefix, reading.unwrapped) == ("model._orig_mod.", False)


def test_what_is_left_out_beside_wrapped_layers_is_left_out() -> None:
    names = [*map(WRAPPED["compiled features"], STATE), "decoder.weight"]
    names = [f"net.module.{name}" for name in names]
    assert [(one.prefix, one.inside) for one in whole_networks(names, BUILT_IN)] == [("net.", "")]
    for only in ("net.", "net.module."):
        reading = identify_layout(names, BUILT_IN, only=only)
        assert set(reading.explanation.dropped) == {"net.module.decoder.weight"}


def test_wrappers_whose_names_would_collide_stay() -> None:
    change = WRAPPED["checkpointed layers"]
    name = "features.denseblock1.denselayer1.norm1.weight"
    with pytest.raises(
        LayoutError, match="denselayer1._checkpoint_wrapped_module.norm1.weight is explained by"
    ):
        identify_layout([*map(change, STATE), name], BUILT_IN)


@pytest.mark.parametrize(
    "extra", ["features.denseblock1._orig_mod.se.weight", "features.norm0._orig_mod.scale"]
)
def test_what_is_of_a_wrapped_network_is_never_left_out(extra: str) -> None:
    names = [*map(WRAPPED["a compiled block"], STATE), extra]
    for only in (None, ""):
        with pytest.raises(LayoutError, match=re.escape(extra)):
            identify_layout(names, BUILT_IN, only=only)


class Doubled(nn.Module):
    """Holds a module as DataParallel does, and computes something else."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> Any:
        return 2 * self.module(x)


def _declared(network: nn.Module, folder: Path) -> Identified:
    return identify_network(read_checkpoint(save(network, folder / "whole.pth")), Options())


def _torchvision_s() -> Any:
    torchvision = pytest.importorskip("torchvision")
    sizes = SMALL.growth_rate, SMALL.block_config, SMALL.num_init_features
    return torchvision.models.DenseNet(*sizes, bn_size=SMALL.bn_size, num_classes=SMALL.num_classes)


def test_wrappers_of_a_whole_module_are_known_by_their_classes(tmp_path: Path) -> None:
    network = _torchvision_s()
    wrapped = copy.deepcopy(network)
    wrapped.features.denseblock1 = checkpoint_wrapper(wrapped.features.denseblock1)
    wrapped.features = nn.DataParallel(wrapped.features)
    assert _declared(wrapped, tmp_path).config == SMALL
    assert not _declared(wrapped, tmp_path).assumptions
    network.features.transition1 = Doubled(network.features.transition1)
    with pytest.raises(ArchitectureError, match=r"transition1 is .*Doubled, expected a wrapper of PyTorch's"):
        _declared(network, tmp_path)


def test_a_hook_of_a_wrapper_is_seen(tmp_path: Path) -> None:
    network = _torchvision_s()
    network.features.transition1 = nn.DataParallel(network.features.transition1)
    network.features.transition1.register_forward_hook(print)
    with pytest.raises(ArchitectureError, match="has _forward_hooks"):
        _declared(network, tmp_path)


NUMBERS = in_names_of("numbered", STATE)
FEATURES = {name: tensor for name, tensor in NUMBERS.items() if name.startswith("features.")}


@pytest.mark.parametrize("prefix", ["", "features.", "0.", "backbone.", "encoder.", "module.net."])
@pytest.mark.parametrize("layout", ["numbered", "numbered-dotted", "numbered-timm"])
def test_numbered_features_stand_under_any_prefix(prefix: str, layout: str) -> None:
    state = in_names_of(layout, STATE)
    names = [prefix + name.removeprefix("features.") for name in state if name.startswith("features.")]
    reading = identify_layout(names, BUILT_IN)
    assert reading.layout.name == layout
    assert set(reading.explanation.targets.values()) == {name for name in STATE if "classifier" not in name}


def test_of_numbered_features_a_relu_before_the_head_is_asked_for() -> None:
    with pytest.raises(LayoutError, match="say so by `final_relu=True`"):
        identify_network(checkpoint_of(NUMBERS), Options())
    assert identify_network(checkpoint_of(NUMBERS), Options(final_relu=False)).config.num_classes == 5


@pytest.mark.parametrize("cut", ["11.", "10.", "1."])
def test_numbered_features_that_are_cut_are_refused(cut: str) -> None:
    state = {n: t for n, t in FEATURES.items() if not n.startswith(f"features.{cut}")}
    with pytest.raises((LayoutError, ArchitectureError)):
        identify_network(checkpoint_of(state), Options())


@pytest.mark.parametrize(
    ("name", "shape"), [("2.weight", (8,)), ("3.weight", (8, 8, 3, 3)), ("5.se.weight", (4, 4))]
)
def test_what_stands_within_a_sequence_is_never_left_out(name: str, shape: tuple[int, ...]) -> None:
    state = {one.removeprefix("features."): tensor for one, tensor in FEATURES.items()}
    for only in (None, ""):
        with pytest.raises(LayoutError, match=re.escape(name)):
            identify_network(checkpoint_of({**state, name: torch.rand(shape)}), Options(only=only))


def _in_sequence(network: Any, *behind: nn.Module) -> nn.Module:
    return nn.Sequential(*network.features.children(), *behind, network.classifier)


def test_a_whole_sequence_tells_what_runs_before_its_head(tmp_path: Path) -> None:
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = save(_in_sequence(_torchvision_s(), nn.ReLU(), *pool), tmp_path / "relu.pth")
    network = identify_network(read_checkpoint(path), Options(head="15"))
    assert network.config == SMALL
    assert not network.assumptions
    path = save(_in_sequence(_torchvision_s(), *pool), tmp_path / "none.pth")
    with pytest.raises(LayoutError, match=r"head='14', final_relu=False\)$"):
        identify_network(read_checkpoint(path), Options())
    path = save(_in_sequence(_torchvision_s(), nn.Conv2d(15, 15, 1), nn.ReLU(), *pool), tmp_path / "conv.pth")
    with pytest.raises(LayoutError, match=r"only='', head=''\)$"):
        identify_network(read_checkpoint(path), Options())


@pytest.mark.parametrize("prefix", ["", "encoder.model."])
def test_timm_s_features_give_what_they_gave(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    sizes = {"growth_rate": 4, "block_config": (1, 2, 1, 1)}
    theirs = timm.create_model("densenet121", features_only=True, **sizes).eval()
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    written = dc.convert(save(state, Path("old.pth")), "new", device="cpu")
    assert written.receipt["source"]["layout"] == "timm-features"
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(
            DenseNet.from_pretrained("new")(x), theirs(x)[-1].mean((2, 3), keepdim=True).flatten(1)
        )


def test_a_cut_of_timm_s_features_is_refused() -> None:
    state = in_names_of("timm-features", {n: t for n, t in STATE.items() if "norm5" not in n})
    state = {name: tensor for name, tensor in state.items() if "classifier" not in name}
    with pytest.raises(ArchitectureError, match=r"features\.norm5\.weight is missing"):
        identify_network(checkpoint_of(state), Options())


@pytest.mark.parametrize("head", ["class_layers.class", "class_layers.out"])
@pytest.mark.parametrize("prefix", ["", "net.model."])
def test_early_networks_of_monai_are_torchvision_s_with_a_head_of_another_name(
    head: str, prefix: str
) -> None:
    state = {prefix + name.replace("classifier", head): tensor for name, tensor in STATE.items()}
    network = identify_network(checkpoint_of(state), Options())
    assert (network.reading.layout.name, network.reading.head) == ("torchvision", prefix + head)
    assert network.config == SMALL


SCALED = in_names_of("densenet-keras", STATE)


def test_scale_layers_that_are_left_are_never_left_out() -> None:
    name = "conv2_1_x1_scale/conv2_1_x1_scale_gamma"
    second = checkpoint_of({**SCALED, name: torch.rand(8)})
    with pytest.raises(ValueRangeError, match="conv2_1_x1_scale_gamma scales what it gives"):
        rewrite_tensors(second, identify_network(second, Options()).rewrites)
    unknown = checkpoint_of({**SCALED, "conv5_blk_scale/x_beta": torch.rand(15)})
    for only in (None, ""):
        with pytest.raises(LayoutError, match="conv5_blk_scale"):
            identify_network(unknown, Options(only=only))


def test_the_port_of_2016_bears_keras_1_s_names_too() -> None:
    fields = {"kernel": "W", "moving_mean": "running_mean", "moving_variance": "running_std"}
    state: StateDict = {}
    for name, tensor in SCALED.items():
        layer, _, field = name.rpartition("/")
        own = "b" if field == "bias" else fields.get(field, field)
        state[f"{layer}/{layer}_{own}"] = tensor
    network = identify_network(checkpoint_of(state), Options())
    assert (network.reading.layout.name, network.config.norm_eps) == ("densenet-keras", 1.1e-5)
