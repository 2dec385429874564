"""Reads the names, settings and order of the layers from the config of a Keras model.

Source of Keras' names: keras/src/saving/saving_lib.py of Keras 3.15.1.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .hdf5 import COST
from .modules import Layer, Layers, plain
from .raw import Buffer
from .untrusted import MALFORMED, Budget, FormatError

# The same config, where it is an attribute of the whole file.
ATTRIBUTE = "model_config"
# How deep models may lie within models; each level takes two groups.
DEEPEST = 32
LONGEST_CONFIG = 8 << 20
# Groups of Keras' own files in which its layers lie; that of Keras 2.13 is the second.
LAYERS = ("layers", "_layer_checkpoint_dependencies")


def parse_model(text: Buffer, label: str, budget: Budget) -> Any:
    """The config of a model, which is JSON."""
    if len(text) > LONGEST_CONFIG:
        raise FormatError(f"its {label} has {len(text):,} bytes, as no network's has")
    # Twenty times its length is what JSON takes at most.
    budget.take(20 * len(text))
    try:
        return json.loads(bytes(text))
    except MALFORMED as error:
        raise no_config(label) from error


def no_config(label: str) -> FormatError:
    """Returns the error for a config that is not Keras'."""
    return FormatError(f"its {label} is not what Keras writes")


def collect_layers(model: Any, label: str, budget: Budget, layers: Layers | None) -> None:
    """Puts what a config says of each layer into ``layers``, if that is given."""
    if layers is None:
        return
    try:
        layers.update(_declared_layers(model, "", "", budget, flat=label == ATTRIBUTE))
    except MALFORMED as error:
        raise no_config(label) from error


def _declared_layers(
    model: Any, above: str, within: str, budget: Budget, *, flat: bool, depth: int = 0
) -> Iterator[tuple[str, Layer]]:
    """Each layer's path and what the config says of it, in the order in which they run.

    Args:
        model: a config.
        above: what stands before the names.
        within: the path of the model.
        budget: pays for it.
        flat: whether only the outermost model stands before a name, as in Keras 2's form.
        depth: how many models it is in.
    """
    if depth > DEEPEST:
        raise FormatError("its models lie within each other without an end")
    config = model["config"]
    # Up to Keras 2.2 the config of a sequence was the list of its layers.
    for number, layer in enumerate(config if isinstance(config, list) else config.get("layers", ())):
        kind, own = layer["class_name"], layer["config"]
        name = own.get("name") if isinstance(own, dict) else layer.get("name")
        path = f"{above}{name if isinstance(name, str) else number}"
        settings = {} if isinstance(own, list) else {name: _setting(value) for name, value in own.items()}
        budget.take(COST + len(path) + COST // 4 * len(settings))
        yield path, Layer(str(kind), settings, within, inputs=tuple(_inputs(layer.get("inbound_nodes"))))
        if isinstance(own, list) or isinstance(own.get("layers"), list):
            inside = above if flat and depth else f"{path}/"
            yield from _declared_layers(layer, inside, path, budget, flat=flat, depth=depth + 1)


def _inputs(nodes: Any) -> Iterator[str]:
    """The names in ``[name, node, tensor]``, which Keras 2 and 3 wrap each in its own way."""
    if isinstance(nodes, list) and nodes and isinstance(nodes[0], str):
        yield nodes[0]
    elif isinstance(nodes, list | dict):
        for part in nodes.values() if isinstance(nodes, dict) else nodes:
            yield from _inputs(part)


def _setting(value: Any) -> Any:
    """A plain setting; an object, such as an activation, is the name of its class or function."""
    if isinstance(value, dict):
        named = value.get("config")
        return plain(named if isinstance(named, str) else value.get("class_name"))
    return plain(value)


def names_of_layers(model: Any, above: str, budget: Budget) -> Iterator[tuple[str, str]]:
    """Yields paths of layers in the file of weights, and what the model's config calls them."""
    if above.count("/") > DEEPEST:
        raise FormatError("its models lie within each other without an end")
    used: Counter[str] = Counter()
    for layer in model["config"].get("layers", ()):
        kind = _snake_case(layer["class_name"])
        path = f"{above}{LAYERS[0]}/{kind}{f'_{used[kind]}' if used[kind] else ''}"
        used[kind] += 1
        budget.take(COST + len(path))
        if isinstance(name := layer["config"].get("name"), str):
            yield path, name
        if isinstance(layer["config"].get("layers"), list):
            yield from names_of_layers(layer, f"{path}/", budget)


def _snake_case(name: str) -> str:
    """As ``to_snake_case`` of Keras: ``BatchNormalization`` becomes ``batch_normalization``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
