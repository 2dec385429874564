"""MONAI's DenseNets in one and three dimensions: converted, proven, verified, exported, described."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL, StateDict, in_names_of, save, state_dict_of
from safetensors.torch import save_file

import densenet_convert as dc
from densenet_convert.densenet import DenseNet, DenseNetConfig
from densenet_convert.errors import (
    ArchitectureError,
    ClaimError,
    ConvertError,
    ImageError,
    LayoutError,
    OwnNetworkError,
    ReadError,
)
from densenet_convert.folder.card import model_card

TINY = replace(SMALL, block_config=(1, 1, 1, 2), num_classes=2, in_channels=1)
VOLUMES = replace(TINY, spatial_dims=3)
INPUTS = {
    1: ("eval 3x1x123", "train 2x1x96"),
    3: ("eval 3x1x41x53x37", "train 2x1x64x48x48"),
}


def of_monai(config: DenseNetConfig, layout: str = "monai") -> StateDict:
    return in_names_of(layout, state_dict_of(config))


def under(prefix: str, state: StateDict) -> StateDict:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 0.5


def same_function(folder: Path, config: DenseNetConfig) -> None:
    expected = DenseNet(config).eval()
    expected.load_state_dict(state_dict_of(config))
    x = drawn(2, config.in_channels, *[40] * config.spatial_dims)
    with torch.no_grad():
        assert torch.equal(DenseNet.from_pretrained(folder)(x), expected(x))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted network of volumes, which no test changes; its source is beside it."""
    parent = tmp_path_factory.mktemp("volumes")
    source = save(of_monai(VOLUMES), parent / "source.pt", legacy=False)
    return dc.convert(source, parent / "volumes", device="cpu").folder


@pytest.mark.parametrize("dimensions", [1, 3])
def test_the_proof_s_inputs_have_as_many_sides(dimensions: int, tmp_path: Path) -> None:
    config = replace(TINY, spatial_dims=dimensions)
    written = dc.convert(of_monai(config), tmp_path / "new", device="cpu")
    proof, content = written.receipt["verification"], written.receipt["config"]
    shown = [f"{x['mode']} {'x'.join(map(str, x['shape']))}" for x in proof["inputs"]]
    assert tuple(shown[:2]) == INPUTS[dimensions]
    assert proof["every_input"]["logits"] == "equal"
    assert set(proof["largest_difference"].values()) == {0.0}
    assert content["spatial_dims"] == dimensions
    same_function(written.folder, config)


WRAPPED: dict[str, Any] = {
    "a state dict of MONAI 0.4 and later": lambda state: state("monai"),
    "a state dict of MONAI 0.1 to 0.3": lambda state: state("monai-0.3"),
    "a state dict between the two": lambda state: {
        name.replace("class_layers.class", "class_layers.out"): tensor
        for name, tensor in state("monai-0.3").items()
    },
    "under net.": lambda state: under("net.", state("monai")),
    "of MONAI 0.2 under module.": lambda state: {"model": under("module.", state("monai-0.3")), "epoch": 3},
    "of Lightning": lambda state: {
        "state_dict": under("net.", state("monai")),
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1},
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_what_monai_s_users_save_is_converted(how: str, tmp_path: Path) -> None:
    config = replace(TINY, spatial_dims=1, in_channels=4, num_classes=14)
    content = WRAPPED[how](lambda layout: of_monai(config, layout))
    written = dc.convert(save(content, tmp_path / "source.pt"), tmp_path / "new", device="cpu")
    assert written.receipt["source"]["layout"].startswith("monai")
    same_function(written.folder, config)
    assert dc.verify(written.folder, source=tmp_path / "source.pt", device="cpu").proof.every_input


SIZES = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 264: (6, 12, 64, 48)}


