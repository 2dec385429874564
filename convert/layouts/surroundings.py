"""Judges what stands around a network in its source: names and shapes may leave open which function it is.

The rules run in this order.  A layer that reads the head's output is no DenseNet's.  What was trained and may
stand before the features, or between them and the head, can't be left out.  Which of several layers is the
head, and whether a ReLU stands before a head that is elsewhere than torchvision has it, only the owner knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod
from typing import Any, NoReturn

from ..errors import LayoutError, first_few, quoted
from ..layout import HEAD, Reading
from .explain import LEFT_OUT
from .layer_kinds import DeclaredLayer
from .matrices import Matrix, matrices_of, taken_by_recurrent, widths_behind, widths_taken
from .no_output import LOSSES, OPERATION_COUNTS
from .views import HEAD_NAME

# Buffers that are no part of a function: counts of thop and of averaged networks, and MoCo's queue of keys
# (https://github.com/facebookresearch/moco).
BUFFERS = (*OPERATION_COUNTS, "n_averaged", "queue", "queue_ptr")
# Names in segmentation networks of the parts that read the features beside a head.
DECODERS = ("decoder", "segmentation_head")


class UnclearError(LayoutError):
    """The layers around the network leave open which function the source computes, or are no DenseNet's."""


class Surroundings:
    """The tensors of a source beside the network that a reading takes from it.

    Attributes:
        left_out: names that neither this network nor another whole one explains.
        matrices: the linear layers and 1x1 convolutions among them.
        candidates: those of them that may be the head, by the width of what they read.
        head: the reading's own; None without one.
    """

    def __init__(
        self, tensors: Mapping[str, Any], reading: Reading, width: int, others: Collection[Reading]
    ) -> None:
        self.tensors = {reading.clean(name): tensor for name, tensor in tensors.items()}
        self.reading, self.width, self.mark = reading, width, reading.layout.separator
        found = reading.explanation
        asked = [reading.clean(name) for name, because in found.dropped.items() if because.endswith(LEFT_OUT)]
        self.kept = {reading.clean(name): ours for name, ours in found.targets.items()}
        heads = [name for name, ours in self.kept.items() if ours == f"{HEAD}.weight"]
        self.head = next(matrices_of(self.tensors, self.mark, heads), None)
        apart = [one for one in others if not one.prefix.startswith(self._scope())]
        self.left_out = [name for name in asked if not self._is_explained(name, apart)]
        self.matrices = list(matrices_of(self.tensors, self.mark, self.left_out))
        self.candidates = list(filter(self._may_be_head, self.matrices))

    @property
    def choices(self) -> list[Matrix]:
        """The head and the candidates for it."""
        return self.candidates if self.head is None else [self.head, *self.candidates]

    def single_layer(self) -> str | None:
        """Returns the layer that was left out, if it is the only one and may be the head."""
        layers = {self._layer_of(name) for name in self.left_out}
        found = {one.layer for one in self.candidates}
        return layers.pop() if layers == found and len(found) == 1 and self.head is None else None

    def refuse_recurrent(self) -> None:
        """Raises UnclearError if a recurrent layer reads the features."""
        shapes = {name: tuple(self.tensors[name].shape) for name in self.left_out}
        widths = widths_behind(self.width, shapes, self.mark)
        for name in self.left_out:
            taken = taken_by_recurrent(self.tensors, self.mark, name)
            if taken and any(taken % width == 0 for width in widths):
                raise UnclearError(
                    f"{quoted(self._layer_of(name))} is a recurrent layer that reads the features as a "
                    "sequence. Such a network has strides and poolings of its own, of which names and shapes "
                    "tell nothing, so that it can't be converted."
                )

    def refuse_stacked(self) -> None:
        """Raises UnclearError if a layer reads the output of one that may be the head."""
        readers = [one for one in self.choices + self.matrices if not _is_of_decoder(one.name)]
        for head in self.choices:
            _refuse_kernels_behind(self, head)
            for reader in readers:
                if reader != head and reader.taken == head.given:
                    raise UnclearError(
                        f"{reader} reads what {head} gives. They are stacked, and the head of a DenseNet is "
                        "one layer."
                    )

    def refuse_between(self, head: Matrix) -> None:
        """Raises UnclearError if something that was trained could stand before the features or the head."""
        kept = [name for name, ours in self.kept.items() if ours.startswith(HEAD)]
        left_out = [name for name in (*kept, *self.left_out) if self._layer_of(name) != head.layer]
        between = [name for name in left_out if not self._is_beside(name)]
        if between:
            shown = first_few([f"{name} {list(self.tensors[name].shape)}" for name in between])
            raise UnclearError(
                f"With the head {quoted(head.layer)} it can't be converted, for {shown} may stand before the "
                "features, or between them and the head."
            )

    def ask_for_head(self) -> None:
        """Raises UnclearError, which lists the layers that may be the head, or says why none can be kept."""
        refusals = []
        for head in self.choices:
            try:
                self.refuse_between(head)
            except UnclearError as error:
                refusals.append(error)
        if len(refusals) == len(self.choices):
            raise refusals[0]
        raise UnclearError(
            f"The last layer may be {' or '.join(map(str, self.choices))}, and neither names nor shapes tell "
            "which of them you run. If you know it, name it by `head=...`."
        )

    def _may_be_head(self, one: Matrix) -> bool:
        """Whether it reads the features, and is linear or a 1x1 convolution whose output nothing takes."""
        if one.taken != self.width:
            return False
        if len(self.tensors[one.name].shape) == 2:
            return True
        others = [name for name in self.left_out if name != one.name]
        taken = [widths_taken(self.tensors[name].shape, self._field_of(name)) for name in others]
        return not any(one.given in widths for widths in taken)

    def _is_beside(self, name: str) -> bool:
        """Whether a tensor that is left out can't be a part of what the network computes."""
        tensor, layer = self.tensors[name], self._layer_of(name)
        # A single integer counts something; several may choose or order the classes.
        counts = "int" in str(tensor.dtype) and prod(tensor.shape) == 1
        if counts or self._field_of(name) in BUFFERS or self._is_of_loss(name):
            return True
        if _is_of_decoder(name):  # one that gives as many channels as it reads may stand before the head
            return self.width not in tuple(tensor.shape)[:1]
        linear = {one.layer for one in self.choices if len(self.tensors[one.name].shape) == 2}
        is_head = self.reading.is_of_unused_head(name) or layer in linear
        return is_head and self.is_called_as_head(layer)

    def _is_of_loss(self, name: str) -> bool:
        """Whether it has one number for each class, and belongs to a loss."""
        *parents, field = name.replace("/", ".").split(".")
        in_loss = any(part.startswith(LOSSES) for part in parents)
        classes = {one.given for one in self.choices}
        shape = tuple(self.tensors[name].shape)
        return (in_loss or field == "pos_weight") and len(shape) == 1 and shape[0] in classes

    def _scope(self) -> str:
        """Returns what stands before the names of both, the features and the head."""
        place = self.reading.prefix.removesuffix(self.reading.inside)
        if self.head is None:
            return place
        while not self.head.layer.startswith(place):
            place = place[: place.rstrip(self.mark).rfind(self.mark) + 1]
        return place

    def _is_explained(self, name: str, others: Iterable[Reading]) -> bool:
        """Whether another whole network explains a name, or has it as a head that can't be this one's."""
        for other in others:
            own = name.removeprefix(other.prefix) if name.startswith(other.prefix) else ""
            called = HEAD_NAME.fullmatch(own.rpartition(other.layout.separator)[0])
            encloses = self.reading.prefix.startswith(other.prefix)
            if name in map(other.clean, other.explanation.targets) or (called and not encloses):
                return True
        return False

    def is_called_as_head(self, layer: str) -> bool:
        """Whether a layer stands beside the features under the name of a head."""
        reading = self.reading
        place = reading.prefix.removesuffix(reading.inside)
        named = layer.startswith(place) and HEAD_NAME.fullmatch(layer, len(place))
        return reading.prefix.endswith(reading.inside) and bool(named)

    def _layer_of(self, name: str) -> str:
        return name.rpartition(self.mark)[0]

    def _field_of(self, name: str) -> str:
        return name.rpartition(self.mark)[2]


