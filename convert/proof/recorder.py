"""Records a network while it runs, and names every result by what computed it.

The name of a result is a digest of the operator, of its arguments that are no tensors, and of the names of
what it reads; a leaf, such as a weight or the input, is named by its bytes.  Two results of one name were
computed by the same operations from the same tensors, so that they are equal for every input of these shapes.

A name belongs to what a storage holds, and is read with offset, shape, strides and dtype.  So a view costs
nothing, and a write renames whatever looks at that storage.

What is not seen as an operation makes names worthless, and is noted: a value that Python reads, autocast, a
tensor that no step made.  A branch on the shape is not seen: the claim is for inputs of these shapes.

In eval what depends on leaves alone, such as a weight times its pruning mask, is named by its bytes, as if it
were a leaf: it is the same for every input.  A norm's momentum has no part in a result there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .modes import Reads, Steps
from .naming import (
    DIGEST,
    Name,
    Names,
    UnknownArgumentError,
    geometry_of,
    is_whole,
    mean_words,
    name_of_bytes,
    state_of_generators,
    walk_arguments,
)
from .operators import (
    CAT,
    COMMUTATIVE,
    CONSTANT,
    MEAN,
    NORM_MOMENTUM,
    NORM_TRAINING,
    NORMS,
    OVERWRITING,
    UNWRITTEN,
    Facts,
    facts_of,
    tensors_in,
    written_by,
)
from .storages import INPUT, Storages, storage_of


class Step(NamedTuple):
    """One operation.

    Attributes:
        name: digest of the operator, what it reads and what else it takes.
        operator: such as ``"aten.convolution.default"``.
        leaves: what the leaves are called that it reads, in order.
        arguments: what else it takes, in words.
        layer: name of the layer that it belongs to, or follows; empty before the first.
    """

    name: Name
    operator: str
    leaves: tuple[str, ...]
    arguments: str
    layer: str


@dataclass
class Recorder(Storages):
    """Records what runs within ``recording``.

    Attributes:
        steps: in the order in which they ran.
        layer: set by whoever watches the network: the layer that began last.
        names: makes names of others, and keeps how it made them.
    """

    steps: list[Step] = field(default_factory=list)
    layer: str = ""
    names: Names = field(default_factory=Names)
    _paused: bool = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records what this thread runs in the block."""
        with Reads(lambda: not (self._paused or self.unknown), self.note), Steps(self._take):
            yield

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Leaves out what this thread runs in the block: what looks at the network."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _take(self, operator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Runs an operator, and records it."""
        if self._paused:
            return operator(*args, **kwargs)
        facts, label = facts_of(operator), str(operator)
        if label == CONSTANT:
            out = operator(*args, **kwargs)
            self.held.name(out, name_of_bytes(out, "a constant"))
            return out
        if facts.is_view and not facts.reads_values:
            return operator(*args, **kwargs)
        if facts.reads_values:
            self.note(f"its code reads values of a tensor, by {label}")
        if torch.is_inference_mode_enabled():
            self.note("its code runs in inference mode, which hides writes")
        if self.unknown is not None:  # names tell nothing any more
            return operator(*args, **kwargs)
        return self._run_step(operator, label, facts, args, kwargs)

    def _run_step(
        self, operator: Any, label: str, facts: Facts, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        read: list[Tensor] = []
        words: list[str] = []
        try:
            walk_arguments((_that_count(label, args), kwargs), read, words)
        except UnknownArgumentError as error:
            self.note(str(error))
            return operator(*args, **kwargs)
        reads, leaves = [self.name_of(one) for one in read], self.leaves_among(read)
        if facts.draws:
            words.append(state_of_generators())
        out = operator(*args, **kwargs)
        if any(one.layout != torch.strided for one in tensors_in(out)):
            self.note("a tensor is sparse")
            return out
        if label == CAT and len(args[0]) == 1 and is_whole(args[0][0]):
            self.held.name(out, reads[0][:DIGEST])  # a copy
        elif reads and _is_constant(facts, reads, out, self.constants):
            self.name_constants(tensors_in(out))
        else:
            parts = self._add_step(label, reads, mean_words(args, kwargs) if label == MEAN else words, leaves)
            if not label.startswith(UNWRITTEN):
                self._name_results(self.steps[-1], written_by(label, facts, args, kwargs), out)
            if label == CAT and all(one.dtype == out.dtype for one in args[0]):
                self.names.parts[self.name_of(out)] = (self.steps[-1].arguments, parts)
        return out

    def _add_step(
        self, label: str, reads: list[Name], words: list[str], leaves: tuple[str, ...]
    ) -> list[Name]:
        """Adds a step; returns what it reads, of concatenations what they were made of."""
        # In place or not, an operator of torch's own computes the same.
        plain = label.replace("_.", ".") if label.startswith("aten.") else label
        if plain == CAT:  # however many there are, only the dimension matters
            words = [word for word in words if not word.startswith(("(", "*"))]
            reads = [one for read in reads for one in self.names.parts_of(read, words)]
        # With alpha a sum weights its second operand.
        turns = plain in COMMUTATIVE and "alpha" not in words
        name = self.names.make(plain, reads, words, turns=turns)
        self.steps.append(Step(name, label, leaves, " ".join(words), self.layer))
        return reads

    def _name_results(self, step: Step, written: list[Tensor], out: Any) -> None:
        """Names what a step wrote and returned, by its geometry and, of several, by its number."""
        storages = {storage_of(tensor) for tensor in written}
        results = [*written, *(one for one in tensors_in(out) if storage_of(one) not in storages)]
        for i, tensor in enumerate(results):
            words = [str(i)] if len(results) > 1 else []
            # A mean that keeps its sides has another geometry, and the same bits.
            geometry = [] if step.operator == MEAN else [geometry_of(tensor)]
            self._write(tensor, self.names.make("result", [step.name, *geometry], words), i < len(written))

    def _write(self, tensor: Tensor, name: Name, is_written: bool) -> None:
        if is_written and not is_whole(tensor):
            if storage_of(tensor) not in self.held:
                self.note(
                    f"a tensor of shape {list(tensor.shape)} is written in part, and comes from no step"
                )
                return
            held = self.held[storage_of(tensor)]
            name = self.names.make("part", [held, geometry_of(tensor), name], [])
        self.held.name(tensor, name)


def _is_constant(facts: Facts, reads: list[Name], out: Any, constants: set[Name]) -> bool:
    """Whether results depend on leaves alone, and no gradient is to flow: they are named as leaves are."""
    is_fresh = all(map(is_whole, tensors_in(out))) and not (facts.writes or facts.draws)
    return is_fresh and all(read[:DIGEST] in constants for read in reads) and not torch.is_grad_enabled()


def _that_count(label: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the arguments that change a result."""
    if label.startswith(OVERWRITING):
        return args[1:]
    if label in NORMS and args[NORM_TRAINING] is False:  # momentum is for running statistics in training
        return args[:NORM_MOMENTUM] + args[NORM_MOMENTUM + 1 :]
    return args


@contextmanager
def recording(network: nn.Module, x: Tensor, recorder: Recorder | None) -> Iterator[None]:
    """Records a network that runs on ``x`` in the block; does nothing without a recorder."""
    if recorder is None:
        yield
        return
    recorder.add_leaves({**dict(network.named_parameters()), **dict(network.named_buffers()), INPUT: x})
    with recorder.recording():
        yield
