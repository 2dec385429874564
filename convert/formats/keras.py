"""Reads what Keras saves: HDF5 files, and the zips called ``.keras`` with such a file in them.

Source of Keras' names: keras/src/legacy/saving/legacy_h5_format.py and keras/src/saving/saving_lib.py
of Keras 3.15.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from .archive import Archive
from .hdf5 import COST, DATASPACE, SAVE_AGAIN, SIGNATURE, SYMBOL_TABLE, File, Object, shape_of
from .keras_config import ATTRIBUTE, DEEPEST, LAYERS, collect_layers, names_of_layers, no_config, parse_model
from .modules import Layers
from .raw import Buffer
from .stand_ins import Dict
from .untrusted import MALFORMED, Budget, FormatError, shown

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
# By what Keras 3 calls layers of a class, in the order of ``save_own_variables``.
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
NUMBERED = re.compile(r"([a-z0-9_]*?[a-z0-9])(?:_([1-9][0-9]{0,8}))?", re.ASCII)
POSITION = re.compile(r"(?:(?P<layer>.+)/)?vars/(?P<index>0|[1-9][0-9]{0,8})", re.ASCII)
# TensorFlow appended this to the name of a variable.
OUTPUT = re.compile(r":[0-9]+$", re.ASCII)


def is_hdf5(data: Buffer) -> bool:
    """Whether it begins as an HDF5 file does."""
    return bytes(data[: len(SIGNATURE)]) == SIGNATURE


def is_keras(archive: Archive) -> bool:
    """Whether a zip holds an HDF5 file of weights, as ``.keras`` does."""
    return WEIGHTS in archive.records


def read_hdf5(data: Buffer, budget: Budget, layers: Layers | None = None) -> Dict:
    """The variables, views of ``data``, by ``layer/variable``.

    Args:
        data: the whole of a file.
        budget: pays for it.
        layers: collects what the file tells of each layer, where it holds the config of a whole model.

    Raises:
        FormatError: it is not sound, or not what Keras writes.
    """
    return _read(data, budget, {}, layers)


def read_keras(archive: Archive, budget: Budget, layers: Layers | None = None) -> Dict:
    """The same of a ``.keras``; its config says what the layers are called where the weights don't.

    Raises:
        FormatError: it is not sound, or not what Keras writes.
    """
    names: dict[str, str] = {}
    if CONFIG in archive.records:
        model = parse_model(archive.read(CONFIG), CONFIG, budget)
        try:
            names = dict(names_of_layers(model, "", budget))
        except MALFORMED as error:
            raise no_config(CONFIG) from error
        collect_layers(model, CONFIG, budget, layers)
    return _read(archive.read(WEIGHTS), budget, names)


def _read(data: Buffer, budget: Budget, names: Mapping[str, str], layers: Layers | None = None) -> Dict:
    tensors = Dict()
    try:
        tree = _Tree(File(data, budget))
        if layers is not None and (config := tree.file.texts(tree.groups[""], ATTRIBUTE)):
            collect_layers(parse_model(config[0].encode(), ATTRIBUTE, budget), ATTRIBUTE, budget, layers)
        places = _legacy_places(tree) if tree.is_legacy else _places(tree, names)
        ends: list[tuple[int, int, str]] = []
        for name, path in places:
            budget.take(COST + len(name))
            tensor, start = tree.file.tensor(tree.datasets[path], path)
            tensors.add(name, tensor)
            ends.append((start, start + tensor.nbytes, path))
    except FormatError:
        raise
    except MALFORMED as error:
        raise FormatError("its parts do not have the form that HDF5 gives them") from error
    ends.sort()
    for (_, end, one), (start, _, other) in pairwise(ends):
        if start < end:
            raise FormatError(f"{shown(one)} and {shown(other)} share bytes")
    return tensors


class _Tree:
    """All groups and datasets of a file by their paths, in the order of the file; each is there once.

    A file of Keras 2's form says in attributes what it holds; it may lie under ``model_weights``, and
    the optimizer's beside that.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self.groups: dict[str, Object] = {}
        self.datasets: dict[str, Object] = {}
        waiting: list[tuple[tuple[str, ...], int]] = [((), file.root)]
        seen = {file.root}
        while waiting:
            path, address = waiting.pop()
            item = file.object(address)
            (self.groups if SYMBOL_TABLE in item.messages else self.datasets)["/".join(path)] = item
            if SYMBOL_TABLE not in item.messages:
                continue
            for name, below in file.links(item):
                file.budget.take(sum(map(len, path)))
                if below in seen or len(path) >= DEEPEST:
                    raise FormatError(f"{shown('/'.join((*path, name)))} is there twice, or too deep")
                seen.add(below)
                waiting.append(((*path, name), below))
        self.root = "model_weights/" if "model_weights" in self.groups else ""

    @property
    def is_legacy(self) -> bool:
        """Whether it is in Keras 2's form."""
        return self.list_of(self.root, "layer_names") is not None

    def list_of(self, group: str, name: str) -> list[str] | None:
        """A list of names that is an attribute, or several with a number each where it is long."""
        if (owner := self.groups.get(group.rstrip("/"))) is None:
            raise FormatError(f"it lists {shown(group)}, which is not there")
        if (whole := self.file.texts(owner, name)) is not None:
            return whole
        parts: list[str] = []
        chunk = 0
        while (part := self.file.texts(owner, f"{name}{chunk}")) is not None:
            parts += part
            chunk += 1
        return parts if chunk else None


