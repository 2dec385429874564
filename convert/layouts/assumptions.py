"""Lists what neither the source nor the user tells of a network's function, and what would settle it."""

from __future__ import annotations

from collections.abc import Iterator

from densenet_convert.densenet import DenseNetConfig

from ..claims import Assumption
from ..errors import first_few, quoted
from ..layout import WRAPPERS, Reading
from ..records import Rewrite
from .declared_tree import FIRST_CONV, LAST_NORM, DeclaredTree
from .explain import LEFT_OUT
from .layer_kinds import LIBRARIES, holds_in_order, last_of
from .prepare import ZEROED

RELU_OPTIONS = "--final-relu or --no-final-relu"
BY_LAYERS = "a whole module of a library's class, or a Keras model"
BY_OWNER = "the code of the network that it was a part of"


def assumptions_of(
    reading: Reading,
    config: DenseNetConfig,
    tree: DeclaredTree | None,
    *,
    final_relu: bool | None = None,
    norm_eps: float | None = None,
    rewrites: tuple[Rewrite, ...] = (),
) -> tuple[Assumption, ...]:
    """Returns what is assumed of the network's function, in the order of its layers.

    Args:
        reading: of the names of the source's tensors.
        config: the network's hyperparameters.
        tree: the layers that the source declares, which were checked; None where it declares none.
        final_relu: whether the user says that a ReLU stands behind the last norm; None where nothing is said.
        norm_eps: the epsilon, where it is known from beside the source.
        rewrites: the steps between the source and its layout.
    """
    if tree is not None and tree.keras:
        return ()
    because = _because(tree)
    left_out = any(why.endswith(LEFT_OUT) for why in reading.explanation.dropped.values())
    found = []
    if left_out and not config.num_classes:
        what = "nothing that is left out stands before the features"
        found.append(Assumption(what, "the rest of its network is left out", BY_OWNER))
    if reading.unwrapped and tree is None:
        what = f"what holds layers as {first_few(sorted(_wrappers(reading)))} runs them as they are"
        found.append(Assumption(what, because, BY_LAYERS))
    if tree is None or not _stem_is_known(tree):
        what = "the first convolution and the pooling behind it have stride 2"
        found.append(Assumption(what, because, BY_LAYERS))
    if tree is None or not _order_is_known(tree):
        what = "in dense layers and transitions, norms, ReLUs, convolutions and average pooling take turns"
        found.append(Assumption(what, because, BY_LAYERS))
    if norm_eps is None and (tree is None or not _epsilons_are_known(tree)):
        what = f"the epsilon of every batch norm is {config.norm_eps:g}"
        found.append(Assumption(what, because, BY_LAYERS))
    found += _of_head(tree, rewrites)
    if tree is None or not end_is_known(tree):
        if final_relu is None:
            found.append(Assumption("a ReLU stands behind the last norm", because, RELU_OPTIONS))
        found.append(Assumption("the last maps are averaged over all places", because, BY_LAYERS))
    return tuple(found)


def _of_head(tree: DeclaredTree | None, rewrites: tuple[Rewrite, ...]) -> Iterator[Assumption]:
    """Yields what is assumed of the head, where neither its bias nor its class tells that it is linear."""
    if tree is None and any(step.name == ZEROED for step in rewrites):
        because = "one that normalises its weights and what it reads has none"
        yield Assumption("the head, which has no bias, is a linear layer", because, BY_LAYERS)
    if tree is not None and tree.head is not None and not _is_of_library(tree.layers[tree.head].kind):
        because = f"{quoted(tree.layers[tree.head].kind)} is a class of its owner's"
        yield Assumption("the head is a linear layer", because, BY_LAYERS)


def _wrappers(reading: Reading) -> set[str]:
    """Returns the names of wrappers that were taken off."""
    return {part for name in reading.explanation.targets for part in name.split(".")} & WRAPPERS


def end_is_known(tree: DeclaredTree) -> bool:
    """Whether a sequence, or a library's class, tells what runs between the last norm and the head."""
    norm = _path_of(tree, LAST_NORM)
    if tree.ends_in_order(norm):
        return True
    owner = tree.layers.get(tree.layers[_features_of(tree)].within or "")
    if owner is None or not _is_network_of_library(owner.kind):
        return False
    return tree.head is None or tree.layers[_features_of(tree)].within in list(tree.ancestors(tree.head))


def head_is_alone(tree: DeclaredTree) -> bool:
    """Whether the head is a layer beside the features, or one in a sequence there."""
    owner = tree.layers[_features_of(tree)].within
    holders = list(tree.ancestors(tree.head or ""))
    between = holders[: holders.index(owner)] if owner in holders else holders
    return all(holds_in_order(tree.layers[path]) for path in between)


def _stem_is_known(tree: DeclaredTree) -> bool:
    path = _path_of(tree, FIRST_CONV)
    return tree.runs_in_order(path) and _is_of_library(tree.layers[path].kind)


def _order_is_known(tree: DeclaredTree) -> bool:
    """Whether a sequence, or a library's class, runs each layer of the features."""
    features = _features_of(tree)
    layers = [path for path, place in tree.places.items() if "." in place]
    own = [path for path in layers if not _is_of_library(tree.layers[path].kind)]
    return not own and all(_runs_in_order(tree, path, features) for path in layers)


def _runs_in_order(tree: DeclaredTree, path: str, features: str) -> bool:
    for holder in tree.ancestors(path):
        if not holds_in_order(tree.layers[holder]):
            return False
        if holder == features:
            return True
    return True


def _epsilons_are_known(tree: DeclaredTree) -> bool:
    norms = [path for path, place in tree.places.items() if "norm" in place.rpartition(".")[2]]
    return all(_is_of_library(tree.layers[one].kind) and "eps" in tree.layers[one].settings for one in norms)


def _path_of(tree: DeclaredTree, place: str) -> str:
    return next(path for path, ours in tree.places.items() if ours == place)


def _features_of(tree: DeclaredTree) -> str:
    """Returns the path of the innermost module that holds all of the features."""
    holders = set(tree.ancestors(_path_of(tree, LAST_NORM)))
    return next((path for path in tree.ancestors(_path_of(tree, FIRST_CONV)) if path in holders), "")


def _is_of_library(kind: str) -> bool:
    return kind.partition(".")[0] in LIBRARIES


def _is_network_of_library(kind: str) -> bool:
    return kind.partition(".")[0] in LIBRARIES[1:] and last_of(kind).startswith("DenseNet")


def _because(tree: DeclaredTree | None) -> str:
    """Returns why the file does not tell it: it holds tensors alone, or a class of somebody's own."""
    if tree is None:
        return "the file tells names and shapes of tensors, and no layers"
    own = _own_classes(tree)
    return f"what {next(own, 'its class')} calls is code, which is not in the file"


def _own_classes(tree: DeclaredTree) -> Iterator[str]:
    for path in tree.ancestors(_path_of(tree, LAST_NORM)):
        if not _is_of_library(tree.layers[path].kind):
            yield quoted(tree.layers[path].kind)
