"""The layers that a DenseNet has at each place: kind, settings, and what runs behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from densenet_convert.densenet import DenseNetConfig

from .declared_tree import LAST_NORM, DeclaredTree
from .layer_kinds import AVERAGE, CONV, GLOBAL, MAX, NORM, RELU, DeclaredLayer, last_of

# The settings of a network of this layout, in torch's words.
SETTINGS: dict[str, dict[str, Any]] = {
    MAX: {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": False},
    AVERAGE: {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": False, "divisor_override": None},
    GLOBAL: {"output_size": 1},
}
TRANSITION_MAX = {**SETTINGS[AVERAGE], "dilation": 1}


class Expected(NamedTuple):
    """The layer that comes next, or may; settings that a file does not tell are not compared."""

    what: str
    settings: Mapping[str, Any]
    required: bool


def kind_at(place: str) -> str:
    """Returns the kind of layer with parameters that the features of a DenseNet have at a place."""
    return NORM if place.rpartition(".")[2].startswith("norm") else CONV


def convolution_at(place: str, config: DenseNetConfig) -> dict[str, Any]:
    """Returns the settings of the convolution at a place."""
    expected = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
    last = place.rpartition(".")[2]
    if last == "conv2":
        expected["padding"] = 1
    if last == "conv0":
        before, after = config.stem_padding
        expected |= {"stride": 2, "padding": before}
        if before != after:
            del expected["padding"]
    return expected


def following(layer: DeclaredLayer, place: str, tree: DeclaredTree, config: DenseNetConfig) -> list[Expected]:
    """Returns what a DenseNet does without parameters behind the layer at a place.

    It must be told where the layer is one of a sequence; elsewhere it may be a function that was called.
    """
    *_, block, last = ("", *place.split("."))
    sure = tree.runs_in_order(layer.path)
    active = last_of(layer.kind).endswith(("Act", "Act2d"))
    if place == LAST_NORM:
        sure = tree.ends_in_order(layer.path)
        pooled = Expected(GLOBAL, SETTINGS[GLOBAL], sure and tree.head is not None)
        return [Expected(RELU, {}, sure or active), pooled] if config.final_relu else [pooled]
    if last == "norm0":
        return [Expected(RELU, {}, sure or active), Expected(MAX, SETTINGS[MAX], sure)]
    if last.startswith("norm"):
        return [Expected(RELU, {}, sure or active)]
    if last == "conv" and block.startswith("transition"):
        return [Expected(*transition_pooling(config), sure)]
    return []


def transition_pooling(config: DenseNetConfig) -> tuple[str, dict[str, Any]]:
    """Returns the pooling of a transition, and its settings."""
    average = config.transition_pool == "avg"
    return (AVERAGE, SETTINGS[AVERAGE]) if average else (MAX, TRANSITION_MAX)
