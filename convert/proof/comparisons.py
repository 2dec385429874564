"""Runs two networks and compares them to the bit; the first difference raises."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ..errors import ParityError
from ..records import Renamed
from .layers import Pair, kind_of, watching
from .recorder import Recorder, recording
from .tally import Tally

# A layer of the reference as it ran, with its output; None stands for the end.
Ran = tuple[nn.Module | None, Tensor]

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Step:
    """The results of a training step, and the state that it left.

    Attributes:
        logits: ``[N, classes]``.
        gradients: of each parameter.
        buffers: of each module, by name, as the step left them.
    """

    logits: Tensor
    gradients: Mapping[Tensor, Tensor]
    buffers: Mapping[nn.Module, Mapping[str, Tensor]]


def compare_bytes(renamed: Renamed, model: nn.Module, tally: Tally) -> None:
    """Compares what the network holds with the source's own tensors, through the trail."""
    held = model.state_dict()
    for trace in renamed.trail:
        source = renamed.checkpoint.tensors.get(trace.source_name) if trace.source_name else None
        tensor = held[trace.name]
        if source is None:
            source = torch.zeros_like(tensor)
        expected = source if trace.axes is None else source.permute(trace.axes)
        tally.compare("tensors", trace.name, tensor, expected, "the CPU")


Recorders = tuple[Recorder | None, Recorder | None]
NOT_RECORDED: Recorders = (None, None)


def compare_outputs(
    ours: nn.Module, theirs: nn.Module, x: Tensor, tally: Tally, recorders: Recorders = NOT_RECORDED
) -> tuple[list[Pair], Tensor, Tensor]:
    """Compares, in eval mode, the output of every layer, and the logits.

    Args:
        x: input of both, ``[N, C, H, W]``.
        recorders: of our network and of the reference, which record them.

    Returns:
        The pairs of layers, our logits, ``[N, classes]``, with their graph, and the reference's.

    Raises:
        ParityError: a layer differs, or the networks run other layers.
    """
    on = describe(x, "eval")
    expected, (pairs, logits) = one_after_the_other(
        lambda put: record(theirs, x, put, recorder=recorders[1]),
        lambda get: compare_layers(ours, x, get, tally, on, recorders[0]),
    )
    tally.compare("logits", "the output", logits, expected, on)
    return pairs, logits, expected


def compare_layers(
    ours: nn.Module,
    x: Tensor,
    their_next: Callable[[], Ran],
    tally: Tally,
    on: str,
    recorder: Recorder | None = None,
) -> tuple[list[Pair], Tensor]:
    """Runs our network and compares each layer's output with the reference's next one.

    Args:
        their_next: gives what ``record`` put, one after the other.
        on: what both run on, for messages.
        recorder: records our network.

    Returns:
        The pairs of layers, and our logits.
    """
    names = {module: name for name, module in ours.named_modules()}
    pairs: list[Pair] = []

    def compare(module: nn.Module, output: Tensor) -> None:
        name = names[module]
        their_module, their_output = their_next()
        if their_module is None or kind_of(module) != kind_of(their_module):
            raise _other_layers(name, module, their_module)
        tally.compare("activations", name, output, their_output, on)
        pairs.append(Pair(name, module, their_module))

    with watching(ours, compare, recorder), recording(ours, x, recorder):
        logits = cast(Tensor, ours(x))
    left, _ = their_next()
    if left is not None:
        raise _other_layers("the end", None, left)
    return pairs, logits


def record(
    network: nn.Module,
    x: Tensor,
    put: Callable[[Ran], object],
    *,
    graph: bool = False,
    recorder: Recorder | None = None,
) -> Tensor:
    """Runs a network, puts each layer with a copy of its output, and at the end None; returns the logits."""

    def put_copy(module: nn.Module, output: Tensor) -> None:
        put((module, output.detach().clone()))

    watched = watching(network, put_copy, recorder)
    with torch.set_grad_enabled(graph), watched, recording(network, x, recorder):
        logits = cast(Tensor, network(x))
    put((None, x))
    return logits


def compare_placement(pairs: list[Pair], tally: Tally) -> None:
    """Compares the parameters and buffers that two layers hold which do the same work.

    What a layer computes can't show this where nothing passes through it.
    """
    for pair in pairs:
        for name, tensor, their_tensor in (*pair.parameters(), *pair.buffers()):
            tally.compare("placements", name, tensor, their_tensor, "no input, as it was loaded")


