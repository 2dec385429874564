"""Checks the layers that a file declares against the DenseNet that its layout stands for.

Tensors don't say which function they are of.  A whole module and a Keras model do: by the class and the
settings of every layer.  What they declare must be what a DenseNet does, in its order; what is not
declared, as by a state dict, is not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, NamedTuple, NoReturn

from densenet_convert.densenet import DenseNetConfig

from ..errors import ArchitectureError, quoted
from ..formats.modules import Layer
from ..layout import HEAD, Reading
from ..records import MULTI_LABEL
from .declared_tree import LAST_NORM, OTHER_FUNCTION, DeclaredTree, refuse, refuse_setting
from .expected_layers import (
    SETTINGS,
    Expected,
    convolution_at,
    following,
    kind_at,
    transition_pooling,
)
from .layer_kinds import (
    AVERAGE,
    AVERAGES,
    CONV,
    GLOBAL,
    LINEAR,
    MAX,
    NORM,
    NOTHING,
    OTHER,
    PAD,
    RELU,
    SIGMOID,
    SOFTMAX,
    DeclaredLayer,
    does_nothing,
    last_of,
    padding_of,
    pair,
)

XRAY = "torchxrayvision"
# Average pooling that leaves out no window.
WINDOW = {"stride": 1, "padding": 0, "divisor_override": None}


class Declared(NamedTuple):
    """The declarations of a file beside its tensors.

    Attributes:
        norm_eps: epsilon of its batch norms, if it is not the layout's.
        problem_type: how its logits are to be read.
        tree: its layers, which were checked; None where it declares none, or hides some of the network's.
        unknown: layers without tensors that are not known here, and may run with the network.
    """

    norm_eps: float | None = None
    problem_type: str | None = None
    tree: DeclaredTree | None = None
    unknown: tuple[DeclaredLayer, ...] = ()


def read_declared(
    layers: Mapping[str, Layer],
    format_name: str,
    reading: Reading,
    *,
    final_relu: bool = True,
    head_is_kernel: bool = False,
) -> Declared:
    """Checks the layers that a file declares, and returns what they tell.

    Args:
        layers, format_name, reading: see ``DeclaredTree``.
        final_relu: whether a ReLU stands behind the last norm.
        head_is_kernel: whether the head is a 1x1 convolution.

    Raises:
        ArchitectureError: a layer does something that the network of this layout does not, or the other
            way around.
    """
    if not layers:
        return Declared()
    _require_own_images(layers, reading.layout.name)
    tree = DeclaredTree(layers, format_name, reading)
    if not tree.is_whole:
        return Declared()
    tree.refuse_changed_functions()
    checker = LayerChecker(tree, final_relu, head_is_kernel)
    for layer in tree.network_layers():
        checker.take(layer)
    checker.close()
    around = [one for one in (*checker.unknown, *tree.passed) if one.what == OTHER]
    unknown = tuple(one for one in around if not does_nothing(f"{one.path}.{last_of(one.kind)}"))
    return Declared(checker.norm_eps(), checker.problem_type, tree, unknown)


def _require_own_images(layers: Mapping[str, Layer], layout: str) -> None:
    """Without their thresholds torchxrayvision's names are torchvision's, and its images are others."""
    for path, layer in layers.items():
        if layer.kind.partition(".")[0] == XRAY != layout:
            raise ArchitectureError(
                f"{quoted(path or 'The whole module')} is {quoted(layer.kind)}, whose images are prepared in "
                "another way than torchvision's."
            )


class LayerChecker:
    """Goes through the layers of a file, and knows what must come next.

    Attributes:
        place: our name of the last layer with parameters that was passed.
        expected: what is still to come behind it.
        before: that layer, as the file has it.
        padding: what the next layer is padded by, where a layer of its own says so.
        problem_type: how the logits are to be read.
        head_kind: what the head must be, a linear layer or a convolution.
        is_read: whether a layer behind the head read them.
        unknown: see ``Declared``.
    """

    def __init__(self, tree: DeclaredTree, final_relu: bool = True, head_is_kernel: bool = False) -> None:
        self.tree = tree
        self.head_kind = CONV if head_is_kernel else LINEAR
        self.config = replace(DenseNetConfig(), final_relu=final_relu, **tree.reading.layout.overrides)
        self.place, self.before = "", ""
        self.expected: list[Expected] = []
        self.padding: DeclaredLayer | None = None
        self.idle: DeclaredLayer | None = None
        self.epsilons: dict[str, Any] = {}
        self.problem_type: str | None = None
        self.is_read = False
        self.unknown: list[DeclaredLayer] = []

    def take(self, layer: DeclaredLayer) -> None:
        """Takes the next layer.  Raises ArchitectureError if it is not what must come next."""
        if self.place == LAST_NORM and self.tree.head is not None:
            layer = as_global(layer)
        if layer.settings.get("pool_type", AVERAGES[0]) not in AVERAGES:
            refuse_setting(layer.path, layer.kind, "pool_type", layer.settings["pool_type"], AVERAGES[0])
        elif layer.holds:
            self._parametrised(layer)
        elif layer.what == NOTHING:
            self.idle = layer if last_of(layer.kind) == "Identity" else self.idle
        elif layer.runs or layer.what == PAD:
            self._in_order(layer)
        else:
            self._anywhere(layer)

    def close(self) -> None:
        """Ends a place.  Raises ArchitectureError if a required layer was not seen."""
        if self.padding is not None:
            refuse(self.padding)
        for one in self.expected:
            if one.required:
                self._missing(one)
        self.expected, self.idle = [], None

    def norm_eps(self) -> float | None:
        """Returns the epsilon that all batch norms share, where the layout implies another one.

        Raises:
            ArchitectureError: they have several, or it is none.
        """
        expected = self.config.norm_eps
        found = set(map(str, self.epsilons.values()))
        for path, eps in self.epsilons.items():
            if len(found) > 1 and eps != expected:
                refuse_setting(path, self.tree.layers[path].kind, "eps", eps, expected)
            if not isinstance(eps, int | float) or not (eps > 0 and isfinite(eps)):
                refuse_setting(path, self.tree.layers[path].kind, "eps", eps, expected)
        declared = next(iter(self.epsilons.values()), expected)
        return None if declared == expected else float(declared)

    def _parametrised(self, layer: DeclaredLayer) -> None:
        place = self.tree.places[layer.path]
        what = self.head_kind if place == HEAD else kind_at(place)
        if layer.what != what:
            refuse(layer, what)
        layer = self._padded(layer, what)
        self.close()
        if what == NORM and "eps" in layer.settings:
            self.epsilons[layer.path] = layer.settings["eps"]
        if what == CONV:
            self._compare(layer, convolution_at(place, self.config))
        self.place, self.before = place, layer.path
        self.expected = following(layer, place, self.tree, self.config)

    def _in_order(self, layer: DeclaredLayer) -> None:
        if layer.what == PAD and self.padding is None:
            self.padding = layer
            return
        if self.place == HEAD and layer.what in (SIGMOID, SOFTMAX) and not self.is_read:
            axis = layer.settings.get("dim", layer.settings.get("axis"))
            if axis in (None, 1, -1):  # that of the classes
                self._read_as(layer)
                self.is_read = True
                return
        layer = self._padded(layer, MAX)
        while self.expected:
            one = self.expected.pop(0)
            if one.what == layer.what:
                self._compare(layer, one.settings)
                return
            if one.required:
                refuse(layer, one.what)
        refuse(layer)

    def _anywhere(self, layer: DeclaredLayer) -> None:
        """A module of one that may use it at any time, or not at all: the network must use such ones."""
        outside = not self.place.startswith("features.") or self.place == LAST_NORM
        if layer.what in (SIGMOID, SOFTMAX) and outside:
            self._read_as(layer)
            return
        used = [(RELU, {}), (MAX, SETTINGS[MAX]), transition_pooling(self.config), (GLOBAL, SETTINGS[GLOBAL])]
        fitting = [settings for what, settings in used if what == layer.what]
        if fitting:
            self._compare(layer, fitting[-1])
        elif layer.known or layer.what != OTHER:
            refuse(layer)
        else:
            self.unknown.append(layer)

    def _read_as(self, layer: DeclaredLayer) -> None:
        if layer.what == SIGMOID and self.tree.head is not None:
            self.problem_type = MULTI_LABEL

    def _padded(self, layer: DeclaredLayer, taking: str) -> DeclaredLayer:
        """With the padding of the layer before it, and its own in numbers."""
        settings = dict(layer.settings)
        if "padding" in settings:
            settings["padding"] = padding_of(layer)
        if self.padding is not None:
            if (
                layer.what != taking
                or taking not in (CONV, MAX)
                or pair(settings.get("padding", 0)) != (0, 0)
            ):
                refuse(self.padding)
            settings["padding"], self.padding = padding_of(self.padding), None
        return layer._replace(settings=settings)

    def _compare(self, layer: DeclaredLayer, expected: Mapping[str, Any]) -> None:
        for name, value in expected.items():
            if name in layer.settings and pair(layer.settings[name]) != pair(value):
                refuse_setting(layer.path, layer.kind, name, layer.settings[name], value)

    def _missing(self, missed: Expected) -> NoReturn:
        if self.idle is not None:
            refuse(self.idle, missed.what)
        raise ArchitectureError(
            f"The file tells of no layer behind {quoted(self.before)} for {missed.what}, which a DenseNet "
            f"has there. {OTHER_FUNCTION}"
        )


def as_global(layer: DeclaredLayer) -> DeclaredLayer:
    """Returns a layer that averages the last maps by windows, for a head, as one that averages all places.

    Of windows at every place the head takes one alone, so that it is as large as the maps.
    """
    found = {name: layer.settings.get(name) for name in WINDOW}
    return layer._replace(what=GLOBAL, settings={}) if layer.what == AVERAGE and found == WINDOW else layer
