"""Records a network while it runs, and names every result by what computed it.

The name of a result is a digest of the operator, of its arguments that are no tensors, and of the names of
what it reads; a leaf, such as a weight or the input, is named by its bytes.  Two results of one name were
computed by the same operations from the same tensors, so that they are equal for every input of these shapes.

A name belongs to what a storage holds, and is read with offset, shape, strides and dtype.  So a view costs
nothing, and a write renames whatever looks at that storage.

What is not seen as an operation makes names worthless, and is noted: a value that Python reads, autocast, a
tensor that no step made.  A branch on the shape is not seen: the claim is for inputs of these shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .naming import (
    DIGEST,
    Name,
    UnknownArgumentError,
    digest_of,
    geometry_of,
    is_whole,
    mean_words,
    name_of_bytes,
    storage_of,
    walk_arguments,
)
from .operators import (
    CAT,
    COMMUTATIVE,
    CONSTANT,
    MAKERS,
    MEAN,
    NORM_TRAINING,
    NORM_WRITES,
    NORMS,
    OVERWRITING,
    READS,
    UNWRITTEN,
    Facts,
    facts_of,
)

# What the input is called among the leaves.
INPUT = "the input"


class Step(NamedTuple):
    """One operation.

    Attributes:
        name: digest of the operator, what it reads and what else it takes.
        operator: such as ``"aten.convolution.default"``.
        reads: names of the tensors that it reads, in order.
        arguments: what else it takes, in words.
        layer: name of the layer that ran last; empty before the first.
    """

    name: Name
    operator: str
    reads: tuple[Name, ...]
    arguments: str
    layer: str


@dataclass
class Recorder:
    """Records what runs within ``recording``.

    Attributes:
        steps: in the order in which they ran.
        unknown: the first reason for which names tell nothing; None where there is none.
        layer: set by whoever watches the network: the layer that ran last.
        labels: what the leaves are called, by their names.
        leaves: names of storages that nobody writes to, which recorders of one proof share.
    """

    steps: list[Step] = field(default_factory=list)
    unknown: str | None = None
    layer: str = ""
    labels: dict[Name, str] = field(default_factory=dict)
    leaves: dict[StorageWeakRef, Name] = field(default_factory=dict)
    _held: dict[StorageWeakRef, Name] = field(default_factory=dict)
    _flattened: dict[Name, tuple[str, tuple[Name, ...]]] = field(default_factory=dict)
    _paused: bool = False

    def add_leaves(self, tensors: Mapping[str, Tensor]) -> None:
        """Names tensors by their bytes: weights, buffers, the input; each comes with what it is called."""
        for label, tensor in tensors.items():
            storage = storage_of(tensor)
            if not is_whole(tensor):
                self._note(f"{label} is a part of what its storage holds")
            if storage not in self.leaves:
                self.leaves[storage] = name_of_bytes(tensor, INPUT if label == INPUT else "")
            self._held[storage] = name = self.leaves[storage]
            self.labels.setdefault(name, label)

    def name_of(self, tensor: Tensor) -> Name:
        """Returns the name of what a tensor holds now."""
        held = self._held.get(storage_of(tensor))
        if held is None:
            self._note(f"a tensor of shape {list(tensor.shape)} comes from no step")
            return b"?"
        return held + geometry_of(tensor)

    def _note(self, why: str) -> None:
        """Keeps the first reason for which names tell nothing."""
        self.unknown = self.unknown or why

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records what this thread runs in the block."""
        with _Reads(self), _Steps(self):
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
            self._held[storage_of(out)] = name_of_bytes(out, "a constant")
            return out
        if facts.is_view and not facts.reads_values:
            return operator(*args, **kwargs)
        if facts.reads_values:
            self._note(f"its code reads values of a tensor, by {label}")
        if torch.is_inference_mode_enabled():
            self._note("its code runs in inference mode, which hides writes")
        if self.unknown is not None:  # names tell nothing any more
            return operator(*args, **kwargs)
        return self._run_step(operator, label, facts, args, kwargs)

    def _run_step(
        self, operator: Any, label: str, facts: Facts, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        reads: list[Name] = []
        words: list[str] = []
        try:
            read = args[1:] if label.startswith(OVERWRITING) else args
            walk_arguments((read, kwargs), self.name_of, reads, words)
        except UnknownArgumentError as error:
            self._note(str(error))
            return operator(*args, **kwargs)
        if facts.draws:
            words.append(_state_of_generators())
        out = operator(*args, **kwargs)
        if not all(one.layout == torch.strided for one in _tensors_in(out)):
            self._note("a tensor is sparse")
            return out
        if label == CAT and len(args[0]) == 1 and is_whole(args[0][0]):
            self._held[storage_of(out)] = reads[0][:DIGEST]  # a copy
            return out
        step = self._step(label, reads, mean_words(args, kwargs) if label == MEAN else words)
        self.steps.append(step)
        if not label.startswith(UNWRITTEN):
            self._name_results(step, facts, args, kwargs, out)
        if label == CAT and all(one.dtype == out.dtype for one in args[0]):
            self._flattened[self.name_of(out)] = (step.arguments, step.reads)
        return out

    def _step(self, label: str, reads: list[Name], words: list[str]) -> Step:
        # In place or not, an operator of torch's own computes the same.
        plain = label.replace("_.", ".") if label.startswith("aten.") else label
        if plain == CAT:  # however many there are, only the dimension matters
            words = [word for word in words if not word.startswith(("(", "*"))]
            reads = [one for read in reads for one in self._parts(read, words)]
        # With alpha a sum weights its second operand.
        turns = plain in COMMUTATIVE and "alpha" not in words
        name = digest_of(plain, sorted(reads) if turns else reads, words)
        return Step(name, label, tuple(reads), " ".join(words), self.layer)

    def _parts(self, read: Name, words: list[str]) -> tuple[Name, ...]:
        """What a whole concatenation along the same dimension was made of: doing it twice copies twice."""
        made = self._flattened.get(read)
        return made[1] if made is not None and made[0] == " ".join(words) else (read,)

    def _name_results(
        self,
        step: Step,
        facts: Facts,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        out: Any,
    ) -> None:
        """Names what a step wrote and returned, by its geometry and, of several, by its number."""
        written = list(_written_by(step.operator, facts, args, kwargs))
        storages = {storage_of(tensor) for tensor in written}
        results = [*written, *(one for one in _tensors_in(out) if storage_of(one) not in storages)]
        for i, tensor in enumerate(results):
            words = [str(i)] if len(results) > 1 else []
            # A mean that keeps its sides has another geometry, and the same bits.
            geometry = [] if step.operator == MEAN else [geometry_of(tensor)]
            self._write(tensor, digest_of("result", [step.name, *geometry], words), i < len(written))

    def _write(self, tensor: Tensor, name: Name, is_written: bool) -> None:
        storage = storage_of(tensor)
        if is_written and not is_whole(tensor):
            if storage not in self._held:
                self._note(
                    f"a tensor of shape {list(tensor.shape)} is written in part, and comes from no step"
                )
                return
            name = digest_of("part", [self._held[storage], geometry_of(tensor), name], [])
        self._held[storage] = name


def _written_by(
    label: str, facts: Facts, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[Tensor]:
    """Yields the tensors that an operator writes, as its schema says, or as is known of it."""
    given = [args[i] if i < len(args) else kwargs.get(name) for name, i in facts.writes]
    if label in NORMS and args[NORM_TRAINING] is True:
        given += [args[i] for i in NORM_WRITES]
    yield from _tensors_in(given)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors_in(one)


def _state_of_generators() -> str:
    """What torch draws from next, on the CPU and on the current GPU."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states.append(torch.cuda.get_rng_state())
    return " ".join(name_of_bytes(state).hex() for state in states)


@contextmanager
def recording(network: nn.Module, x: Tensor, recorder: Recorder | None) -> Iterator[None]:
    """Records a network that runs on ``x`` in the block; does nothing without a recorder."""
    if recorder is None:
        yield
        return
    recorder.add_leaves({**dict(network.named_parameters()), **dict(network.named_buffers()), INPUT: x})
    with recorder.recording():
        yield


def _holds_tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> bool:
    return next(_tensors_in([*args[-1:], *(kwargs or {}).values()]), None) is not None


class _Steps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives every operator to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.recorder._take(func, args, kwargs or {})


class _Reads(TorchFunctionMode):
    """Notes what no operator shows."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder = self.recorder
        if not recorder._paused and recorder.unknown is None:
            name = getattr(func, "__name__", "")
            if name in READS:
                recorder.unknown = f"its code reads values of a tensor in Python, by {name}"
            elif name in MAKERS and _holds_tensors(args, kwargs):
                recorder.unknown = f"its code makes a tensor of others' values, by {name}"
            elif torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
                recorder.unknown = "its code uses autocast"
        return func(*args, **(kwargs or {}))
