"""Keras' DenseNet: its weights in torchvision's own modules, and the real one to compare with.

The proof looks at a reference layer by layer, so that it must be made of torch's modules.  Keras' weights
are put into torchvision's network here, in the order in which Keras' own code names its layers and
without the converter's table.  That this is Keras' function is shown by ``compare_with_keras``.

Source: ``keras/src/applications/densenet.py`` of Keras 3.15.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .trees import tree_of_today

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig

NORM_EPS = 1.001e-5
STEM = ("conv1_conv", "conv1/conv")  # of Keras 3, and of Keras 2
# What Keras' code fixes.
GROWTH_RATE, STEM_WIDTH, BOTTLENECK, BLOCKS, CHANNELS = 32, 64, 4, 4, 3
# Odd and even, for the two differ where padding is at one side only.
IMAGES = (2, CHANNELS, 97, 64)


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
        tensors: under Keras' names, in its order of axes.

    Raises:
        RuntimeError: one is missing, left over or of another shape.
    """
    left = dict(tensors)
    prefix, stem = _beginning(left)
    state: dict[str, Tensor] = {}

    def take(name: str, order: tuple[int, ...] | None = None) -> Tensor:
        if (tensor := left.pop(f"{prefix}{name}", None)) is None:
            raise RuntimeError(f"{prefix}{name} is missing")
        if order is not None and tensor.ndim != len(order):
            raise RuntimeError(f"{prefix}{name} has shape {list(tensor.shape)}")
        return tensor if order is None else tensor.permute(order).contiguous()

    for (path, module), name in zip(_layers(network), _names(network, stem), strict=True):
        if isinstance(module, nn.BatchNorm2d):
            state[f"{path}.weight"] = take(f"{name}/gamma")
            state[f"{path}.bias"] = take(f"{name}/beta")
            state[f"{path}.running_mean"] = take(f"{name}/moving_mean")
            state[f"{path}.running_var"] = take(f"{name}/moving_variance")
            state[f"{path}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        elif isinstance(module, nn.Conv2d):
            state[f"{path}.weight"] = take(f"{name}/kernel", (3, 2, 0, 1))
        else:
            head = "fc1000" if f"{prefix}fc1000/kernel" in left else name
            state[f"{path}.weight"] = take(f"{head}/kernel", (1, 0))
            state[f"{path}.bias"] = take(f"{head}/bias")
    if left:
        raise RuntimeError(f"{len(left)} tensors are left over: {', '.join(list(left)[:4])}")
    network.load_state_dict(state, strict=True, assign=True)


def _beginning(names: Mapping[str, Tensor]) -> tuple[str, str]:
    """What stands before every name, and how the stem is called."""
    for name in names:
        for stem in STEM:
            if f"/{name}".endswith(f"/{stem}/kernel"):
                return name.removesuffix(f"{stem}/kernel"), stem
    raise RuntimeError(f"{STEM[0]}/kernel is missing")


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What holds parameters, in running order, which is that of torchvision's modules."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            yield path, module


def keras_names(config: DenseNetConfig) -> list[str]:
    """What Keras calls each tensor, in the order of its layers."""
    network = keras_tree(config)
    fields = {
        nn.BatchNorm2d: ("gamma", "beta", "moving_mean", "moving_variance"),
        nn.Conv2d: ("kernel",),
        nn.Linear: ("kernel", "bias"),
    }
    layers = zip(_layers(network), _names(network, STEM[0]), strict=True)
    return [f"{name}/{field}" for (_, module), name in layers for field in fields[type(module)]]


def _names(network: nn.Module, stem: str) -> Iterator[str]:
    """What Keras' code calls these layers, in the order in which it makes them."""
    yield stem
    yield stem.removesuffix("conv") + "bn"
    features = network.get_submodule("features")
    blocks = [len(block) for block in features.children() if isinstance(block, nn.ModuleDict)]
    for stage, layers in enumerate(blocks, start=2):
        for layer in range(layers):
            name = f"conv{stage}_block{layer + 1}"
            yield from (f"{name}_0_bn", f"{name}_1_conv", f"{name}_1_bn", f"{name}_2_conv")
        if stage <= len(blocks):
            yield from (f"pool{stage}_bn", f"pool{stage}_conv")
    yield "bn"
    if isinstance(network.classifier, nn.Linear):
        yield "predictions"


def compare_with_keras(tensors: Mapping[str, Tensor], config: DenseNetConfig, model: nn.Module) -> float:
    """The largest difference between a network's outputs and those of Keras' own, in float64.

    Keras must run on torch: ``KERAS_BACKEND=torch`` in the environment before its first import.

    Args:
        tensors: under the names of Keras 3, in its order of axes.
        config: of the network.
        model: the converted network, in eval mode on the CPU, of any dtype.

    Raises:
        ImportError: Keras is not installed.
        ValueError: Keras' code makes no such network, or the tensors are not its weights.
    """
    dtype = next(model.parameters()).dtype
    images = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # What the network sees, rounding included.
    images = images.to(dtype)
    with torch.no_grad():
        ours = model(images).double()
    return float((ours - keras_outputs(tensors, config, images.double())).abs().max())


def keras_outputs(tensors: Mapping[str, Tensor], config: DenseNetConfig, images: Tensor) -> Tensor:
    """The logits of Keras' own network, or its pooled features, computed in the dtype of ``images``.

    Args:
        tensors: as for ``compare_with_keras``; raises as that does.
        config: of the network.
        images: NCHW.
    """
    import keras  # type: ignore[import-untyped, unused-ignore]

    # The general one has no public name.
    from keras.src.applications.densenet import DenseNet  # type: ignore[import-untyped, unused-ignore]

    fixed = (config.growth_rate, config.num_init_features, config.bn_size)
    if fixed != (GROWTH_RATE, STEM_WIDTH, BOTTLENECK) or len(config.block_config) != BLOCKS:
        raise ValueError(f"keras.applications makes no network such as {config}")
    with _computing_in(str(images.dtype).removeprefix("torch.")):
        network = DenseNet(
            list(config.block_config),
            include_top=bool(config.num_classes),
            weights=None,
            input_shape=(*images.shape[2:], config.in_channels),
            pooling="avg",
            classes=config.num_classes or 1,
            classifier_activation=None,
        )
        _fill(network, tensors)
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


def _fill(network: Any, tensors: Mapping[str, Tensor]) -> None:
    left = dict(tensors)
    for layer in network.layers:
        names = [f"{layer.name}/{variable.name}" for variable in layer.weights]
        if not left.keys() >= set(names):
            raise ValueError(f"the weights of {layer.name} are missing")
        layer.set_weights([left.pop(name).detach().cpu().numpy() for name in names])
    if left:
        raise ValueError(f"{len(left)} tensors are left over: {', '.join(list(left)[:4])}")
