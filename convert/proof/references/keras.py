"""Keras' DenseNet: its weights in torchvision's own modules, and the real one to compare with.

The proof looks at a reference layer by layer, so that it must be made of torch's modules.  Keras' weights
are put into torchvision's network here, in the order in which Keras' own code names its layers and
without the converter's table.  Where Keras is installed, ``keras_function`` shows that this is its function.

Source: ``keras/src/applications/densenet.py`` of Keras 3.15.1.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...temporary import temporary_folder
from ...tensors import dtype_name
from .ported import KERAS, blocks_of, load_in_order, names_in_order
from .trees import tree_of_today

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig

log = logging.getLogger("densenet_convert")

NORM_EPS = 1.001e-5
STEM = ("conv1_conv", "conv1/conv")  # of Keras 3, and of Keras 2
HEAD = "predictions"
# Settings that are fixed in Keras' code.
GROWTH_RATE, STEM_WIDTH, BOTTLENECK, BLOCKS = 32, 64, 4, 4


def keras_tree(config: DenseNetConfig) -> nn.Module:
    """torchvision's DenseNet on the meta device, with Keras' epsilon.

    Keras pads the stem by (3, 3) as torchvision does.  It pads with zeros before the first pooling, where
    torchvision's pooling ignores what is outside; behind a ReLU the two are the same.
    """
    network = tree_of_today(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = NORM_EPS
    return network


def load_keras(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts Keras' tensors into torchvision's network, strictly.

    Args:
        network: what ``keras_tree`` returned.
        tensors: under Keras' names, without a prefix, in its order of axes.

    Raises:
        RuntimeError: one is missing, left over or of another shape.
    """
    head = "fc1000" if "fc1000/kernel" in tensors else HEAD
    load_in_order(network, tensors, _names(network, _stem(tensors), head), KERAS)


def _stem(names: Mapping[str, Tensor]) -> str:
    """Returns the name of the first convolution."""
    for stem in STEM:
        if f"{stem}/kernel" in names:
            return stem
    raise RuntimeError(f"{STEM[0]}/kernel is missing")


def keras_names(config: DenseNetConfig) -> list[str]:
    """Returns Keras' names of all tensors, in the order of its layers."""
    network = keras_tree(config)
    return names_in_order(network, _names(network, STEM[0], HEAD), KERAS)


def _names(network: nn.Module, stem: str, head: str) -> Iterator[str]:
    """Yields the names that Keras' code gives to these layers, in the order in which it makes them."""
    yield stem
    yield stem.removesuffix("conv") + "bn"
    blocks = blocks_of(network)
    for stage, layers in enumerate(blocks, start=2):
        for layer in range(layers):
            name = f"conv{stage}_block{layer + 1}"
            yield from (f"{name}_0_bn", f"{name}_1_conv", f"{name}_1_bn", f"{name}_2_conv")
        if stage <= len(blocks):
            yield from (f"pool{stage}_bn", f"pool{stage}_conv")
    yield "bn"
    if isinstance(network.classifier, nn.Linear):
        yield head


def keras_function(
    tensors: Mapping[str, Tensor], config: DenseNetConfig, images: Tensor
) -> tuple[Tensor, str]:
    """Returns the outputs of Keras' own network for some images, and which Keras that is.

    Args:
        tensors: under the names of Keras 2 or 3, in its order of axes.
        config: of the network.
        images: NCHW, float64.

    Raises:
        ImportError: Keras is not installed, was imported with another backend than torch, or its code makes
            no such network.
    """
    keras = _keras_on_torch()
    fixed = (config.growth_rate, config.num_init_features, config.bn_size)
    if fixed != (GROWTH_RATE, STEM_WIDTH, BOTTLENECK) or len(config.block_config) != BLOCKS:
        raise ImportError(f"keras.applications makes no network such as {config}")
    outputs = keras_outputs(_in_names_of_today(tensors), config, images)
    return outputs, f"Keras' own network, Keras {keras.__version__} on torch"


def _keras_on_torch() -> Any:
    """Keras, which as it is first imported reads the environment, and writes a file of its settings."""
    if "keras" in sys.modules:
        keras = sys.modules["keras"]
    else:
        with temporary_folder() as home:
            # Keras would take a GPU where it finds one, and Apple's computes no float64.
            wanted = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(home), "KERAS_TORCH_DEVICE": "cpu"}
            kept = {name: os.environ.get(name) for name in wanted}
            os.environ.update(wanted)
            try:
                keras = import_module("keras")
            except ModuleNotFoundError:
                raise
            except Exception as error:  # whatever a broken installation raises
                log.warning("Keras can't be imported, nor compared with: %r", error)
                raise ImportError(str(error)) from error
            finally:
                for name, value in kept.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})
    backend = keras.config.backend() if hasattr(keras, "config") else "TensorFlow, as Keras 2 does"
    if backend != "torch":
        raise ImportError(f"Keras runs on {backend}")
    return keras


def _in_names_of_today(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of Keras 3."""
    before = _stem(tensors).removesuffix("conv")
    today = {}
    for name, tensor in tensors.items():
        name = name.replace(before, "conv1_", 1) if name.startswith(before) else name
        today[name.replace("fc1000/", "predictions/", 1)] = tensor
    return today


def keras_outputs(tensors: Mapping[str, Tensor], config: DenseNetConfig, images: Tensor) -> Tensor:
    """The logits of Keras' own network, or its pooled features, computed in the dtype of ``images``.

    Args:
        tensors: under the names of Keras 3, in its order of axes.
        config: of the network.
        images: NCHW.

    Raises:
        ValueError: the tensors are not its weights.
    """
    import keras  # type: ignore[import-untyped, unused-ignore]

    # The general one has no public name.
    from keras.src.applications.densenet import DenseNet  # type: ignore[import-untyped, unused-ignore]

    with _computing_in(dtype_name(images)):
        network = DenseNet(
            list(config.block_config),
            include_top=bool(config.num_classes),
            weights=None,
            input_shape=(*images.shape[2:], config.in_channels),
            pooling="avg",
            classes=config.num_classes or 1,
            classifier_activation=None,
        )
        _fill(network, tensors, config.norm_eps)
        with torch.no_grad():
            outputs = network(images.permute(0, 2, 3, 1).contiguous().numpy(), training=False)
    return torch.from_numpy(keras.ops.convert_to_numpy(outputs))


@contextmanager
def _computing_in(dtype: str) -> Iterator[None]:
    """Has Keras make networks that compute in ``dtype``, and round nothing to a smaller one on the way."""
    import keras
    from keras.src.backend.common import dtypes  # type: ignore[import-untyped, unused-ignore]

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    # With torch behind it, Keras makes 32 bits of 64 within a layer; with TensorFlow it does not.
    narrowed = dtypes.BIT64_TO_BIT32_DTYPE["float64"]
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = narrowed


def _fill(network: Any, tensors: Mapping[str, Tensor], norm_eps: float) -> None:
    import keras

    left = dict(tensors)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = norm_eps
        names = [f"{layer.name}/{variable.name}" for variable in layer.weights]
        if not left.keys() >= set(names):
            raise ValueError(f"the weights of {layer.name} are missing")
        layer.set_weights([left.pop(name).detach().cpu().numpy() for name in names])
    if left:
        raise ValueError(f"{len(left)} tensors are left over: {', '.join(list(left)[:4])}")
