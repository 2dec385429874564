"""Keras' own network and the converted one are one function, on Keras' own files."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL

from densenet_convert.densenet import DenseNet, DenseNetConfig
from densenet_convert.errors import ParityError
from densenet_convert.proof.references.keras import keras_names, keras_tree, load_keras
from densenet_convert.proof.references.library_outputs import compare_with_library

CONFIG = DenseNetConfig(block_config=(1, 2, 1, 1), num_classes=5, norm_eps=1.001e-5)

# Keras is imported with torch behind it, and so in a process of its own.
COMPARE = """
import json, sys, warnings
warnings.simplefilter("ignore")
from functools import partial
from pathlib import Path
import keras, numpy as np, torch
from keras.src.applications.densenet import DenseNet
from densenet_convert.formats.keras import read_hdf5
from densenet_convert.formats.untrusted import Budget
from densenet_convert.layouts.network import identify_network
from densenet_convert.proof.load import load_model
from densenet_convert.errors import ParityError
from densenet_convert.proof.references.keras import keras_function, keras_outputs, keras_tree, load_keras
from densenet_convert.proof.references.library_outputs import compare_with_library
from densenet_convert.records import Checkpoint, Options
from densenet_convert.layouts.rename import rename_tensors

def compared(blocks, top):
    network = DenseNet(
        blocks, include_top=top, weights=None, pooling="avg", classes=5, input_shape=(64, 64, 3)
    )
    rng = np.random.default_rng(0)
    for layer in network.layers:
        draw = [rng.uniform(0.5, 1.5, w.shape) if w.name in ("gamma", "moving_variance")
                else rng.normal(0, 0.1, w.shape) if w.name in ("beta", "moving_mean", "bias")
                else w.numpy() for w in layer.weights]
        layer.set_weights(draw)
    network.save_weights("network.weights.h5")
    data = Path("network.weights.h5").read_bytes()
    raw = read_hdf5(data, Budget(len(data))).pairs
    tensors = {n: torch.frombuffer(bytearray(t.row_major()), dtype=getattr(torch, t.dtype)).reshape(t.shape)
               for n, t in raw}
    checkpoint = Checkpoint(tensors, {}, "", len(data), "keras-h5")
    network = identify_network(checkpoint, Options(layout="keras-applications"))
    config = network.config
    model = load_model(rename_tensors(checkpoint, network.reading), config).model
    reference = keras_tree(config)
    load_keras(reference, tensors)
    reference.eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        equal = torch.equal(model(images), reference(images))
    single = torch.rand(2, 3, 97, 64)
    yardstick = keras_outputs(tensors, config, single.double())
    own = (keras_outputs(tensors, config, single).double() - yardstick).abs().max().item()
    with torch.no_grad():
        half = (model(single).double() - yardstick).abs().max().item()
    outputs = partial(keras_function, tensors, config)
    name, double = compare_with_library(model, 3, outputs)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    try:
        wrong = compare_with_library(model, 3, outputs)[1]
    except ParityError as error:
        wrong = error.largest
    return {"config": config.block_config, "eps": config.norm_eps, "classes": config.num_classes,
                      "equal": equal, "single": half, "own": own, "double": double, "wrong": wrong,
                      "name": name, "scale": yardstick.abs().max().item()}

