"""What a file tells of its layers is the converted network's function, or the file is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from checkpoints import save
from torch import nn

import densenet_convert as dc
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import ArchitectureError, LayoutError
from densenet_convert.layouts import known_layouts
from densenet_convert.layouts.declared_layers import read_declared
from densenet_convert.layouts.identify import identify_layout
from densenet_convert.layouts.network import identify_network
from densenet_convert.records import MULTI_LABEL, Options
from densenet_convert.source.read import read_checkpoint

Change = Callable[[nn.Module], object]
LAYER = "features.denseblock2.denselayer2"


def torchvision_network() -> nn.Module:
    network: nn.Module = torchvision.models.DenseNet(
        4, (1, 2, 1), num_init_features=8, bn_size=2, num_classes=3
    )
    return network


def timm_network(**more: Any) -> nn.Module:
    module = pytest.importorskip("timm.models.densenet", reason="timm is not installed")
    network: nn.Module = module.DenseNet(4, (1, 2, 1), num_classes=3, bn_size=2, **more)
    return network


def monai_network(**more: Any) -> nn.Module:
    module = pytest.importorskip("monai.networks.nets.densenet", reason="MONAI is not installed")
    network: nn.Module = module.DenseNet(2, 3, 3, 8, 4, (1, 2, 1), 2, **more)
    return network


def replaced(path: str, module: nn.Module) -> Change:
    parent, _, name = path.rpartition(".")
    return lambda network: setattr(network.get_submodule(parent), name, module)


def with_setting(path: str, name: str, value: Any) -> Change:
    return lambda network: setattr(network.get_submodule(path), name, value)


def with_epsilon(network: nn.Module, eps: float) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    return network


def declared_by(network: Any, folder: Path, **how: Any) -> tuple[float | None, str | None]:
    """The epsilon and the problem type that are told by a file of either of torch's formats."""
    found = set()
    for legacy in (True, False):
        checkpoint = read_checkpoint(save(network, folder / "whole.pth", legacy=legacy))
        assert checkpoint.layers
        reading = identify_layout(checkpoint.tensors, known_layouts(), **how)
        found.add(read_declared(checkpoint.layers, checkpoint.format, reading)[:2])
    return found.pop()


class Wrapper(nn.Module):
    """Runs its parts in an order of its own."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Flatten(nn.Module):
    """As people wrote it before torch had one."""


class OwnConv(nn.Conv2d):
    """Standardises its weight, perhaps."""


class Unknown(nn.Module):
    """A class of the user's own."""


def in_sequence(*names: str) -> nn.Module:
    network = torchvision_network()
    parts = {
        "features": network.features,
        "relu": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": Flatten(),
        "classifier": network.classifier,
        "softmax": nn.Softmax(1),
        "unknown": Unknown(),
    }
    return nn.Sequential(OrderedDict((name, parts[name]) for name in names))  # type: ignore[misc]