@pytest.mark.parametrize("size", SIZES)
def test_tensors_tell_every_size_of_monai(size: int) -> None:
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    kind = getattr(nets, f"DenseNet{size}")
    with torch.device("meta"):
        network = kind(spatial_dims=3, in_channels=4, out_channels=14, init_features=8, growth_rate=4)
    state = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in network.state_dict().items()
    }
    found = dc.inspect(state)
    expected = {"block_config": SIZES[size], "spatial_dims": 3, "in_channels": 4, "num_classes": 14}
    assert found.layout == "monai"
    assert {name: getattr(found.config, name) for name in expected} == expected


def test_kernels_of_three_sides_tell_that_they_were_never_loaded() -> None:
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    torch.manual_seed(0)
    fresh = nets.DenseNet(spatial_dims=3, in_channels=1, out_channels=2, init_features=8, block_config=(1, 1))
    (features, head) = dc.inspect(fresh.state_dict()).remarks
    assert features.text.startswith("6 of 6 convolutions are as drawn at random (He's normal)")
    assert head.text.startswith("The head, class_layers.out.weight, is as drawn")
    assert not [one for one in dc.inspect(of_monai(VOLUMES)).remarks if "convolutions" in one.text]


def test_a_whole_module_of_monai_tells_its_layers(tmp_path: Path) -> None:
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    sizes = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1, 1, 2), "bn_size": 2}
    for dimensions in (1, 3):
        network = nets.DenseNet(spatial_dims=dimensions, in_channels=1, out_channels=2, **sizes)
        network.load_state_dict(of_monai(replace(TINY, spatial_dims=dimensions)))
        path = save(network, tmp_path / f"{dimensions}.pt")
        assert dc.inspect(path).problem is None
        network.class_layers.relu = torch.nn.LeakyReLU()
        with pytest.raises(ArchitectureError, match=r"class_layers\.relu is .*LeakyReLU, expected a ReLU"):
            dc.convert(save(network, tmp_path / f"leaky{dimensions}.pt"), tmp_path / "none")
    network.class_layers.relu = torch.nn.ReLU()
    network.features.pool0 = torch.nn.MaxPool3d(3, 2, padding=1, ceil_mode=True)
    with pytest.raises(ArchitectureError, match="has ceil_mode True, expected False"):
        dc.convert(save(network, tmp_path / "ceil.pt"), tmp_path / "none")
    network.features.pool0 = torch.nn.MaxPool2d(3, 2, padding=1)
    with pytest.raises(ArchitectureError, match=r"MaxPool2d, expected max pooling"):
        dc.convert(save(network, tmp_path / "flat.pt"), tmp_path / "none")


def test_an_epsilon_of_a_whole_module_is_kept(tmp_path: Path) -> None:
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    sizes = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1), "bn_size": 2}
    other = ("batch", {"eps": 1e-3})
    network = nets.DenseNet(spatial_dims=1, in_channels=1, out_channels=2, norm=other, **sizes)
    written = dc.convert(save(network, tmp_path / "eps.pt"), tmp_path / "new", device="cpu")
    assert written.receipt["config"]["norm_eps"] == 1e-3
    x = drawn(2, 1, 40)
    assert torch.equal(DenseNet.from_pretrained(written.folder)(x), network.eval()(x))
    with pytest.raises(LayoutError, match=r"has norm_eps 1e-05, and this one 0\.001"):
        dc.export(written.folder, "monai", tmp_path / "back.pth")
    assert "No other library has such a network" in model_card(written.receipt)


@pytest.mark.parametrize("layout", ["monai", "monai-0.3"])
def test_it_goes_back_to_monai_bit_for_bit(layout: str, volumes: Path, tmp_path: Path) -> None:
    found = torch.load(dc.export(volumes, layout, tmp_path / "back.pth"), weights_only=True)
    expected = of_monai(VOLUMES, layout)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("layout", ["torchvision", "keras", "torchxrayvision", "paddleclas", "numbered"])
def test_it_goes_to_no_other_layout(layout: str, volumes: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="kernels of 2 dimensions, and this one of 3.* back to monai alone"):
        dc.export(volumes, layout, tmp_path / "back")