print(json.dumps([compared(*case) for case in json.loads(sys.argv[1])]))
"""


def test_keras_own_network_is_the_converted_function(tmp_path: Path) -> None:
    if find_spec("keras") is None:  # it can't be imported here, where it has no backend
        pytest.skip("Keras is not installed")
    cases = [(blocks, top) for blocks in ([1, 2, 1, 1], [6, 12, 24, 16]) for top in (True, False)]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "torch",
        "KERAS_HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    # One process for all: importing Keras takes longer than any of them.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPARE, json.dumps(cases)],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    for (blocks, top), found in zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert (found["config"], found["eps"], found["classes"]) == (blocks, 1.001e-5, 5 if top else 0)
        # torchvision's modules with the weights that Keras' order of layers gives them
        assert found["equal"], (blocks, top)
        # Outputs are of the order of 1, and double precision has 16 digits.
        assert found["double"] < 1e-12 * max(1, found["scale"]), (blocks, top)
        # In single precision it is as near to the exact function as Keras itself is.
        assert found["single"] < 4 * found["own"] + 1e-7, (blocks, top)
        assert found["name"].startswith("Keras' own network, Keras 3.")
        # And torchvision's epsilon is seen.
        assert found["wrong"] > 1000 * found["double"], (blocks, top)


def weights() -> dict[str, torch.Tensor]:
    """Under Keras' names and in its order of axes, written out by hand."""
    named: dict[str, torch.Tensor] = {"conv1_conv/kernel": torch.rand(7, 7, 3, 64)}

    def norm(name: str, width: int) -> None:
        for field in ("gamma", "beta", "moving_mean", "moving_variance"):
            named[f"{name}/{field}"] = torch.rand(width)

    norm("conv1_bn", 64)
    width = 64
    for stage, layers in enumerate(CONFIG.block_config, start=2):
        for layer in range(1, layers + 1):
            norm(f"conv{stage}_block{layer}_0_bn", width)
            named[f"conv{stage}_block{layer}_1_conv/kernel"] = torch.rand(1, 1, width, 128)
            norm(f"conv{stage}_block{layer}_1_bn", 128)
            named[f"conv{stage}_block{layer}_2_conv/kernel"] = torch.rand(3, 3, 128, 32)
            width += 32
        if stage < 5:
            norm(f"pool{stage}_bn", width)
            named[f"pool{stage}_conv/kernel"] = torch.rand(1, 1, width, width // 2)
            width //= 2
    norm("bn", width)
    named["predictions/kernel"], named["predictions/bias"] = torch.rand(width, 5), torch.rand(5)
    return named


def test_the_names_are_those_of_keras_in_its_order() -> None:
    assert keras_names(CONFIG) == list(weights())
    assert keras_names(replace(CONFIG, num_classes=0)) == list(weights())[:-2]


def test_the_reference_takes_each_tensor_to_its_place() -> None:
    named = weights()
    network = keras_tree(CONFIG)
    load_keras(network, named)
    state = network.state_dict()
    assert torch.equal(state["features.conv0.weight"][5, 2], named["conv1_conv/kernel"][:, :, 2, 5])
    assert torch.equal(
        state["features.denseblock2.denselayer2.norm1.running_var"],
        named["conv3_block2_0_bn/moving_variance"],
    )
    assert torch.equal(state["features.transition3.norm.bias"], named["pool4_bn/beta"])
    assert torch.equal(state["classifier.weight"], named["predictions/kernel"].T)


def in_names_of_keras_2(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.replace("conv1_", "conv1/", name.startswith("conv1_")).replace("predictions", "fc1000"): tensor
        for name, tensor in named.items()
    }


def test_the_reference_takes_the_names_of_keras_2() -> None:
    named = in_names_of_keras_2(weights())
    assert {"conv1/conv/kernel", "conv1/bn/gamma", "fc1000/bias"} <= set(named)
    load_keras(keras_tree(CONFIG), named)


@pytest.mark.parametrize(
    "name", ["conv1_conv/kernel", "conv3_block2_1_bn/beta", "bn/gamma", "predictions/bias"]
)
def test_the_reference_does_not_do_without_a_tensor(name: str) -> None:
    named = weights()
    del named[name]
    with pytest.raises(RuntimeError, match=f"{name} is missing"):
        load_keras(keras_tree(CONFIG), named)


def test_the_reference_leaves_no_tensor_over() -> None:
    with pytest.raises(RuntimeError, match="1 tensors are left over: conv2_block2_0_bn/gamma"):
        load_keras(keras_tree(CONFIG), {**weights(), "conv2_block2_0_bn/gamma": torch.rand(96)})


def test_the_reference_takes_no_tensor_of_another_shape() -> None:
    with pytest.raises(RuntimeError, match="size mismatch|shape"):
        load_keras(keras_tree(CONFIG), {**weights(), "predictions/kernel": torch.rand(5, 48)})
    with pytest.raises(RuntimeError, match="conv1_conv/kernel has shape"):
        load_keras(keras_tree(CONFIG), {**weights(), "conv1_conv/kernel": torch.rand(64)})


@pytest.mark.parametrize("names", ["Keras 3", "Keras 2"])
def test_the_command_holds_the_network_against_keras_own(names: str, tmp_path: Path) -> None:
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    content = weights()
    if names == "Keras 2":
        content = in_names_of_keras_2(content)
    source = tmp_path / "keras.pkl"
    source.write_bytes(pickle.dumps({f"model/{name}": tensor.numpy() for name, tensor in content.items()}))
    code = (
        f"import densenet_convert as dc; dc.convert({str(source)!r}, {str(tmp_path / 'new')!r}, device='cpu')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    receipt = json.loads((tmp_path / "new" / "conversion.json").read_text())
    assert receipt["source"]["layout"] == "keras-applications"
    library = receipt["verification"]["library"]
    assert library["name"].startswith("Keras' own network, Keras 3.")
    assert 0 <= library["relative_difference"] < 1e-12
    assert not list(tmp_path.glob("**/keras.json"))


def test_another_function_than_the_library_s_is_a_failed_parity() -> None:
    network = DenseNet(SMALL).eval()

    def theirs(images: torch.Tensor) -> tuple[torch.Tensor, str]:
        with torch.no_grad():
            return deepcopy(network).double()(images) + 1e-9, "the library's own"

    with pytest.raises(ParityError, match="is not the library's own: in float64 the largest difference"):
        compare_with_library(network, 3, theirs)


@pytest.mark.parametrize("outputs", [torch.full((2, 5), float("nan")), torch.zeros(2, 4)])
def test_outputs_of_another_shape_or_without_a_value_are_a_failed_parity(outputs: torch.Tensor) -> None:
    network = DenseNet(SMALL).eval()
    with pytest.raises(ParityError, match="largest difference of an output is"):
        compare_with_library(network, 3, lambda _: (outputs.double(), "the library's own"))


def test_a_library_that_is_not_installed_is_not_compared() -> None:
    def missing(_: torch.Tensor) -> tuple[torch.Tensor, str]:
        raise ImportError

    assert compare_with_library(DenseNet(SMALL).eval(), 3, missing) is None