CHANGED: dict[str, tuple[Change, str]] = {
    "one epsilon": (
        with_setting("features.norm0", "eps", 1e-2),
        r"features.norm0 \(.*BatchNorm2d\) has eps 0.01",
    ),
    "no epsilon": (lambda n: with_epsilon(n, float("nan")), "has eps nan, expected 1e-05"),
    "max pooling": (
        replaced("features.transition2.pool", nn.MaxPool2d(2, 2)),
        "features.transition2.pool is .*MaxPool2d, expected average pooling",
    ),
    "no pooling": (
        replaced("features.pool0", nn.Identity()),
        "features.pool0 is .*Identity, expected max pooling",
    ),
    "nothing at a pooling": (
        lambda n: n.features.__delattr__("pool0"),
        "no layer behind features.norm0 for max pooling",
    ),
    "no ReLU": (replaced(f"{LAYER}.relu1", nn.Identity()), f"{LAYER}.relu1 is .*Identity, expected a ReLU"),
    "another activation": (
        replaced(f"{LAYER}.relu1", nn.LeakyReLU()),
        f"{LAYER}.relu1 is .*LeakyReLU, expected a ReLU",
    ),
    "a class of the user's own": (replaced(f"{LAYER}.relu1", Unknown()), "Unknown, expected a ReLU"),
    "a convolution of the user's own": (
        lambda n: setattr(n.features.conv0, "__class__", OwnConv),
        "features.conv0 is .*OwnConv, expected a plain convolution",
    ),
    "stride": (
        with_setting("features.conv0", "stride", (1, 1)),
        r"features.conv0 .* has stride \(1, 1\), expected 2",
    ),
    "padding": (
        with_setting(f"{LAYER}.conv2", "padding", (0, 0)),
        r"conv2 .* has padding \(0, 0\), expected 1",
    ),
    "padding by a mirror": (
        with_setting("features.conv0", "padding_mode", "reflect"),
        "has padding_mode reflect",
    ),
    "dilation": (with_setting(f"{LAYER}.conv2", "dilation", (2, 2)), "has dilation"),
    "ceil_mode": (with_setting("features.pool0", "ceil_mode", True), "has ceil_mode True, expected False"),
    "a ReLU behind the head": (
        lambda n: setattr(n, "classifier", nn.Sequential(n.classifier, nn.ReLU())),
        "classifier.1 is .*ReLU, where a DenseNet has nothing",
    ),
    "something behind the sigmoid": (
        lambda n: setattr(n, "classifier", nn.Sequential(n.classifier, nn.Sigmoid(), nn.Tanh())),
        "classifier.2 is .*Tanh, where a DenseNet has nothing",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_module_of_another_function_is_refused_by_its_place(name: str, tmp_path: Path) -> None:
    change, message = CHANGED[name]
    network = torchvision_network()
    change(network)
    with pytest.raises(ArchitectureError, match=f"{message}.* would be another function"):
        declared_by(network, tmp_path)


def test_what_holds_for_torchvision_s_modules_holds_for_those_of_others(tmp_path: Path) -> None:
    cases: list[tuple[nn.Module, str]] = [
        (timm_network(global_pool="max"), r"global_pool \(.*SelectAdaptivePool2d\) has pool_type max"),
        (timm_network(act_layer="silu"), "features.norm0.act is .*SiLU, expected a ReLU"),
        (monai_network(act="leakyrelu"), "features.relu0 is .*LeakyReLU, expected a ReLU"),
        (in_sequence("features", "pool", "flat", "classifier"), "pool is .*expected a ReLU"),
        (in_sequence("features", "relu", "flat", "classifier"), "for global average pooling"),
        (in_sequence("unknown", "features"), "unknown is .*Unknown, where a DenseNet has nothing"),
        (Wrapper(model=torchvision_network(), pool=nn.AdaptiveMaxPool2d(1)), "pool is .*AdaptiveMaxPool2d"),
    ]
    for network, message in cases:
        with pytest.raises(ArchitectureError, match=message):
            declared_by(network, tmp_path)


def test_modules_that_do_nothing_or_what_a_densenet_does_are_let_through(tmp_path: Path) -> None:
    headless = torchvision_network()
    headless.classifier = nn.Identity()
    dropping = torchvision_network()
    dropping.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(dropping.classifier.in_features, 3))  # type: ignore[arg-type]
    whole = torchvision_network()
    for network in (
        whole,
        headless,
        dropping,
        whole.features,
        nn.DataParallel(whole),
        nn.SyncBatchNorm.convert_sync_batchnorm(torchvision_network()),
        {"epoch": 3, "model": whole},
        Wrapper(model=whole, loss=nn.BCEWithLogitsLoss(), softmax=nn.Softmax(1), metric=Unknown()),
        Wrapper(pool=nn.AdaptiveAvgPool2d((1, 1)), relu=nn.ReLU(), features=whole.features),  # type: ignore[arg-type]
        in_sequence("features", "relu", "pool", "flat", "classifier", "softmax"),
    ):
        assert declared_by(network, tmp_path) == (None, None)


def test_modules_of_other_libraries_are_let_through(tmp_path: Path) -> None:
    for network in (
        timm_network(),
        timm_network(drop_rate=0.1, proj_drop_rate=0.1),
        monai_network(),
        monai_network(dropout_prob=0.1),
    ):
        assert declared_by(network, tmp_path) == (None, None)


def test_torchxrayvision_s_module_without_thresholds_is_asked_about(tmp_path: Path) -> None:
    models = pytest.importorskip("torchxrayvision.models", reason="torchxrayvision is not installed")
    network = models.DenseNet(growth_rate=4, block_config=(2, 1, 1, 1), num_init_features=8, num_classes=3)
    path = save(network, tmp_path / "old.pth")
    with pytest.raises(ArchitectureError, match=r"\ndc\.convert\('\S+', layout='torchxrayvision'\)$"):
        dc.convert(path, tmp_path / "new", device="cpu")
    for source in (path, save(network.state_dict(), tmp_path / "state.pth")):
        written = dc.convert(source, tmp_path / source.stem, layout="torchxrayvision", device="cpu")
        assert written.receipt["preprocessing"]["mean"] == [0.5]
        assert dc.verify(written.folder, device="cpu")
        assert dc.verify(written.folder, source=source, device="cpu")


def test_torchxrayvision_s_module_is_let_through(tmp_path: Path) -> None:
    models = pytest.importorskip("torchxrayvision.models", reason="torchxrayvision is not installed")
    network = models.DenseNet(4, (1, 2, 1), 8, 2, num_classes=3, op_threshs=torch.rand(3))
    assert declared_by(network, tmp_path) == (None, None)


def test_what_is_left_out_is_not_looked_at(tmp_path: Path) -> None:
    decoder = nn.Sequential(nn.ConvTranspose2d(3, 3, 2), nn.LeakyReLU())
    network = Wrapper(encoder=torchvision_network(), decoder=decoder, tanh=nn.Tanh())
    assert declared_by(network, tmp_path, only="encoder.") == (None, None)
    replaced("features.pool0", nn.Identity())(network.get_submodule("encoder"))
    with pytest.raises(ArchitectureError, match=r"encoder.features.pool0 is .*Identity"):
        declared_by(network, tmp_path, only="encoder.")


def test_a_last_sigmoid_says_how_the_logits_are_to_be_read(tmp_path: Path) -> None:
    network = torchvision_network()
    assert declared_by(Wrapper(model=network, sigmoid=nn.Sigmoid()), tmp_path) == (None, MULTI_LABEL)
    network.classifier = nn.Sequential(network.classifier, nn.Sigmoid())  # type: ignore[arg-type]
    written = dc.convert(save(network, tmp_path / "sigmoid.pth"), tmp_path / "new", device="cpu")
    content = json.loads((written.folder / "config.json").read_bytes())
    assert content["problem_type"] == MULTI_LABEL


@pytest.mark.parametrize("source", ["torchvision", "monai"])
def test_an_epsilon_that_all_share_is_the_converted_network_s(source: str, tmp_path: Path) -> None:
    network = (
        torchvision_network() if source == "torchvision" else monai_network(norm=("batch", {"eps": 1e-2}))
    )
    path = save(with_epsilon(network, 1e-2).eval(), tmp_path / "old.pth")
    written = dc.convert(path, tmp_path / "new", device="cpu")
    assert written.receipt["config"]["norm_eps"] == 1e-2
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(DenseNet.from_pretrained(written.folder)(images), network(images))
    assert dc.verify(tmp_path / "new", device="cpu")
    assert dc.verify(tmp_path / "new", source=path, device="cpu")


def scaled(_: nn.Module, inputs: Any) -> Any:
    return (inputs[0] * 10,)


@pytest.mark.parametrize("path", ["", "features.denseblock1.denselayer1", "features.pool0", "classifier"])
@pytest.mark.parametrize("what", ["_forward_pre_hooks", "_forward_hooks", "forward"])
def test_a_module_that_does_more_than_its_class_is_refused(path: str, what: str, tmp_path: Path) -> None:
    network = torchvision_network()
    module = network.get_submodule(path)
    if what == "forward":
        module.forward = scaled  # type: ignore[method-assign]
    elif what == "_forward_hooks":
        module.register_forward_hook(print)
    else:
        module.register_forward_pre_hook(scaled)
    named = path.replace(".", r"\.") or "The whole module"
    with pytest.raises(ArchitectureError, match=rf"{named} \(.*\) has {what}, which may change"):
        declared_by(network, tmp_path)


def test_a_named_layer_before_the_head_is_not_left_out(tmp_path: Path) -> None:
    network = torchvision_network()
    width = network.classifier.in_features
    network.classifier = nn.Sequential()  # type: ignore[assignment]
    network.classifier.add_module("norm", nn.BatchNorm1d(width))
    network.classifier.add_module("fc", nn.Linear(width, 3))
    for key in ("module", "state"):
        content = network if key == "module" else network.state_dict()
        with pytest.raises(LayoutError, match=r"classifier\.norm\.weight is of the network"):
            dc.convert(save(content, tmp_path / f"{key}.pth"), tmp_path / "new", only="", device="cpu")


@pytest.mark.parametrize("head", ["classifier", "fc"])
def test_a_layer_behind_the_head_is_not_left_out(head: str, tmp_path: Path) -> None:
    network = in_sequence("features", "relu", "pool", "flat")
    classifier = torchvision_network().classifier
    network.add_module(head, classifier)
    network.add_module("extra", nn.Linear(classifier.out_features, 2))
    with pytest.raises(ArchitectureError, match="extra is .*Linear, where a DenseNet has nothing"):
        declared_by(network, tmp_path, only="")


def test_stubs_that_nothing_is_attached_to_do_nothing(tmp_path: Path) -> None:
    network = torchvision_network()
    network.quant, network.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
    assert declared_by(network, tmp_path) == (None, None)


def test_hooks_of_what_is_left_out_are_nobody_s_business(tmp_path: Path) -> None:
    decoder = nn.Linear(2, 2)
    decoder.register_forward_pre_hook(scaled)
    network = Wrapper(encoder=torchvision_network(), decoder=decoder)
    assert declared_by(network, tmp_path, only="encoder.") == (None, None)
    network.encoder.register_forward_pre_hook(scaled)  # type: ignore[union-attr, operator]
    with pytest.raises(ArchitectureError, match=r"encoder \(.*\) has _forward_pre_hooks"):
        declared_by(network, tmp_path, only="encoder.")


@pytest.mark.parametrize(
    ("behind", "refused"),
    [
        ([nn.Sigmoid(), nn.Sigmoid()], "Sigmoid"),
        ([nn.Softmax(dim=1), nn.Sigmoid()], "Sigmoid"),
        ([nn.Softmax(dim=0)], "Softmax"),
        ([nn.Softmax(dim=1)], None),
        ([nn.Softmax(dim=-1)], None),
    ],
)
def test_the_logits_are_read_once_and_over_the_classes(
    behind: list[nn.Module], refused: str | None, tmp_path: Path
) -> None:
    network = torchvision_network()
    network.classifier = nn.Sequential(network.classifier, *behind)  # type: ignore[arg-type]
    if refused is None:
        assert declared_by(network, tmp_path) == (None, None)
        return
    with pytest.raises(ArchitectureError, match=rf"{refused}, where a DenseNet has nothing"):
        declared_by(network, tmp_path)


def test_a_state_dict_tells_nothing(tmp_path: Path) -> None:
    network = with_epsilon(torchvision_network(), 1e-2)
    checkpoint = read_checkpoint(save(network.state_dict(), tmp_path / "old.pth"))
    assert not checkpoint.layers
    reading = identify_layout(checkpoint.tensors, known_layouts())
    assert read_declared(checkpoint.layers, checkpoint.format, reading)[:2] == (None, None)


# Keras is imported with torch behind it, and so in a process of its own.
WRITE = """
import warnings
warnings.simplefilter("ignore")
import keras
from keras import layers as L
from keras.src.applications.densenet import DenseNet

def net(**more):
    return DenseNet([1, 1, 1, 1], weights=None, input_shape=(64, 64, 3), **{"classes": 3, **more})

def changed(kind, make, name=None):
    def clone(layer):
        config = layer.get_config()
        fits = type(layer).__name__ == kind and name in (None, layer.name)
        return make(config) if fits else type(layer).from_config(config)
    return keras.models.clone_model(net(), clone_function=clone)

def nested(*before, after=(), head=None, **more):
    inner = net(include_top=False, name="densenet121", **{"pooling": "avg", **more})
    last = L.Dense(2, activation=head, name="predictions")
    return keras.Sequential([keras.Input((64, 64, 3)), *before, inner, *after, last])

def setting(kind, name=None, **new):
    return changed(kind, lambda config: getattr(L, kind).from_config({**config, **new}), name)

def deeper():
    inner = net(include_top=False, pooling="avg", name="densenet121")
    middle = keras.Sequential([keras.Input((64, 64, 3)), inner], name="middle")
    return keras.Sequential([keras.Input((64, 64, 3)), middle, L.Dense(2, name="predictions")])

def outputs(hidden=()):
    inner = net(include_top=False, pooling="avg", name="densenet121")
    images = keras.Input((64, 64, 3))
    found = inner(images)
    other = found
    for layer in hidden:
        other = layer(other)
    heads = [L.Dense(2, activation="relu", name="age")(other), L.Dense(3, name="sex")(found)]
    aux = L.Dense(2, name="aux")(L.GlobalMaxPooling2D()(L.Conv2D(4, 3)(images)))
    return keras.Model(images, [*heads, aux])

models = {
    "outputs": outputs(),
    "hidden": outputs([L.Dense(net(include_top=False, pooling="avg").output.shape[-1], name="middle")]),
    "epsilon": setting("BatchNormalization", epsilon=1e-2),
    "one_epsilon": setting("BatchNormalization", "conv1_bn", epsilon=1e-2),
    "elu": setting("Activation", "conv1_relu", activation="elu"),
    "leaky": changed("Activation", lambda config: L.LeakyReLU(name="relu"), "relu"),
    "relu6": changed("Activation", lambda config: L.ReLU(max_value=6, name="relu"), "relu"),
    "relu_layer": changed("Activation", lambda config: L.ReLU(name=config["name"])),
    "max_transition": changed("AveragePooling2D", L.MaxPooling2D.from_config),
    "stride": setting("Conv2D", "conv1_conv", strides=(1, 1)),
    "activated": setting("Conv2D", "conv2_block1_1_conv", activation="relu"),
    "padding": setting("ZeroPadding2D", padding=((3, 3), (3, 3))),
    "pooling_max": net(include_top=False, pooling="max"),
    "global_max": nested(after=[L.GlobalMaxPooling2D()], pooling=None),
    "rescaling": nested(L.Rescaling(1 / 255)),
    "normalization": nested(L.Normalization(mean=[0.5] * 3, variance=[0.2] * 3)),
    "tanh": net(classifier_activation="tanh"),
    "softmax": net(),
    "linear": net(classifier_activation=None),
    "sigmoid": net(classifier_activation="sigmoid"),
    "top_none": net(include_top=False),
    "top_average": net(include_top=False, pooling="avg"),
    "nested": nested(L.RandomFlip(), after=[L.Dropout(0.5)], head="sigmoid"),
    "nested_average": nested(after=[L.GlobalAveragePooling2D()], pooling=None, head="softmax"),
    "deeper": deeper(),
    "normed": nested(after=[L.BatchNormalization(name="between")]),
}
keras.config.set_dtype_policy("mixed_float16")
models["mixed"] = net()
for name, model in models.items():
    model.save(f"{name}.keras")
    model.save(f"{name}.h5")
models["elu"].save_weights("elu.weights.h5")
"""


@pytest.fixture(scope="module")
def written_by_keras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (
        find_spec("keras") is None or find_spec("h5py") is None
    ):  # it can't be imported here, without a backend
        pytest.skip("Keras is not installed")
    folder = tmp_path_factory.mktemp("keras")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", WRITE], cwd=folder, env=environment, check=True)
    return folder


def declared_by_keras(path: Path) -> tuple[float | None, str | None]:
    checkpoint = read_checkpoint(path)
    assert checkpoint.layers
    reading = identify_layout(checkpoint.tensors, known_layouts())
    return read_declared(checkpoint.layers, checkpoint.format, reading)[:2]


REFUSED = {
    "one_epsilon": r"conv1_bn \(BatchNormalization\) has eps 0.01, expected 1.001e-05",
    "elu": "conv1_relu is Activation with the activation elu, expected a ReLU",
    "leaky": "relu is LeakyReLU, expected a ReLU",
    "relu6": "relu is ReLU with max_value 6, expected a ReLU",
    "max_transition": "pool2_pool is MaxPooling2D, expected average pooling",
    "stride": r"conv1_conv \(Conv2D\) has stride \(1, 1\), expected 2",
    "activated": "conv2_block1_1_conv is Conv2D with the activation relu, where a DenseNet has nothing",
    "padding": r"pool1 \(MaxPooling2D\) has padding 3, expected 1",
    "pooling_max": "max_pool is GlobalMaxPooling2D, where a DenseNet has nothing",
    "global_max": "GlobalMaxPooling2D, expected global average pooling",
    "rescaling": "rescaling is Rescaling, where a DenseNet has nothing",
    "normalization": "normalization is Normalization, where a DenseNet has nothing",
    "tanh": "predictions is Dense with the activation tanh, where a DenseNet has nothing",
}
TAKEN: dict[str, tuple[float | None, str | None]] = {
    **dict.fromkeys(("softmax", "linear", "top_none", "top_average"), (None, None)),
    **dict.fromkeys(("relu_layer", "nested_average", "deeper", "mixed"), (None, None)),
    **dict.fromkeys(("sigmoid", "nested"), (None, MULTI_LABEL)),
    "epsilon": (1e-2, None),
}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_keras_model_of_another_function_is_refused_by_its_layer(
    name: str, suffix: str, written_by_keras: Path
) -> None:
    with pytest.raises(ArchitectureError, match=f"{REFUSED[name]}.* would be another function"):
        declared_by_keras(written_by_keras / f"{name}.{suffix}")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", TAKEN)
def test_a_keras_densenet_tells_its_epsilon_and_its_sigmoid(
    name: str, suffix: str, written_by_keras: Path
) -> None:
    checkpoint = read_checkpoint(written_by_keras / f"{name}.{suffix}")
    network = identify_network(checkpoint, Options())
    assert (network.norm_eps, network.problem_type) == TAKEN[name]
    assert network.assumptions == ()


def test_a_keras_model_of_another_epsilon_is_held_against_keras_own(
    written_by_keras: Path, tmp_path: Path
) -> None:
    source, folder = written_by_keras / "epsilon.keras", tmp_path / "new"
    code = (
        f"import densenet_convert as dc; dc.convert({str(source)!r}, {str(folder)!r}, device='cpu')\n"
        f"dc.verify({str(folder)!r}, device='cpu')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    receipt = json.loads((folder / "conversion.json").read_bytes())
    assert receipt["config"]["norm_eps"] == 1e-2
    assert 0 <= receipt["verification"]["library"]["relative_difference"] < 1e-12


def test_weights_of_keras_alone_tell_nothing(written_by_keras: Path) -> None:
    assert not read_checkpoint(written_by_keras / "elu.weights.h5").layers


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_layer_of_keras_before_the_head_is_not_left_out(written_by_keras: Path, suffix: str) -> None:
    checkpoint = read_checkpoint(written_by_keras / f"normed{suffix}")
    names = checkpoint.tensors
    reading = identify_layout(names, known_layouts(), only="densenet121/", head="predictions")
    with pytest.raises(
        ArchitectureError, match="between is BatchNormalization, where a DenseNet has nothing"
    ):
        read_declared(checkpoint.layers, checkpoint.format, reading)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_of_several_outputs_of_keras_each_is_held_against_its_own_way(
    written_by_keras: Path, suffix: str
) -> None:
    def declared_of(name: str, head: str) -> tuple[float | None, str | None]:
        checkpoint = read_checkpoint(written_by_keras / f"{name}{suffix}")
        network = identify_network(checkpoint, Options(only="densenet121/", head=head))
        assert network.assumptions == ()
        return network.norm_eps, network.problem_type

    assert declared_of("outputs", "sex") == declared_of("hidden", "sex") == (None, None)
    with pytest.raises(ArchitectureError, match="age is Dense with the activation relu"):
        declared_of("outputs", "age")
    with pytest.raises(ArchitectureError, match="middle is Dense, where a DenseNet has nothing"):
        declared_of("hidden", "age")
