"""Runs the owner's own network, recorded, and takes the output of it that is compared."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet

from ..errors import OwnNetworkError, first_few, is_out_of_memory, quoted
from ..layout import FEATURES
from ..records import Loaded
from ..results import EQUAL
from .every_input import Judgement, Result, judge_results
from .layers import OUTPUT, watching
from .naming import Name
from .recorder import Recorder, Step, recording
from .references.own_network import OwnNetwork
from .storages import INPUT

FIRST_WEIGHT = f"{FEATURES}conv0.weight"


class Run(NamedTuple):
    """A network that ran on one input.

    Attributes:
        output: what is compared of it.
        recorder: of the run.
        steps: what ran until the output was there.
    """

    output: Tensor
    recorder: Recorder
    steps: Sequence[Step]

    @property
    def name(self) -> Name:
        """Name of the output."""
        return self.recorder.name_of(self.output)

    def judge(self, theirs: Run) -> Judgement:
        """Judges its output by its name."""
        output = Result(OUTPUT, self.name, theirs.name)
        return judge_results(self.recorder, theirs.recorder, {"logits": [output]})["logits"]


class OwnPart:
    """The owner's network, or the module of it that is compared.

    Attributes:
        own: the whole network.
        key: which output is compared, or which module; None where there is one output alone.
        is_module: whether ``key`` is a module.
        part: the module that is run.
        width: number of classes, or of features.
        pairs: the owner's name and ours of each tensor that has the same axes in both.
    """

    def __init__(self, loaded: Loaded, own: OwnNetwork, key: str | None) -> None:
        self.loaded, self.own, self.key = loaded, own, key
        config = loaded.config
        self.width = config.num_classes or config.num_features
        self.maps = 0 if config.num_classes else 2 + config.spatial_dims
        rewritten = {step.target for step in loaded.renamed.checkpoint.rewrites}
        kept = [trace for trace in loaded.renamed.trail if trace.source_name not in rewritten]
        traces = [trace for trace in kept if trace.axes is None]
        names = [(own.names.get(trace.source_name or ""), trace.name) for trace in traces]
        self.pairs = [(theirs, ours) for theirs, ours in names if theirs is not None]
        named = None if key is None else dict(own.network.named_modules()).get(key)
        self.is_module = named is not None
        self.part = named if named is not None and self._holds_all(named) else own.network
        self._tapped = named if self.part is own.network else None

    def run(self, x: Tensor, recorder: Recorder | None = None) -> Run:
        """Runs it on ``[N, C, H, W]``; see ``choose_output`` for what it raises."""
        tapped: list[tuple[Any, int]] = []
        recorder, x = Recorder() if recorder is None else recorder, x.clone()

        def tap(_module: nn.Module, _input: object, output: Any) -> None:
            tapped.append((output, len(recorder.steps)))

        handle = nullcontext() if self._tapped is None else self._tapped.register_forward_hook(tap)
        with handle, watching(self.part, _nothing, recorder), recording(self.part, x, recorder):
            value = self.part(x)
        value, count = tapped[-1] if tapped else (value, len(recorder.steps))
        key = None if self.is_module else self.key
        output = choose_output(value, len(x), self.width, key, maps=self.maps)
        return Run(output, recorder, recorder.steps[:count])

    def in_float64(self) -> OwnPart:
        """A copy that computes in float64."""
        network = deepcopy(self.own.network).double()
        return OwnPart(self.loaded, replace(self.own, network=network), self.key)

    def run_behind_stem(self, x: Tensor) -> tuple[Tensor, Run]:
        """Runs it, and names what its first convolution takes as if that were the input.

        Returns:
            What the first convolution takes, ``x`` itself where no module has it, and the run.
        """
        recorder, taken = Recorder(), list[Tensor]()

        def begin(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            with recorder.pausing():
                taken.append(inputs[0].clone())
                recorder.add_leaves({INPUT: inputs[0]})

        first = next((name for name, ours in self.pairs if ours == FIRST_WEIGHT), "")
        stem = dict(self.own.network.named_modules()).get(first.rpartition(".")[0])
        if stem is None or isinstance(stem, torch.jit.ScriptModule):
            return x, self.run(x, recorder)
        with stem.register_forward_pre_hook(begin):
            run = self.run(x, recorder)
        return taken[0], run

    def module_alike(self, x: Tensor, ours: Run) -> str | None:
        """Returns the outermost module that gives what ours gives."""
        for path in self._paths_that_may_be_equal():
            try:
                run = OwnPart(self.loaded, self.own, path).run(x)
            except Exception as error:  # the module may take something else than images
                if is_out_of_memory(error):
                    raise
                continue
            if ours.judge(run).verdict == EQUAL:
                return path
        return None

    def around(self, x: Tensor, within: Run) -> tuple[str, ...]:
        """Returns the operators that the owner's network runs around the module that is compared."""
        recorder, x = Recorder(), x.clone()
        try:
            with recording(self.own.network, x, recorder):
                self.own.network(x)
        except Exception as error:  # it takes another input than its module
            if is_out_of_memory(error):
                raise
            return ()
        return operators_beyond(recorder.steps, within.steps)

    def parameters(self) -> list[Tensor]:
        """Those that are compared."""
        tensors = dict(self.own.network.named_parameters())
        return [tensors[name] for name, _ in self.pairs if name in tensors]

    def _paths_that_may_be_equal(self) -> Iterator[str]:
        """Yields modules that hold all that is compared, then those behind the features; outermost first."""
        modules = {path: module for path, module in self.own.network.named_modules() if path}
        whole = [path for path, module in modules.items() if self._holds_all(module)]
        yield from whole
        features = [name.split(".") for name, ours in self.pairs if ours.startswith(FEATURES)]
        root = os.path.commonpath(["/".join(name) for name in features]).replace("/", ".")
        for path in modules:
            behind = not path.startswith(f"{root}.") if root else "." not in path
            if behind and not any(name[: path.count(".") + 1] == path.split(".") for name in features):
                yield path

    def _holds_all(self, module: nn.Module) -> bool:
        held = {id(one) for one in module.parameters()}
        return all(id(one) in held for one in self.parameters())


