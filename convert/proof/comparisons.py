"""Runs two networks side by side and compares them to the bit; the first difference raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ..errors import ParityError
from ..records import Renamed
from .layers import Observer, Pair, kind_of, watching
from .tally import Tally

# Each layer as it ran, with its output; None stands for the end.
Recorded = SimpleQueue[tuple[nn.Module | None, Tensor]]

T = TypeVar("T")
U = TypeVar("U")


def compare_bytes(renamed: Renamed, model: nn.Module, tally: Tally) -> None:
    """Compares what the network holds with the source's own tensors, through the trail."""
    held = model.state_dict()
    for trace in renamed.trail:
        source = renamed.checkpoint.tensors.get(trace.source_name) if trace.source_name else None
        tensor = held[trace.name]
        expected = torch.zeros_like(tensor) if source is None else source
        tally.compare("tensors", trace.name, tensor, expected, "the CPU")


def compare_outputs(
    ours: nn.Module,
    theirs: nn.Module,
    x: Tensor,
    tally: Tally,
    mode: str,
    observe: Observer = lambda *_: None,
) -> tuple[list[Pair], Tensor, Tensor]:
    """Compares the output of every layer, and the logits.

    Args:
        x: input of both, ``[N, C, H, W]``.
        mode: ``"eval"`` or ``"train"``, in which both networks are.
        observe: is called with each layer of ours and its output, once that was compared.

    Returns:
        The pairs of layers, and the logits of both, ``[N, classes]``; ours keep their
        graph, theirs in training only.

    Raises:
        ParityError: a layer differs, or the networks run other layers.
    """
    on = describe(x, mode)
    names = {module: name for name, module in ours.named_modules()}
    pairs: list[Pair] = []
    waiting: Recorded = SimpleQueue()

    def compare(module: nn.Module, output: Tensor) -> None:
        name = names[module]
        their_module, their_output = waiting.get()
        if their_module is None or kind_of(module) != kind_of(their_module):
            raise _other_layers(name, module, their_module)
        tally.compare("activations", name, output, their_output, on)
        pairs.append(Pair(name, module, their_module))
        observe(module, output)

    def run_ours() -> Tensor:
        with watching(ours, compare):
            logits = ours(x)
        left, _ = waiting.get()
        if left is not None:
            raise _other_layers("the end", None, left)
        return cast(Tensor, logits)

    # In training, with a graph each, running both at once takes more memory and no less time.
    run_both = side_by_side if mode == "eval" else one_after_the_other
    expected, logits = run_both(lambda: _record(theirs, x, waiting, mode == "train"), run_ours)
    tally.compare("logits", "the output", logits, expected, on)
    return pairs, logits, expected


def compare_placement(pairs: list[Pair], tally: Tally) -> None:
    """Compares the parameters and buffers that two layers hold which do the same work.

    What a layer computes can't show this where nothing passes through it.
    """
    for pair in pairs:
        for name, tensor, their_tensor in (*pair.parameters(), *pair.buffers()):
            tally.compare("placements", name, tensor, their_tensor, "no input, as it was loaded")


def compare_training_step(ours: nn.Module, theirs: nn.Module, x: Tensor, tally: Tally) -> None:
    """Compares outputs, the gradient of every parameter and the running statistics after one training step.

    Both networks are left as they were.
    """
    on = describe(x, "train")
    with _training(ours), _training(theirs):
        pairs, logits, expected = compare_outputs(ours, theirs, x, tally, "train")
        parameters = [trio for pair in pairs for trio in pair.parameters()]
        gradients = _gradients(logits, [ours for _, ours, _ in parameters])
        their_gradients = _gradients(expected, [theirs for _, _, theirs in parameters])
        # From the last layer to the first, as gradients flow: the first that differs is
        # the nearest to the fault.
        for i in reversed(range(len(parameters))):
            tally.compare("gradients", parameters[i][0], gradients[i], their_gradients[i], on)
        for pair in pairs:
            for name, buffer, their_buffer in pair.buffers():
                tally.compare("running statistics", name, buffer, their_buffer, on)


def cotangent(logits: Tensor) -> Tensor:
    """Weights, none of them 0, by which logits are summed: equal ones could cancel out."""
    return torch.linspace(0.5, 1.5, logits.numel(), dtype=logits.dtype, device=logits.device).view_as(logits)


def describe(x: Tensor, mode: str) -> str:
    """``"eval 1x3x224x224"``."""
    return f"{mode} {'x'.join(map(str, x.shape))}"


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


def one_after_the_other(theirs: Callable[[], T], ours: Callable[[], U]) -> tuple[T, U]:
    """As ``side_by_side``, in this order."""
    return theirs(), ours()


def _record(network: nn.Module, x: Tensor, recorded: Recorded, graph: bool) -> Tensor:
    def put(module: nn.Module, output: Tensor) -> None:
        recorded.put((module, output.detach().clone()))

    try:
        with torch.set_grad_enabled(graph), watching(network, put):
            return cast(Tensor, network(x))
    finally:
        recorded.put((None, x))  # however it ended, no more is to be waited for


def _gradients(logits: Tensor, parameters: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(logits, parameters, cotangent(logits))


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