def test_a_network_of_images_has_no_layout_of_signals_and_volumes(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="kernels of 1 or 3 dimensions, and this one of 2"):
        dc.export(converted, "monai-0.3", tmp_path / "back.pth")


def test_the_folder_is_verified_with_and_without_its_source(volumes: Path) -> None:
    for source in (None, volumes.parent / "source.pt"):
        proof = dc.verify(volumes, source=source, device="cpu").proof
        assert proof.every_input.logits == "equal"


def test_golden_outputs_are_computed_again(tmp_path: Path) -> None:
    state = of_monai(replace(TINY, spatial_dims=1))
    proof = dc.verify(
        dc.convert(state, tmp_path / "new", device="cpu", golden=True).folder, device="cpu"
    ).proof
    assert proof.golden is not None
    assert proof.golden < 1


def test_without_monai_torch_s_own_modules_are_the_reference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(_: object) -> None:
        raise ImportError("no monai")

    for name in ("monai_network", "monai_network_of_0_3"):
        monkeypatch.setattr(f"densenet_convert.proof.references.libraries.{name}", missing)
    for layout, dimensions in (("monai", 3), ("monai-0.3", 1)):
        config = replace(TINY, spatial_dims=dimensions)
        written = dc.convert(of_monai(config, layout), tmp_path / layout, device="cpu")
        proof = written.receipt["verification"]
        assert proof["reference"].startswith("torch's modules under the source's names, torch ")
        assert {proof["every_input"][kind] for kind in ("logits", "gradients", "buffers")} == {"equal"}


def test_a_network_under_torchvision_s_names_is_named_with_the_call_that_converts_it(tmp_path: Path) -> None:
    path = save(state_dict_of(VOLUMES), tmp_path / "source.pt")
    said = (
        r"^This is a DenseNet in 3 dimensions under other names than MONAI's: features\.conv0\.weight is \["
    )
    with pytest.raises(ConvertError, match=said) as refused:
        dc.convert(path, tmp_path / "new")
    call = str(refused.value).splitlines()[-1]
    assert call == f"dc.convert({str(path)!r}, layout='monai-0.3')"
    assert dc.inspect(path).problem == str(refused.value)
    with pytest.raises(LayoutError, match="is a kernel of 3 dimensions, and torchvision has those of 2"):
        dc.convert(path, tmp_path / "new", layout="torchvision")


def test_what_we_wrote_is_known_by_what_lies_beside_it(volumes: Path, tmp_path: Path) -> None:
    found = dc.inspect(volumes)
    assert (found.problem, found.config) == (None, VOLUMES)
    DenseNet.from_pretrained(volumes).save_pretrained(tmp_path / "saved")
    again = dc.inspect(tmp_path / "saved" / "model.safetensors")
    assert (again.problem, again.config) == (None, VOLUMES)
    for other in (tmp_path / "saved" / "model.safetensors", volumes.parent / "source.pt"):
        assert dc.compare(other, volumes).same


def test_a_stranger_s_config_json_does_not_choose_the_layout(tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in of_monai(replace(TINY, spatial_dims=1)).items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "densenet121", "spatial_dims": 1}))
    assert dc.inspect(tmp_path / "model.safetensors").layout == "monai"


def test_networks_of_other_dimensions_are_other_networks(volumes: Path, tmp_path: Path) -> None:
    signals = save(of_monai(replace(TINY, spatial_dims=1)), tmp_path / "signals.pt")
    (difference,) = dc.compare(volumes, signals).differences
    assert difference.cause == "architecture"
    assert "in 3 dimensions" in difference.text
    assert "in 1 dimension " in difference.text


STATED: tuple[dict[str, Any], ...] = (
    {"mean": 0.5},
    {"mean": 0.5, "std": 0.5},
    {"input_size": 64},
    {"interpolation": "bicubic"},
    {"crop_pct": 1.0},
)