def run_ours(ours: DenseNet, x: Tensor, theirs: Tensor, recorder: Recorder | None = None) -> Run:
    """Runs ours on ``[N, C, H, W]`` up to what the owner's network gave."""
    recorder, x = Recorder() if recorder is None else recorder, x.clone()
    with watching(ours, _nothing, recorder), recording(ours, x, recorder):
        output = run_up_to(ours, x, theirs)
    return Run(output, recorder, recorder.steps)


def run_up_to(ours: DenseNet, x: Tensor, theirs: Tensor) -> Tensor:
    """Returns logits or features, or where the owner's network gives maps those."""
    if theirs.ndim == 2:
        return cast(Tensor, ours(x))
    maps = cast(Tensor, ours.features(x))
    return F.relu(maps, inplace=True) if ours.config.final_relu else maps


def operators_beyond(theirs: Sequence[Step], ours: Sequence[Step]) -> tuple[str, ...]:
    """Returns the operators that run more often in the first, in order."""
    plain = [step.operator.replace("_.", ".") for step in theirs]
    more = Counter(plain) - Counter(step.operator.replace("_.", ".") for step in ours)
    return tuple(name for name in dict.fromkeys(plain) if name in more)


def choose_output(value: Any, images: int, width: int, key: str | None, *, maps: int) -> Tensor:
    """Returns the one tensor among what a network returned that the converted network may give.

    Args:
        value: a tensor, or tuples, lists, dicts and dataclasses of them.
        images: number of images.
        width: number of classes, or of features.
        key: which of several, as keys, fields and numbers, joined by dots.
        maps: number of dimensions of ``[images, width, H, W]``, which are taken as well; 0 if they are not.

    Returns:
        ``[images, width]``, or the maps.

    Raises:
        OwnNetworkError: there is none, or there are several.
    """
    found = dict(_tensors_in(value))
    if key is not None and key not in found:
        raise OwnNetworkError(
            f"The network has no output and no module {quoted(key)!r}: it returns {_described(found)}."
        )
    asked = found if key is None else {key: found[key]}
    flat = {name: _without_sides(one) for name, one in asked.items()}
    expected = [(images, width, rank) for rank in ((2, maps) if maps else (2,))]
    fitting = [name for name, one in flat.items() if (*one.shape[:2], one.ndim) in expected]
    if len({id(asked[name]) for name in fitting}) == 1:
        return flat[fitting[0]]
    several = f" Name one of {first_few(fitting, 8)} by `reference_output=...`." if fitting else ""
    raise OwnNetworkError(
        f"The network returns {_described(found)}, expected one tensor of shape {[images, width]}.{several}"
    )


def _without_sides(tensor: Tensor) -> Tensor:
    """Returns ``[N, C]`` of maps of one place, and other tensors as they are."""
    return tensor.flatten(1) if tensor.ndim > 2 and set(tensor.shape[2:]) == {1} else tensor


def _described(found: Mapping[str, Tensor]) -> str:
    return first_few([f"{name} {list(one.shape)}".strip() for name, one in found.items()], 8) or "no tensor"


def _tensors_in(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields each tensor in what a network returned, by its keys, fields and numbers, joined by dots."""
    if isinstance(value, Tensor):
        yield path, value
        return
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        items = [(name, getattr(value, name)) for name in getattr(value, "__dataclass_fields__", ())]
    for name, one in items:
        yield from _tensors_in(one, f"{path}.{name}" if path else str(name))


def _nothing(module: nn.Module, output: Tensor) -> None:
    """Looks at no output: layers are watched for the recorder alone."""