def compare_training_step(
    ours: nn.Module, theirs: nn.Module, x: Tensor, tally: Tally, recorders: Recorders = NOT_RECORDED
) -> tuple[list[Pair], Step, Step]:
    """Compares outputs, the gradient of every parameter and the running statistics after one training step.

    Both networks are left as they were.

    Returns:
        The pairs of layers, our step and the reference's.
    """
    mine, other = recorders
    step, (pairs, our_step) = one_after_the_other(
        lambda put: take_step(
            theirs, lambda: record(theirs, x, put, graph=True, recorder=other), recorder=other
        ),
        lambda get: step_beside(ours, x, get, tally, mine),
    )
    compare_steps(pairs, our_step, step, x, tally)
    return pairs, our_step, step


def step_beside(
    ours: nn.Module,
    x: Tensor,
    their_next: Callable[[], Ran],
    tally: Tally,
    recorder: Recorder | None = None,
) -> tuple[list[Pair], Step]:
    """Takes the training step with our network; see ``compare_layers``."""
    pairs: list[Pair] = []

    def run() -> Tensor:
        found, logits = compare_layers(ours, x, their_next, tally, describe(x, "train"), recorder)
        pairs.extend(found)
        return logits

    return pairs, take_step(ours, run, recorder=recorder)


def take_step(
    network: nn.Module,
    run: Callable[[], Tensor],
    *,
    recorder: Recorder | None = None,
    parameters: Sequence[Tensor] | None = None,
) -> Step:
    """Runs a network forward, by ``run``, and backward in training mode, and leaves it as it was.

    Args:
        recorder: records the way back; ``run`` sees to the way forward.
        parameters: those whose gradients are taken; all by default.
    """
    with _training(network):
        logits = run()
        parameters = list(network.parameters()) if parameters is None else parameters
        with nullcontext() if recorder is None else recorder.recording():
            gradients = torch.autograd.grad(logits, parameters, cotangent(logits))
        buffers = {module: dict(module.named_buffers(recurse=False)) for module in network.modules()}
    return Step(logits.detach(), dict(zip(parameters, gradients, strict=True)), buffers)


def compare_steps(pairs: list[Pair], ours: Step, theirs: Step, x: Tensor, tally: Tally) -> None:
    """Compares what two training steps computed and left."""
    on = describe(x, "train")
    tally.compare("logits", "the output", ours.logits, theirs.logits, on)
    # From the last layer to the first, as gradients flow: the first that differs is
    # the nearest to the fault.
    for name, our_parameter, their_parameter in reversed([trio for p in pairs for trio in p.parameters()]):
        gradients = ours.gradients[our_parameter], theirs.gradients[their_parameter]
        tally.compare("gradients", name, *gradients, on)
    for pair in pairs:
        for field_name, buffer in ours.buffers[pair.ours].items():
            expected = theirs.buffers[pair.theirs][field_name]
            tally.compare("running statistics", f"{pair.name}.{field_name}", buffer, expected, on)


def cotangent(logits: Tensor) -> Tensor:
    """Weights, none of them 0, by which logits are summed: equal ones could cancel out."""
    return torch.linspace(0.5, 1.5, logits.numel(), dtype=logits.dtype, device=logits.device).view_as(logits)


def describe(x: Tensor, mode: str) -> str:
    """``"eval 1x3x224x224"``."""
    return f"{mode} {'x'.join(map(str, x.shape))}"


@contextmanager
def half_the_threads() -> Iterator[None]:
    """Takes half of the cores for kernels: small layers do not fill them, and threads would wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def one_after_the_other(
    theirs: Callable[[Callable[[Ran], None]], T], ours: Callable[[Callable[[], Ran]], U]
) -> tuple[T, U]:
    """Runs both; ``theirs`` puts the layers that ``ours`` gets.

    Side by side they would take as long and a third more of the processor: what records them is Python, of
    which one thread runs at a time.
    """
    ran: deque[Ran] = deque()
    expected = theirs(ran.append)
    return expected, ours(ran.popleft)


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
        f"{kind_of(ours) or 'nothing'}, expected {kind_of(theirs) or 'nothing'}.",
        where=name,
        largest=float("inf"),
    )
