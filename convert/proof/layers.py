"""The layers whose outputs are compared, and how to watch a network run through them.

Layers of two networks are paired in the order in which they run, not by their names: a
map that is wrong can't hide behind names that it made itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from .recorder import Recorder

LAYERS: dict[str, type[nn.Module]] = {
    "convolution": _ConvNd,
    "norm": _BatchNorm,
    "linear": nn.Linear,
    "average pooling": _AvgPoolNd,
    "max pooling": _MaxPoolNd,
}

# The name of the logits among the layers.
OUTPUT = "the output"

Observer = Callable[[nn.Module, Tensor], None]


def kind_of(module: nn.Module | None) -> str | None:
    """Returns the kind of a layer for a message; None for modules that are not compared."""
    return next((kind for kind, layer in LAYERS.items() if isinstance(module, layer)), None)


@contextmanager
def watching(network: nn.Module, observe: Observer, recorder: Recorder | None = None) -> Iterator[None]:
    """Calls ``observe`` with each layer and its output.

    The output must be looked at, or copied, at once: the ReLU behind it works in place.

    Args:
        recorder: is told which layer runs, and does not record what ``observe`` does.
    """
    names = {module: name for name, module in network.named_modules()}

    def hook(module: nn.Module, _: object, output: Tensor) -> None:
        if recorder is None:
            observe(module, output)
            return
        with recorder.pausing():
            observe(module, output)

    def enter(module: nn.Module, _: object) -> None:
        if recorder is not None:
            recorder.layer = names[module]

    layers = [module for module in network.modules() if kind_of(module)]
    handles = [module.register_forward_pre_hook(enter) for module in layers]
    handles += [module.register_forward_hook(hook) for module in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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


def outputs(
    network: nn.Module, run: Callable[[], Tensor], images: int | None = None
) -> list[tuple[str, Tensor]]:
    """Name and output of each layer, in the order in which ``run`` runs them, and then ``OUTPUT``.

    Args:
        images: of so many the layers' outputs are kept; of all by default.
    """
    names = {module: name for name, module in network.named_modules()}
    ran: list[tuple[str, Tensor]] = []

    def keep(module: nn.Module, output: Tensor) -> None:
        ran.append((names[module], output[:images].detach().clone()))

    with watching(network, keep):
        logits = run()
    return [*ran, (OUTPUT, logits)]
