"""Runs two networks side by side and compares them to the bit; the first difference raises.

Layers are paired in the order in which they run, not by their names: a map that is wrong
can't hide behind names that it made itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..errors import ParityError
from ..records import Renamed
from ..tensors import same_bits

LAYERS: dict[str, type[nn.Module]] = {
    "convolution": _ConvNd,
    "norm": _BatchNorm,
    "linear": nn.Linear,
    "average pooling": nn.AvgPool2d,
    "max pooling": nn.MaxPool2d,
}

Observer = Callable[[nn.Module, Tensor], None]
T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Tally:
    """Counts what was compared, and keeps the largest difference of each kind.

    Attributes:
        source_names: the source's name of each canonical one, for messages.
        compared: number of comparisons of each kind.
        largest: largest absolute difference of each kind.
    """

    source_names: Mapping[str, str | None]
    compared: Counter[str] = field(default_factory=Counter)
    largest: dict[str, float] = field(default_factory=dict)

    def compare(self, kind: str, where: str, ours: Tensor, theirs: Tensor, on: str) -> None:
        """Compares one value of each network.

        Args:
            kind: ``"activations"``, ``"logits"``, ``"gradients"``, ``"running statistics"`` or ``"tensors"``.
            where: canonical name of the layer or tensor.
            on: what both networks ran on, for the message.

        Raises:
            ParityError: they differ in dtype, shape or any bit.
        """
        self.compared[kind] += 1
        if same_bits(ours, theirs):
            self.largest.setdefault(kind, 0.0)
            return
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            largest = float("inf")
            found = f"{ours.dtype} {list(ours.shape)}, expected {theirs.dtype} {list(theirs.shape)}"
        else:
            largest = (ours.detach().double() - theirs.detach().double()).abs().max().item()
            found = f"the largest difference is {largest:.3g}, expected 0"
        self.largest[kind] = largest
        raise ParityError(
            f"The converted network is not the reference's function. The first of its {kind} that differs, "
            f"after {sum(self.compared.values()) - 1:,} comparisons without a difference, is at "
            f"{where}{self._source(where)} on {on}: {found}. Nothing was written.",
            where=where,
            largest=largest,
        )

    def _source(self, where: str) -> str:
        names = [
            source or "zero"
            for name, source in self.source_names.items()
            if name == where or name.rpartition(".")[0] == where
        ]
        return f" (from {names[0]})" if names else ""


@dataclass(frozen=True)
class Pair:
    """Two layers that did the same work."""

    name: str
    ours: nn.Module
    theirs: nn.Module

    def parameters(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Canonical name and both parameters, for each that the layer has."""
        theirs = dict(self.theirs.named_parameters())
        for field_name, parameter in self.ours.named_parameters():
            yield f"{self.name}.{field_name}", parameter, theirs[field_name]

    def buffers(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Canonical name and both buffers, for each that the layer has."""
        theirs = dict(self.theirs.named_buffers())
        for field_name, buffer in self.ours.named_buffers():
            yield f"{self.name}.{field_name}", buffer, theirs[field_name]


def compare_bytes(renamed: Renamed, model: nn.Module, tally: Tally) -> None:
    """Compares what the network holds with the source's own tensors, through the trail."""
    held = model.state_dict()
    for trace in renamed.trail:
        source = renamed.checkpoint.tensors.get(trace.source_name) if trace.source_name else None
        tensor = held[trace.name]
        expected = torch.zeros_like(tensor) if source is None else source
        tally.compare("tensors", trace.name, tensor, expected, "the CPU")


def compare_eval(
    ours: nn.Module, theirs: nn.Module, x: Tensor, tally: Tally, observe: Observer
) -> tuple[list[Pair], Tensor]:
    """Compares the output of every layer, in eval mode.

    Args:
        x: input of both, ``[N, C, H, W]``.
        observe: is called with each layer of ours and its output, once that was compared.

    Returns:
        The pairs of layers, and our logits ``[N, classes]``, of which the graph is kept.

    Raises:
        ParityError: a layer differs, or the networks run other layers.
    """
    on = describe(x, "eval")
    names = {module: name for name, module in ours.named_modules()}
    pairs: list[Pair] = []
    waiting: SimpleQueue[tuple[nn.Module | None, Tensor]] = SimpleQueue()

    def compare(module: nn.Module, output: Tensor) -> None:
        name = names[module]
        their_module, their_output = waiting.get()
        if their_module is None or kind_of(module) != kind_of(their_module):
            raise _other_layers(name, module, their_module)
        tally.compare("activations", name, output, their_output, on)
        pairs.append(Pair(name, module, their_module))
        observe(module, output)

    def run_theirs() -> Tensor:
        try:
            with torch.no_grad(), watching(theirs, lambda module, y: waiting.put((module, y.clone()))):
                return cast(Tensor, theirs(x))
        finally:
            waiting.put((None, x))  # however it ended, no more is to be waited for

    def run_ours() -> Tensor:
        with watching(ours, compare):
            logits = ours(x)
        left, _ = waiting.get()
        if left is not None:
            raise _other_layers("the end", None, left)
        return cast(Tensor, logits)

    expected, logits = side_by_side(run_theirs, run_ours)
    tally.compare("logits", "the output", logits, expected, on)
    return pairs, logits


def compare_training_step(
    ours: nn.Module, theirs: nn.Module, pairs: list[Pair], x: Tensor, tally: Tally
) -> None:
    """Compares logits, the gradient of every parameter and the running statistics after one step in training.

    Both networks are left as they were.
    """
    on = describe(x, "a training step")
    our_parameters = [ours for pair in pairs for _, ours, _ in pair.parameters()]
    their_parameters = [theirs for pair in pairs for _, _, theirs in pair.parameters()]
    with _training(ours), _training(theirs):
        expected, their_gradients = _step(theirs, their_parameters, x)
        logits, gradients = _step(ours, our_parameters, x)
        tally.compare("logits", "the output", logits, expected, on)
        names = [name for pair in pairs for name, _, _ in pair.parameters()]
        for name, gradient, their_gradient in zip(names, gradients, their_gradients, strict=True):
            tally.compare("gradients", name, gradient, their_gradient, on)
        for pair in pairs:
            for name, buffer, their_buffer in pair.buffers():
                tally.compare("running statistics", name, buffer, their_buffer, on)


def cotangent(logits: Tensor) -> Tensor:
    """Weights, none of them 0, by which logits are summed: equal ones could cancel out."""
    return torch.linspace(0.5, 1.5, logits.numel(), dtype=logits.dtype, device=logits.device).view_as(logits)


def describe(x: Tensor, mode: str) -> str:
    """``"eval 1x3x224x224"``."""
    return f"{mode} {'x'.join(map(str, x.shape))}"


def kind_of(module: nn.Module | None) -> str | None:
    """What a layer is called in a message; None for modules that are not compared."""
    return next((kind for kind, layer in LAYERS.items() if isinstance(module, layer)), None)


@contextmanager
def watching(network: nn.Module, observe: Observer) -> Iterator[None]:
    """Calls ``observe`` with each layer and its output.

    The output must be looked at, or copied, at once: the ReLU behind it works in place.
    """

    def hook(module: nn.Module, _: object, output: Tensor) -> None:
        observe(module, output)

    handles = [module.register_forward_hook(hook) for module in network.modules() if kind_of(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def half_the_threads() -> Iterator[None]:
    """Leaves each of two networks that run at once its share of the cores.

    One small layer does not fill them all, and two full sets of threads would wait for
    each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def side_by_side(theirs: Callable[[], T], ours: Callable[[], U]) -> tuple[T, U]:
    """Runs both at once.  What ``theirs`` raises comes before what ``ours`` makes of it."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(theirs)
        try:
            result = ours()
        finally:
            expected = future.result()
    return expected, result


def _step(network: nn.Module, parameters: list[Tensor], x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    logits: Tensor = network(x)
    return logits, torch.autograd.grad(logits, parameters, cotangent(logits))


@contextmanager
def _training(network: nn.Module) -> Iterator[None]:
    """Training mode on copies of the buffers: a network may share them with the checkpoint."""
    kept = [
        (module, name, buffer) for module in network.modules() for name, buffer in module._buffers.items()
    ]
    for module, name, buffer in kept:
        module._buffers[name] = None if buffer is None else buffer.clone()
    network.train()
    try:
        yield
    finally:
        network.eval()
        for module, name, buffer in kept:
            module._buffers[name] = buffer


def _other_layers(name: str, ours: nn.Module | None, theirs: nn.Module | None) -> ParityError:
    return ParityError(
        f"The converted network is not the reference's function: at {name} it runs "
        f"{kind_of(ours) or 'nothing'}, expected {kind_of(theirs) or 'nothing'}. Nothing was written.",
        where=name,
        largest=float("inf"),
    )
