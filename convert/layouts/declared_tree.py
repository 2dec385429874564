"""The tree of layers that a file declares: which of them are the network's, and in which order they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NoReturn

from ..errors import ArchitectureError, quoted
from ..formats.modules import Layer
from ..layout import HEAD, Reading, without_wrappers
from .layer_kinds import (
    DeclaredLayer,
    holds_in_order,
    last_of,
    layers_of_keras,
    layers_of_torch,
)

OTHER_FUNCTION = "The converted network would be another function."
FIRST_CONV, LAST_NORM = "features.conv0", "features.norm5"
# Classes that hold another module and compute what it does.
WRAPPING_KINDS = (
    *("OptimizedModule", "CheckpointWrapper", "FullyShardedDataParallel", "GradSampleModule"),
    *("DataParallel", "DistributedDataParallel", "FlattenParamsWrapper"),
)


class DeclaredTree:
    """The layers of a file by their paths, and what the reading takes each of them for.

    Attributes:
        layers: what the file declares.
        reading: of the names of its tensors.
        keras: whether all layers run in the order of the file, as Keras' do.
        places: our name of each layer that holds tensors of the network, by its path.
        dropped: paths of the layers whose tensors are left out.
        head: path of the network's last layer; None without one.
        passed: layers elsewhere, of which no tensor is known, that ``network_layers`` passed over.
    """

    def __init__(self, layers: Mapping[str, Layer], format_name: str, reading: Reading) -> None:
        self.layers = without_wrapping_layers(layers) if reading.unwrapped else layers
        self.reading = reading
        self.keras = format_name.startswith("keras")
        mark = reading.layout.separator
        targets = [(reading.clean(name), ours) for name, ours in reading.explanation.targets.items()]
        self.places = {theirs.rpartition(mark)[0]: ours.rpartition(".")[0] for theirs, ours in targets}
        self.dropped = {reading.clean(name).rpartition(mark)[0] for name in reading.explanation.dropped}
        self.head = next((path for path, place in self.places.items() if place == HEAD), None)
        self.passed: list[DeclaredLayer] = []

    @property
    def is_whole(self) -> bool:
        """Whether each layer of the network is declared; a user's class may hide some: none is checked."""
        return self.places.keys() <= self.layers.keys()

    def refuse_changed_functions(self) -> None:
        """Raises ArchitectureError for a module with a hook, or a forward of the object and not its class."""
        for path, layer in self.layers.items():
            holds_network = any(of_network.startswith(path) for of_network in self.places)
            concerns = path.startswith(self.reading.prefix) or holds_network or not self.reading.only
            if layer.replaced and concerns:
                raise ArchitectureError(
                    f"{quoted(path or 'The whole module')} ({quoted(layer.kind)}) has {layer.replaced}, "
                    f"which may change what it computes. {OTHER_FUNCTION}"
                )

    def network_layers(self) -> Iterator[DeclaredLayer]:
        """Yields the layers that hold the network's tensors and those that may run with them, in order.

        What holds dropped tensors is skipped, and with --only what lies elsewhere or feeds no head.

        Raises:
            ArchitectureError: what is left out is in one sequence with the head, or behind the features.
        """
        read = layers_of_keras if self.keras else partial(layers_of_torch, dimensions=self._dimensions())
        kept = {self._top_ancestor(path) for path in self.places}
        beside = self._not_feeding_head()
        left_out = {self._top_ancestor(path) for path in self.dropped if path in self.layers} - kept
        place = ""
        for layer in read(self.layers, self.places):
            path = layer.path
            if path in self.places:
                place = self.places[path]
                yield layer
            elif self.reading.only and beside.intersection((path, *self.ancestors(path))):
                continue
            elif path in self.dropped and self._in_sequence_with_head(path):
                refuse(layer)
            elif self.keras and path in self.dropped and place == LAST_NORM and self.head is not None:
                refuse(layer)  # it may stand between the features and the head
            elif self.reading.only and not self._is_inside(path):
                if path not in self.dropped and self._top_ancestor(path) not in left_out:
                    self.passed.append(layer)
            elif path not in self.dropped and self._top_ancestor(path) not in left_out:
                yield layer

    def runs_in_order(self, path: str) -> bool:
        """Whether the layer is one of a sequence, so that what follows it in the file runs after it."""
        return self.keras or holds_in_order(self.layers.get(self.layers[path].within or ""))

    def ends_in_order(self, norm_path: str) -> bool:
        """Whether the features and the head are parts of one sequence, or of MONAI's network."""
        if self.keras:
            return True
        holders = set(self.ancestors(self.head or norm_path))
        common = next((path for path in self.ancestors(norm_path) if path in holders), None)
        if self.head is None or common is None:
            return False
        layer = self.layers[common]
        return last_of(layer.kind) == "Sequential" or layer.kind.startswith("monai.")

    def _dimensions(self) -> int:
        """Returns those of the first convolution, by its class."""
        first = next((path for path, place in self.places.items() if place == FIRST_CONV), "")
        kind = last_of(self.layers[first].kind) if first in self.layers else ""
        return {"Conv1d": 1, "Conv3d": 3}.get(kind, 2)

    def _not_feeding_head(self) -> set[str]:
        """Returns the layers of the head's Keras model whose output the head does not use."""
        if self.head is None or not self.layers[self.head].inputs:
            return set()
        model = self.layers[self.head].within
        paths = {one.settings.get("name"): path for path, one in self.layers.items() if one.within == model}
        way, waiting = set[str](), [self.head]
        while waiting:
            path = waiting.pop()
            if path not in way:
                way.add(path)
                waiting += [paths[name] for name in self.layers[path].inputs if name in paths]
        return set(paths.values()) - way

    def _is_inside(self, path: str) -> bool:
        """Whether it is under the prefix, or stands in a sequence with the head."""
        return path.startswith(self.reading.prefix) or self._in_sequence_with_head(path)

    def _in_sequence_with_head(self, path: str) -> bool:
        """Whether one sequence holds both as its direct parts."""
        if self.head is None:
            return False
        within = self.layers[path].within
        return self.layers[self.head].within == within and holds_in_order(self.layers.get(within or ""))

    def _top_ancestor(self, path: str) -> str:
        """Returns what holds it directly under the prefix, or outermost; itself if nothing does."""
        root = self.reading.prefix.rstrip("./")
        while (layer := self.layers.get(path)) is not None and layer.within not in (None, root):
            path = layer.within or ""
        return path

    def ancestors(self, path: str) -> Iterator[str]:
        """Yields the modules that it lies in, innermost first."""
        while (layer := self.layers.get(path)) is not None and layer.within is not None:
            path = layer.within
            yield path