@pytest.mark.parametrize("stated", STATED)
def test_what_is_said_of_images_is_refused(stated: Mapping[str, Any], volumes: Path, tmp_path: Path) -> None:
    said = " and ".join(f"`{name}=...`" for name in stated)
    expected = f"^{re.escape(said)} (is|are) for images, and this network takes inputs in 3 dimensions"
    for refused in (
        lambda: dc.convert(volumes.parent / "source.pt", tmp_path / "new", **stated),
        lambda: dc.describe(volumes, **stated),
    ):
        with pytest.raises(ClaimError, match=expected):
            refused()


def test_there_are_no_images_to_compare_on(volumes: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match="takes inputs in 3 dimensions, and no images: leave `images="):
        dc.verify(volumes, images=tmp_path, device="cpu")


def test_outputs_that_were_recorded_elsewhere_are_compared(volumes: Path, tmp_path: Path) -> None:
    x = drawn(12, 1, 29, 30, 31)
    network = DenseNet.from_pretrained(volumes)
    with torch.no_grad():
        save_file({"input": x, "outputs": network(x)}, tmp_path / "outputs.safetensors")
    found = dc.verify(volumes, outputs=tmp_path / "outputs.safetensors", device="cpu").proof.outputs
    assert found is not None
    assert found.images == 12
    save_file({"input": x[..., 0].clone(), "outputs": drawn(12, 2)}, tmp_path / "flat.safetensors")
    with pytest.raises(ReadError, match=r"expected floats of shape \[N, 1, D, H, W\]"):
        dc.verify(volumes, outputs=tmp_path / "flat.safetensors", device="cpu")


def test_a_network_at_hand_is_its_own_reference(tmp_path: Path) -> None:
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    sizes = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1, 1, 2), "bn_size": 2}
    for dimensions, size in ((1, "99"), (3, "33x29x31")):
        network = nets.DenseNet(spatial_dims=dimensions, in_channels=1, out_channels=2, **sizes)
        network.load_state_dict(of_monai(replace(TINY, spatial_dims=dimensions)))
        written = dc.convert(network, tmp_path / size, reference_input_size=size)
        own = written.receipt["verification"]["own_network"]
        assert own["every_input"]["logits"] == "equal"
        assert own["inputs"][0]["shape"] == [12, 1, *map(int, size.split("x"))]
    with pytest.raises(OwnNetworkError, match="expected such as 320 or 96x96x64"):
        dc.verify(tmp_path / size, source=network, reference_input_size="320x256")


@pytest.mark.parametrize(
    ("dimensions", "settings"), [(1, {"float32", "bfloat16", "float16"}), (3, {"float32", "channels_last"})]
)
def test_the_report_measures_what_torch_runs(dimensions: int, settings: set[str], tmp_path: Path) -> None:
    config, report = replace(TINY, spatial_dims=dimensions), tmp_path / "report.html"
    written = dc.convert(of_monai(config), tmp_path / "new", report=report, device="cpu")
    measured = {one["setting"] for one in written.receipt["verification"]["measured"]}
    assert measured == {*settings, "one image at a time", "a larger batch"}
    assert f"in {dimensions} dimension" in report.read_text()


def test_the_card_tells_how_monai_and_we_load_it(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    text = (volumes / "README.md").read_text()
    front = text.split("---")[1]
    assert not [word for word in ("pipeline_tag", "timm", "transformers") if word in front]
    assert "- monai\n" in front
    assert "library_name: densenet-convert" in front
    assert "timm, transformers and torchvision have no such network." in text
    assert "## How images are prepared" not in text
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, name: str(volumes / name))
    (code,) = [one.split("```")[0] for one in text.split("```python\n") if "from monai" in one]
    names: dict[str, Any] = {}
    exec(code, names)
    x = drawn(1, 1, 40, 36, 44)
    assert torch.equal(names["model"](x), DenseNet.from_pretrained(volumes)(x))


def test_the_card_of_features_leaves_out_monai_s_head(volumes: Path) -> None:
    content = json.loads((volumes / "conversion.json").read_bytes())
    content["config"]["num_classes"] = 0
    assert "model.class_layers.out = torch.nn.Identity()" in model_card(content)
