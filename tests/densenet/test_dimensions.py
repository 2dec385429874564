"""The network in one and three dimensions: its tensors, its config.json, and that it is the same network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL, state_dict_of
from torch import nn

from densenet_convert.densenet import DenseNet, DenseNetConfig, architecture_of, densenet121, infer_config
from densenet_convert.densenet.config import architecture_label, size_of
from densenet_convert.densenet.config_file import as_json, config_from_file, config_json

TINY = replace(SMALL, block_config=(1, 2), in_channels=4, num_classes=2)
both = pytest.mark.parametrize("dimensions", [1, 3])


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 0.5


@both
def test_kernels_have_as_many_sides_and_tell_them(dimensions: int) -> None:
    config = replace(TINY, spatial_dims=dimensions)
    shapes = {name: tuple(tensor.shape) for name, tensor in DenseNet(config).state_dict().items()}
    assert shapes == config.tensor_shapes()
    assert shapes["features.conv0.weight"] == (8, 4, *[7] * dimensions)
    assert infer_config(shapes) == config


@both
def test_along_one_side_it_computes_what_the_network_for_images_does(dimensions: int) -> None:
    """Of kernels that are 0 but in the middle of the other sides, the maps are those of fewer sides, spread.

    A single place of the other sides is padded with zeros, and pooled alone.
    """
    signals = DenseNet(replace(TINY, spatial_dims=1, block_config=(1,))).eval()
    network = DenseNet(replace(TINY, spatial_dims=dimensions, block_config=(1,))).eval()
    state = {}
    for name, tensor in signals.state_dict().items():
        state[name] = tensor
        if tensor.ndim == 3:
            side, others = tensor.shape[2], dimensions - 1
            state[name] = torch.zeros(*tensor.shape[:2], *[side] * dimensions)
            state[name][(..., *[side // 2] * others, slice(None))] = tensor
    network.load_state_dict(state)
    x = drawn(2, 4, 41)
    with torch.no_grad():
        wide = network(x.view(2, 4, *[1] * (dimensions - 1), 41))
        assert torch.allclose(wide, signals(x), atol=1e-6)


@both
def test_memory_is_traded_for_time_as_with_images(dimensions: int) -> None:
    config = replace(TINY, spatial_dims=dimensions)
    plain, efficient = DenseNet(config), DenseNet(replace(config, memory_efficient=True))
    efficient.load_state_dict(plain.state_dict())
    x = drawn(2, 4, *[33] * dimensions)
    for network in (plain, efficient):
        network.train()(x).sum().backward()
    for a, b in zip(plain.parameters(), efficient.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]


def test_it_starts_as_torchvision_s_does() -> None:
    torch.manual_seed(0)
    kernel = DenseNet(replace(SMALL, spatial_dims=3, num_init_features=64)).features.conv0.weight
    assert kernel.std().item() == pytest.approx((2 / kernel[0].numel()) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("pool", "layer"), [("avg", nn.AvgPool3d), ("max", nn.MaxPool3d)])
def test_other_settings_hold_for_volumes(pool: str, layer: type[nn.Module]) -> None:
    config = replace(TINY, spatial_dims=3, transition_pool=pool, stem_padding=(2, 3), num_classes=0)
    network = DenseNet(config).eval()
    assert isinstance(network.get_submodule("features.transition1.pool"), layer)
    assert network(drawn(1, 4, 20, 21, 22)).shape == (1, config.num_features)


def test_a_builder_takes_the_dimensions() -> None:
    with torch.device("meta"):
        config = densenet121(2, spatial_dims=3, in_channels=1).config
    assert architecture_label(config) == "densenet121 in 3 dimensions"
    assert (size_of(config), architecture_of(config)) == ("densenet121", None)


@pytest.mark.parametrize("dimensions", [0, 4, 2.0, "3", True])
def test_no_other_dimensions_are_taken(dimensions: object) -> None:
    with pytest.raises(ValueError, match=r"spatial_dims is .*, expected 1, 2 or 3"):
        DenseNetConfig(spatial_dims=dimensions)  # type: ignore[arg-type]


def test_config_json_says_nothing_to_libraries_that_have_no_such_network() -> None:
    content = config_json(
        replace(TINY, spatial_dims=3), ["a", "b"], preprocessing={"input_size": [4, 9, 8, 7]}
    )
    assert not {"pretrained_cfg", "model_args"} & content.keys()
    said = ("architecture", "spatial_dims", "input_size", "label_names")
    assert [content[name] for name in said] == ["densenet-convert", 3, [4, 9, 8, 7], ["a", "b"]]
    assert "spatial_dims" not in config_json(SMALL)
    assert "spatial_dims" not in as_json(SMALL)


@both
def test_what_is_saved_is_loaded_and_saved_again_byte_for_byte(dimensions: int, tmp_path: Path) -> None:
    config = replace(TINY, spatial_dims=dimensions)
    network = DenseNet(config)
    network.load_state_dict(state_dict_of(config))
    network.eval().save_pretrained(tmp_path / "a")
    path = tmp_path / "a" / "config.json"
    content = {
        **json.loads(path.read_bytes()),
        "input_size": [4, *[9] * dimensions],
        "label_names": ["a", "b"],
    }
    path.write_text(json.dumps(content, sort_keys=True, indent=2) + "\n")
    loaded = DenseNet.from_pretrained(tmp_path / "a")
    assert loaded.config == config
    x = drawn(1, 4, *[33] * dimensions)
    assert torch.equal(loaded(x), network(x))
    loaded.save_pretrained(tmp_path / "b")
    assert (tmp_path / "b" / "config.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("said", "held"), [(2, 3), (3, 2), (1, 3)])
def test_a_config_json_of_other_dimensions_is_refused(said: int, held: int) -> None:
    shapes = replace(TINY, spatial_dims=held).tensor_shapes()
    with pytest.raises(ValueError, match=f"says spatial_dims {said}, and its tensors {held}"):
        config_from_file({**as_json(TINY), "spatial_dims": said}, shapes)
