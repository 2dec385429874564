"""Between steps 2 and 3: what a file tells of its layers, held against what its layout is read as.

Tensors don't say which function they are of.  A whole module and a Keras model do: by the class and the
settings of every layer.  What is told must be what a DenseNet does, in its order; what is not told, as by a
state dict, is not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, NamedTuple, NoReturn

from densenet_convert.densenet import DenseNetConfig

from .errors import ArchitectureError, some
from .formats.contents import Layer
from .labels import MULTI_LABEL
from .layout import Layout
from .records import Checkpoint
from .told_steps import (
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
    Step,
    holds_in_order,
    last_of,
    padding_of,
    pair,
    steps_of_keras,
    steps_of_torch,
)

Layers = Mapping[str, Layer]

ADVICE = (
    "The converted network would be another function. Convert the weights alone, a state dict or a file of "
    "save_weights, if this layer is not part of what you run."
)
XRAY = "torchxrayvision"
HEAD, LAST_NORM = "classifier", "features.norm5"
# What a network of this layout does, in torch's words.
SETTINGS: dict[str, dict[str, Any]] = {
    MAX: {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": False},
    AVERAGE: {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": False, "divisor_override": None},
    GLOBAL: {"output_size": 1},
}
TRANSITION_MAX = {**SETTINGS[AVERAGE], "dilation": 1}


class Due(NamedTuple):
    """What must come next where it is ``required``; settings that a file does not tell are not looked at."""

    what: str
    settings: Mapping[str, Any]
    required: bool


def heed(checkpoint: Checkpoint, layout: Layout) -> tuple[Checkpoint, str | None]:
    """The checkpoint with the epsilon that it tells, and how its logits are to be read, where it tells that.

    Raises:
        ArchitectureError: a layer does something that the network of this layout does not, or the other
            way around.
    """
    norm_eps, problem_type = told_by(checkpoint.layers, checkpoint.format, checkpoint.tensors, layout)
    # Of a checkpoint that was recovered the receipt told it.
    return replace(checkpoint, norm_eps=norm_eps) if checkpoint.layers else checkpoint, problem_type


def told_by(
    layers: Layers, format_name: str, names: Iterable[str], layout: Layout
) -> tuple[float | None, str | None]:
    """The epsilon that a file tells, where it is not the layout's, and how its logits are to be read.

    Args:
        layers: what the file tells of its layers.
        format_name: the file's.
        names: of its tensors.
        layout: what these are in.

    Raises:
        ArchitectureError: as ``heed``.
    """
    if not layers:
        return None, None
    _require_own_images(layers, layout)
    told = _Told(layers, format_name, names, layout)
    if not told.places.keys() <= layers.keys():
        return None, None  # a model of the user's own class does not tell of those within
    told.require_own_functions()
    for step in told.steps():
        told.take(step)
    told.close()
    return told.norm_eps(), told.problem_type


def _require_own_images(layers: Layers, layout: Layout) -> None:
    """Without their thresholds torchxrayvision's names are torchvision's, and its images are others."""
    for path, layer in layers.items():
        if layer.kind.partition(".")[0] == XRAY != layout.name:
            raise ArchitectureError(
                f"{some([path or 'The whole module'])} is {some([layer.kind])}, whose images are prepared in "
                f"another way than torchvision's. Convert it with --layout {XRAY}."
            )


class _Told:
    """Goes through the steps of a file, and knows what must come next.

    Attributes:
        place: our name of the last layer with parameters that was passed.
        due: what is still to come behind it.
        before: that layer, as the file has it.
        padding: what the next layer is padded by, where a layer of its own says so.
        problem_type: how the logits are to be read.
        is_read: whether a layer behind the head read them.
    """

    def __init__(self, layers: Layers, format_name: str, names: Iterable[str], layout: Layout) -> None:
        self.layers, self.layout = layers, layout
        self.keras = format_name.startswith("keras")
        mark = layout.separator
        explained = layout.explain(names, whole=False)
        targets = explained.targets.items()
        self.places = {theirs.rpartition(mark)[0]: ours.rpartition(".")[0] for theirs, ours in targets}
        self.dropped = {name.rpartition(mark)[0] for name in explained.dropped}
        self.config = replace(DenseNetConfig(), **layout.overrides)
        self.place, self.before = "", ""
        self.due: list[Due] = []
        self.padding: Step | None = None
        self.idle: Step | None = None
        self.epsilons: dict[str, Any] = {}
        self.problem_type: str | None = None
        self.is_read = False

    def require_own_functions(self) -> None:
        """Hooks, and a forward of its own, may make anything of a module."""
        for path, layer in self.layers.items():
            part = path.startswith(self.layout.prefix) or any(place.startswith(path) for place in self.places)
            if layer.replaced and (part or not self.layout.only):
                raise ArchitectureError(
                    f"{some([path or 'The whole module'])} ({some([layer.kind])}) has {layer.replaced}, "
                    f"which may change what it computes. {ADVICE}"
                )

    def steps(self) -> Iterator[Step]:
        """Those of the network, and of what is around it; what --only leaves out is none of them."""
        read, ours = steps_of_keras if self.keras else steps_of_torch, set(self.places.values())
        kept = {self._branch(path) for path in self.places}
        beside = self._beside_the_way()
        left_out = {self._branch(path) for path in self.dropped if path in self.layers} - kept
        for step in read(self.layers, self.places):
            if step.path in self.places:
                yield step
            elif self.layout.only and beside.intersection((step.path, *self._holders(step.path))):
                continue
            elif step.path in self.dropped and self._is_beside_head(step.path):
                self._refuse(step)
            elif self.keras and step.path in self.dropped and self.place == LAST_NORM and HEAD in ours:
                self._refuse(step)  # it may stand between the features and the head
            elif self.layout.only and not self._is_inside(step.path):
                continue
            elif step.path not in self.dropped and (self._branch(step.path) not in left_out):
                yield step

    def _beside_the_way(self) -> set[str]:
        """Of the model of Keras that holds the head, what does not lead there, such as another output."""
        head = next((path for path, place in self.places.items() if place == HEAD), None)
        if head is None or not self.layers[head].inputs:
            return set()
        model = self.layers[head].within
        paths = {one.settings.get("name"): path for path, one in self.layers.items() if one.within == model}
        way, waiting = set[str](), [head]
        while waiting:
            path = waiting.pop()
            if path not in way:
                way.add(path)
                waiting += [paths[name] for name in self.layers[path].inputs if name in paths]
        return set(paths.values()) - way

    def _is_inside(self, path: str) -> bool:
        """Whether it is under the prefix, or stands in a sequence with the head."""
        if path.startswith(self.layout.prefix):
            return True
        return self._is_beside_head(path)

    def _is_beside_head(self, path: str) -> bool:
        head = self.layers.get(self.layout.wrapped_head or "")
        within = self.layers[path].within
        return head is not None and head.within == within and holds_in_order(self.layers.get(within or ""))

    def _branch(self, path: str) -> str:
        """What holds it, next to the outermost under the prefix; itself where nothing does."""
        root = self.layout.prefix.rstrip("./")
        while (layer := self.layers.get(path)) is not None and layer.within not in (None, root):
            path = layer.within or ""
        return path

    def take(self, step: Step) -> None:
        """The next step.  Raises ArchitectureError where it is not what must come next."""
        if step.settings.get("pool_type", AVERAGES[0]) not in AVERAGES:
            self._refuse_setting(step.path, "pool_type", step.settings["pool_type"], AVERAGES[0])
        elif step.holds:
            self._parametrised(step)
        elif step.what == NOTHING:
            self.idle = step if last_of(step.kind) == "Identity" else self.idle
        elif step.runs or step.what == PAD:
            self._in_order(step)
        else:
            self._anywhere(step)

    def close(self) -> None:
        """What was still to come is missed.  Raises ArchitectureError where it had to."""
        if self.padding is not None:
            self._refuse(self.padding)
        for due in self.due:
            if due.required:
                self._missing(due)
        self.due, self.idle = [], None

    def norm_eps(self) -> float | None:
        """The epsilon that all batch norms share, where the layout implies another one.

        Raises:
            ArchitectureError: they have several, or it is none.
        """
        expected = self.config.norm_eps
        found = set(map(str, self.epsilons.values()))
        for path, eps in self.epsilons.items():
            if len(found) > 1 and eps != expected:
                self._refuse_setting(path, "eps", eps, expected)
            if not isinstance(eps, int | float) or not (eps > 0 and isfinite(eps)):
                self._refuse_setting(path, "eps", eps, expected)
        told = next(iter(self.epsilons.values()), expected)
        return None if told == expected else float(told)

    def _parametrised(self, step: Step) -> None:
        place = self.places[step.path]
        last = place.rpartition(".")[2]
        what = LINEAR if place == HEAD else NORM if last.startswith("norm") else CONV
        # A class of the user's own is known by its settings alone.
        if step.what != what and (step.known or step.what != OTHER):
            self._refuse(step, what)
        step = self._padded(step, what)
        self.close()
        if what == NORM and "eps" in step.settings:
            self.epsilons[step.path] = step.settings["eps"]
        if what == CONV:
            self._compare(step, self._convolution(last))
        self.place, self.before = place, step.path
        self.due = self._following(step, place)

    def _convolution(self, last: str) -> dict[str, Any]:
        expected = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
        if last == "conv2":
            expected["padding"] = 1
        if last == "conv0":
            before, after = self.config.stem_padding
            expected |= {"stride": 2, "padding": before}
            if before != after:
                del expected["padding"]
        return expected

    def _following(self, step: Step, place: str) -> list[Due]:
        """What a DenseNet does next without parameters.

        It must be told where the layer is one of a sequence; elsewhere it may be a function that was called.
        """
        *_, block, last = ("", *place.split("."))
        within = self.layers[step.path].within
        sure = self.keras or holds_in_order(self.layers.get(within or ""))
        active = last_of(step.kind).endswith(("Act", "Act2d"))
        if place == LAST_NORM:
            sure = self.keras or self._ends_in_order(step.path)
            pooled = sure and HEAD in self.places.values()
            return [Due(RELU, {}, sure or active), Due(GLOBAL, SETTINGS[GLOBAL], pooled)]
        if last == "norm0":
            return [Due(RELU, {}, sure or active), Due(MAX, SETTINGS[MAX], sure)]
        if last.startswith("norm"):
            return [Due(RELU, {}, sure or active)]
        if last == "conv" and block.startswith("transition"):
            return [Due(*self._transition(), sure)]
        return []

    def _transition(self) -> tuple[str, dict[str, Any]]:
        average = self.config.transition_pool == "avg"
        return (AVERAGE, SETTINGS[AVERAGE]) if average else (MAX, TRANSITION_MAX)

    def _ends_in_order(self, last_norm: str) -> bool:
        """Whether the features and the head are parts of one sequence, or of MONAI's network."""
        head = next((path for path, place in self.places.items() if place == HEAD), last_norm)
        holders = set(self._holders(head))
        common = next((path for path in self._holders(last_norm) if path in holders), None)
        if head == last_norm or common is None:
            return False
        layer = self.layers[common]
        return last_of(layer.kind) == "Sequential" or layer.kind.startswith("monai.")

    def _holders(self, path: str) -> Iterator[str]:
        """What holds it, what holds that, and so on."""
        while (layer := self.layers.get(path)) is not None and layer.within is not None:
            path = layer.within
            yield path

    def _in_order(self, step: Step) -> None:
        if step.what == PAD and self.padding is None:
            self.padding = step
            return
        if self.place == HEAD and step.what in (SIGMOID, SOFTMAX) and not self.is_read:
            axis = step.settings.get("dim", step.settings.get("axis"))
            if axis in (None, 1, -1):  # that of the classes
                self._read_as(step)
                self.is_read = True
                return
        step = self._padded(step, MAX)
        while self.due:
            due = self.due.pop(0)
            if due.what == step.what:
                self._compare(step, due.settings)
                return
            if due.required:
                self._refuse(step, due.what)
        self._refuse(step)

    def _anywhere(self, step: Step) -> None:
        """A module of one that may use it at any time, or not at all: the network must use such ones."""
        outside = not self.place.startswith("features.") or self.place == LAST_NORM
        if step.what in (SIGMOID, SOFTMAX) and outside:
            self._read_as(step)
            return
        used = [(RELU, {}), (MAX, SETTINGS[MAX]), self._transition(), (GLOBAL, SETTINGS[GLOBAL])]
        fitting = [settings for what, settings in used if what == step.what]
        if fitting:
            self._compare(step, fitting[-1])
        elif step.known or step.what != OTHER:
            self._refuse(step)

    def _read_as(self, step: Step) -> None:
        if step.what == SIGMOID and HEAD in self.places.values():
            self.problem_type = MULTI_LABEL

    def _padded(self, step: Step, taking: str) -> Step:
        """With the padding of the layer before it, and its own in numbers."""
        settings = dict(step.settings)
        if "padding" in settings:
            settings["padding"] = padding_of(step)
        if self.padding is not None:
            if step.what != taking or taking not in (CONV, MAX) or pair(settings.get("padding", 0)) != (0, 0):
                self._refuse(self.padding)
            settings["padding"], self.padding = padding_of(self.padding), None
        return step._replace(settings=settings)

    def _compare(self, step: Step, expected: Mapping[str, Any]) -> None:
        for name, value in expected.items():
            if name in step.settings and pair(step.settings[name]) != pair(value):
                self._refuse_setting(step.path, name, step.settings[name], value)

    def _missing(self, due: Due) -> NoReturn:
        if self.idle is not None:
            self._refuse(self.idle, due.what)
        raise ArchitectureError(
            f"The file tells of no layer behind {some([self.before])} for {due.what}, which a DenseNet has "
            f"there. {ADVICE}"
        )

    def _refuse(self, step: Step, expected: str | None = None) -> NoReturn:
        wanted = f"expected {expected}" if expected else "where a DenseNet has nothing"
        path = some([step.path or "The whole module"])
        raise ArchitectureError(f"{path} is {some([step.kind])}, {wanted}. {ADVICE}")

    def _refuse_setting(self, path: str, name: str, found: Any, expected: Any) -> NoReturn:
        kind = some([self.layers[path].kind])
        raise ArchitectureError(
            f"{some([path])} ({kind}) has {name} {some([str(found)])}, expected {expected}. {ADVICE}"
        )
