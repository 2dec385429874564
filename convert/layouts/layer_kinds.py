"""Says what each layer of a file does, in the words of a DenseNet.

Torch's classes are compared by name, and so are those of others that bear the same; a layer of Keras
counts as all that it does, a convolution with an activation as two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ..formats.modules import Layer

NORM, CONV, LINEAR, RELU = "batch normalisation", "a plain convolution", "a linear layer", "a ReLU"
MAX, AVERAGE, GLOBAL = "max pooling", "average pooling", "global average pooling"
SIGMOID, SOFTMAX, PAD = "sigmoid", "softmax", "padding"
# Layers that do nothing when a trained network runs, and layers that are not known here.
NOTHING, OTHER = "", "?"

TORCH = {
    **dict.fromkeys(("BatchNorm2d", "SyncBatchNorm", "BatchNormAct2d", "SyncBatchNormAct"), NORM),
    **dict.fromkeys(("FrozenBatchNorm2d", "FrozenBatchNormAct2d"), NORM),
    "Conv2d": CONV,
    **dict.fromkeys(("Linear", "NonDynamicallyQuantizableLinear"), LINEAR),
    "ReLU": RELU,
    "MaxPool2d": MAX,
    "AvgPool2d": AVERAGE,
    **dict.fromkeys(("AdaptiveAvgPool2d", "FastAdaptiveAvgPool2d", "FastGlobalAvgPool2d"), GLOBAL),
    "Sigmoid": SIGMOID,
    **dict.fromkeys(("Softmax", "LogSoftmax"), SOFTMAX),
    "ZeroPad2d": PAD,
    **dict.fromkeys(
        ("Identity", "Flatten", "DropPath", "StochasticDepth", "QuantStub", "DeQuantStub"), NOTHING
    ),
    **dict.fromkeys(("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"), NOTHING),
}
# A module of these that is not known here computes something; what runs those within it is known, too.
LIBRARIES = ("torch", "torchvision", "timm", "monai", "torchxrayvision", "pytorchcv", "densenet_convert")
AVERAGES = ("avg", "fast", "fastavg", "")
# Names that people give to classes of their own that change no number, or do not run in the network.
IDLE_WORDS = ("criterion", "dropout", "flatten", "identity", "loss", "metric", "reshape", "squeeze", "view")

KERAS = {
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization"), NORM),
    **dict.fromkeys(("Conv2D", "Convolution2D"), CONV),
    "Dense": LINEAR,
    "MaxPooling2D": MAX,
    "AveragePooling2D": AVERAGE,
    "GlobalAveragePooling2D": GLOBAL,
    "Softmax": SOFTMAX,
    "ZeroPadding2D": PAD,
    **dict.fromkeys(
        ("InputLayer", "Concatenate", "Flatten", "Identity", "Cast", "ActivityRegularization"), NOTHING
    ),
    **dict.fromkeys(("GaussianNoise", "CutMix", "MixUp", "AugMix"), NOTHING),
}
# Functions of Keras' activations.
ACTIVATIONS = {"linear": NOTHING, "relu": RELU, "sigmoid": SIGMOID, "softmax": SOFTMAX}
# Keras' name of a setting, and torch's.
KERAS_SETTINGS = {
    "epsilon": "eps",
    "strides": "stride",
    "pool_size": "kernel_size",
    "dilation_rate": "dilation",
    "padding": "padding",
    "kernel_size": "kernel_size",
    "groups": "groups",
}
RELU_SETTINGS = ("max_value", "negative_slope", "threshold")


class DeclaredLayer(NamedTuple):
    """The work of one layer.

    Attributes:
        path: of the layer, as the file has it.
        kind: its class, likewise.
        what: one of the words above.
        settings: in torch's words.
        holds: whether it holds tensors of the network.
        runs: whether it runs in the order of the file for certain.
        known: whether its class is of a library that is known here.
    """

    path: str
    kind: str
    what: str
    settings: Mapping[str, Any]
    holds: bool = False
    runs: bool = True
    known: bool = True


def last_of(kind: str) -> str:
    """``torch.nn.modules.conv.Conv2d`` is ``Conv2d``."""
    return kind.rpartition(".")[2]


def does_nothing(called: str) -> bool:
    """Whether a layer of somebody's own is called as one that computes nothing in the network."""
    return any(word in called.lower() for word in IDLE_WORDS)