def without_wrapping_layers(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Returns the layers under paths without wrappers, each wrapper's replaced by the one that it holds.

    Raises:
        ArchitectureError: what bears a wrapper's name is held by a class that may compute something itself.
    """
    found: dict[str, Layer] = {}
    for path, layer in layers.items():
        clean = without_wrappers(path)
        within = None if layer.within is None else without_wrappers(layer.within)
        if clean in found:
            outer = found[clean]
            if last_of(outer.kind) not in WRAPPING_KINDS:
                refuse(DeclaredLayer(layer.within or "", outer.kind, "", {}), "a wrapper of PyTorch's")
            within, layer = outer.within, layer._replace(replaced=layer.replaced or outer.replaced)
        found[clean] = layer._replace(within=within)
    return found


def refuse(layer: DeclaredLayer, expected: str | None = None) -> NoReturn:
    """Raises ArchitectureError for a layer where ``expected``, or nothing, should be."""
    wanted = f"expected {expected}" if expected else "where a DenseNet has nothing"
    path = quoted(layer.path or "The whole module")
    raise ArchitectureError(f"{path} is {quoted(layer.kind)}, {wanted}. {OTHER_FUNCTION}")


def refuse_setting(path: str, kind: str, name: str, found: Any, expected: Any) -> NoReturn:
    """Raises ArchitectureError for a layer's setting that is another one than ``expected``."""
    raise ArchitectureError(
        f"{quoted(path)} ({quoted(kind)}) has {name} {quoted(str(found))}, expected {expected}. "
        f"{OTHER_FUNCTION}"
    )