def _refuse_kernels_behind(around: Surroundings, head: Matrix) -> None:
    """Raises UnclearError if a kernel may read the maps that a head of 1x1 convolution gives."""
    if len(around.tensors[head.name].shape) == 2:
        return
    for name in around.left_out:
        if head.given in widths_taken(around.tensors[name].shape, name.rpartition(around.mark)[2]):
            raise UnclearError(
                f"{quoted(name)} may read the maps that {head} gives. They are stacked, and the head of a "
                "DenseNet is one layer."
            )


def judge_surroundings(around: Surroundings, *, head_is_named: bool, order_is_known: bool) -> None:
    """Refuses a network of which something is left out that may be a part of its function.

    Args:
        around: what stands around it.
        head_is_named: whether the user says which layer is the last.
        order_is_known: whether the source tells which layer runs behind which, as a model of Keras does, so
            that what stands between was looked for there.

    Raises:
        UnclearError: the message says why, or what only the owner knows.
    """
    around.refuse_recurrent()
    reading = around.reading
    inside = [one for one in around.candidates if one.layer.startswith(reading.prefix)]
    if reading.features_alone or (around.head is None and not inside):
        return
    if order_is_known and head_is_named:
        return
    around.refuse_stacked()
    if around.head is not None and (head_is_named or not around.candidates):
        around.refuse_between(around.head)
    else:
        around.ask_for_head()


def refuse_unknown(layers: Sequence[DeclaredLayer]) -> None:
    """Raises UnclearError if layers that are not known here may run before, within or behind the network."""
    if layers:
        shown = first_few([f"{one.path} ({one.kind})" for one in layers])
        raise UnclearError(
            f"{shown} may run with the network, and what it computes is not in the file. Its code settles "
            "it: name that by `reference='MODULE:FUNCTION'`."
        )


def ask_for_relu(reading: Reading) -> NoReturn:
    """Raises UnclearError, for only the owner knows what runs before the head of such a reading."""
    where = f"under {quoted(reading.prefix)!r}" if reading.prefix else "at the top"
    raise UnclearError(
        f"The features stand {where}, and the head is {quoted(reading.head or reading.layout.head)!r}. "
        "torchvision's own class runs a ReLU between the last norm and the head, classes of people's own "
        "often do not, and neither names nor shapes tell. If yours runs it, say so by `final_relu=True`; if "
        "it takes what the last norm gives, by `final_relu=False`; or name its code by `reference=...`, and "
        "it is run."
    )


def _is_of_decoder(name: str) -> bool:
    return any(part.startswith(DECODERS) for part in name.replace("/", ".").split("."))