def _legacy_places(tree: _Tree) -> Iterator[tuple[str, str]]:
    """Names of variables, and where they are, in Keras 2's form: the file lists both."""
    left = {path for path in tree.datasets if path.startswith(tree.root)}
    if not tree.root:
        left = {path for path in left if not path.startswith("optimizer_weights/")}
    extra = ["top_level_model_weights"] if f"{tree.root}top_level_model_weights" in tree.groups else []
    for layer in [*(tree.list_of(tree.root, "layer_names") or ()), *extra]:
        weights = tree.list_of(f"{tree.root}{layer}", "weight_names") or []
        own = [OUTPUT.sub("", weight).removeprefix(f"{layer}/") for weight in weights]
        # The layer's name may come again, and changed, for TensorFlow gave each scope a name of its own.
        last = [name.rpartition("/")[2] for name in own]
        # A model within the model has many variables of one name.
        for name, weight in zip(own if len(set(last)) < len(last) else last, weights, strict=True):
            path = f"{tree.root}{layer}/{weight}"
            if path not in left:
                raise FormatError(f"it lists {shown(path)}, which is not there, or was listed before")
            left.remove(path)
            yield f"{layer}/{name}", path
    if left:
        raise FormatError(f"it holds {len(left)} arrays that it does not list, such as {shown(min(left))}")


def _places(tree: _Tree, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The same in Keras 3's form, which numbers layers within their class and variables within a layer.

    Args:
        tree: of the file.
        names: what the layers are called, by path, where the file does not say it.
    """
    count: Counter[str] = Counter()
    places: list[tuple[str, int, str]] = []
    for path in tree.datasets:
        top, match = path.partition("/")[0], POSITION.fullmatch(path)
        if top not in (*LAYERS, "vars") and match:
            continue  # the optimizer, metrics and what else is no part of the network
        if match is None:
            raise FormatError(f"it holds {shown(path)}, and Keras' weights lie elsewhere")
        layer = match["layer"] or ""
        count[layer] += 1
        places.append((layer, int(match["index"]), path))
    if not places:
        raise FormatError("it is an HDF5 file without weights of Keras", SAVE_AGAIN)
    # Names that a file or its config gives, else those that the order of a DenseNet implies.
    known = {layer: called for layer in count if (called := _called(tree, layer, names))}
    known = known or _names_by_order(tree, list(count))
    for layer, index, path in sorted(places, key=lambda place: (_ordinal(place[0]), place[:2])):
        if index >= count[layer]:
            raise FormatError(f"{shown(layer)} lacks one of its variables")
        variables = VARIABLES.get(_class_of(layer), ())
        # Without its scale or its offset a normalisation has fewer, and which is not said.
        sure = count[layer] == len(variables) or (variables[:1] == ("kernel",) and count[layer] == 1)
        yield f"{known.get(layer, layer)}/{variables[index] if sure else index}".lstrip("/"), path


def _class_of(layer: str) -> str:
    return _numbered(layer.rpartition("/")[2])[0]


def _numbered(name: str) -> tuple[str, int]:
    """``conv2d_12`` is ``conv2d`` and 12, and the first is plain ``conv2d``."""
    match = NUMBERED.fullmatch(name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)


def _ordinal(layer: str) -> int:
    return _numbered(layer.rpartition("/")[2])[1]


def _called(tree: _Tree, layer: str, names: Mapping[str, str]) -> str | None:
    """Returns the name of a layer behind those of the models around it; None if one of them is unknown."""
    called = []
    parts = layer.split("/")
    if len(parts) % 2:  # each is one of the layers of what holds it
        return None
    for end in range(2, len(parts) + 1, 2):
        path = "/".join(parts[:end])
        own = tree.groups.get(f"{path}/vars")
        named = tree.file.texts(own, "name") if own is not None else None
        name = named[0] if named else names.get(path.replace(LAYERS[1], LAYERS[0]))
        if not name:
            return None
        called.append(name)
    return "/".join(called)


def _names_by_order(tree: _Tree, layers: Sequence[str]) -> dict[str, str]:
    """Returns the names that keras.applications gives to the layers of a DenseNet, which lie in its order.

    Empty where they are no DenseNet's.
    """
    found = {kind: sorted((x for x in layers if _class_of(x) == kind), key=_ordinal) for kind in VARIABLES}
    convs, norms, heads = found["conv2d"], found["batch_normalization"], found["dense"]
    if len(norms) != len(convs) + 1 or len(convs) + len(norms) + len(heads) != len(layers) or len(heads) > 1:
        return {}
    sizes = [shape_of(tree.datasets[f"{layer}/vars/0"].messages[DATASPACE])[:2] for layer in convs]
    named_convs, named_norms = ["conv1_conv"], ["conv1_bn"]
    stage, number, at = 2, 1, 1
    while at < len(sizes):
        if sizes[at : at + 2] == [(1, 1), (3, 3)]:
            block = f"conv{stage}_block{number}"
            named_convs += [f"{block}_1_conv", f"{block}_2_conv"]
            named_norms += [f"{block}_0_bn", f"{block}_1_bn"]
            number, at = number + 1, at + 2
        elif sizes[at] == (1, 1):
            named_convs.append(f"pool{stage}_conv")
            named_norms.append(f"pool{stage}_bn")
            stage, number, at = stage + 1, 1, at + 1
        else:
            return {}
    named = [*named_convs, *named_norms, "bn", *["predictions"] * len(heads)]
    return dict(zip([*convs, *norms, *heads], named, strict=True))