def holds_in_order(layer: Layer | None) -> bool:
    """Whether such a module runs those within it one after the other, as far as is known here."""
    if layer is None:
        return False
    library, name = layer.kind.partition(".")[0], last_of(layer.kind)
    # The whole networks of these libraries also do things that are in no module.
    return name == "Sequential" or (library in LIBRARIES[1:] and not name.startswith("DenseNet"))


def layers_of_torch(
    layers: Mapping[str, Layer], places: Collection[str], dimensions: int = 2
) -> Iterator[DeclaredLayer]:
    """The modules that hold no other, and those that hold tensors of the network.

    Args:
        layers: what the file tells.
        places: paths of what holds tensors of the network.
        dimensions: of the network's kernels; layers of others are not known.
    """
    holders = {layer.within for layer in layers.values()}
    for path, (kind, settings, within, *_) in layers.items():
        name, library = last_of(kind), kind.partition(".")[0]
        what = TORCH.get(_in_two_dimensions(name, dimensions), OTHER)
        if "Dropout" in name or "loss" in kind.lower():
            what = NOTHING
        if path in holders and path not in places and "pool_type" not in settings:
            continue
        if "pool_type" in settings:
            what = NOTHING if path in holders else GLOBAL
        runs = holds_in_order(layers.get(within)) if within is not None else False
        yield DeclaredLayer(path, kind, what, settings, path in places, runs, library in LIBRARIES)


def _in_two_dimensions(name: str, dimensions: int) -> str:
    """``MaxPool3d`` is ``MaxPool2d`` in a network of three dimensions, in which ``MaxPool2d`` is none."""
    if dimensions == 2 or not name.endswith("d") or name[-2:-1] not in ("1", "2", "3"):
        return name
    return f"{name[:-2]}2d" if name.endswith(f"{dimensions}d") else f"{name} of other dimensions"


def layers_of_keras(layers: Mapping[str, Layer], places: Collection[str]) -> Iterator[DeclaredLayer]:
    """The layers that hold no other; all of them run.

    Args:
        layers: what the file tells.
        places: paths of what holds tensors of the network.
    """
    holders = {layer.within for layer in layers.values()}
    for path, (kind, own, *_) in layers.items():
        if path in holders:
            continue
        settings = {ours: own[theirs] for theirs, ours in KERAS_SETTINGS.items() if theirs in own}
        activation = own.get("activation")
        what = KERAS.get(kind, OTHER)
        if (kind.startswith("Rand") and kind != "RandomCrop") or "Dropout" in kind:
            what = NOTHING
        elif kind == "ReLU":
            bent = [f"{name} {own[name]}" for name in RELU_SETTINGS if own.get(name)]
            what, kind = (OTHER, f"ReLU with {' and '.join(bent)}") if bent else (RELU, kind)
        if kind == "Activation":
            what = ACTIVATIONS.get(str(activation), OTHER)
            kind, activation = f"{kind} with the activation {activation}", None
        yield DeclaredLayer(path, kind, what, settings, path in places)
        if activation is not None:
            function = ACTIVATIONS.get(str(activation), OTHER)
            yield DeclaredLayer(path, f"{kind} with the activation {activation}", function, {})


def padding_of(layer: DeclaredLayer) -> Any:
    """A padding in numbers where a word says it and the layer is none, or the same on all sides."""
    padding = layer.settings.get("padding")
    if layer.what == PAD:
        return _one_number(padding)
    if padding == "valid":
        return 0
    kernel, stride = pair(layer.settings.get("kernel_size")), pair(layer.settings.get("stride", 1))
    if padding == "same" and isinstance(kernel, tuple) and set(stride) == {1}:
        odd = all(isinstance(side, int) and side % 2 for side in kernel)
        return tuple(side // 2 for side in kernel) if odd else padding
    return padding


def pair(value: Any) -> Any:
    """Returns a value for each of the two axes; a single number stands for both, and equal ones of others."""
    if isinstance(value, tuple) and len(value) in (1, 3) and len(set(value)) == 1:
        value = value[0]
    return (value, value) if isinstance(value, int | float) else value


def _one_number(value: Any) -> Any:
    """Returns one number for a padding that is equal on all sides, however it is nested; else the padding."""
    sides = value
    while isinstance(sides, tuple) and sides and all(side == sides[0] for side in sides):
        sides = sides[0]
    return value if isinstance(sides, tuple) else sides
