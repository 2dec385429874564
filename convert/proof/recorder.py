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
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .naming import (
    Name,
    digest_of,
    geometry_of,
    is_whole,
    mean_words,
    name_of_bytes,
    storage_of,
    walk_arguments,
)

# Operators that write without saying so in their schema: their running mean and variance, where they are
# given and the sixth argument says that this is training.  Source: native_functions.yaml of torch 2.14.
NORMS = ("aten.native_batch_norm.default", "aten.cudnn_batch_norm.default", "aten.miopen_batch_norm.default")
NORM_WRITES, NORM_TRAINING = (3, 4), 5
# What Python reads a tensor's values by, so that a branch may follow that no step shows.
READS = {
    *("__array__", "__bool__", "__complex__", "__contains__", "__dlpack__", "__float__", "__format__"),
    *("__index__", "__int__", "__repr__", "data_ptr", "item", "numpy", "tolist"),
}
# The order of operands changes no bit of these: IEEE 754 rounds an exact sum or product of two numbers.
COMMUTATIVE = ("aten.add.Tensor", "aten.mul.Tensor")
# Sums and means of several, whose order does change bits: where one has no partner, nothing is known.
SUMS = ("aten.add.Tensor", "aten.add_.Tensor", "aten.sum.dim_IntList", "aten.mean.dim", "aten.cat.default")
# A constant that is made within a forward.
CONSTANT = "aten.lift_fresh.default"
CAT, MEAN = "aten.cat.default", "aten.mean.dim"


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


class _Facts(NamedTuple):
    """What an operator's schema says: which arguments it writes, and whether it is a view, or draws."""

    writes: tuple[int, ...]
    is_view: bool
    draws: bool


@cache
def _facts_of(operator: Any) -> _Facts:
    schema = operator._schema
    arguments = [one.alias_info for one in schema.arguments]
    writes = tuple(i for i, alias in enumerate(arguments) if getattr(alias, "is_write", False))
    aliases = [one.alias_info for one in schema.returns]
    is_view = bool(aliases) and not writes and all(aliases)
    return _Facts(writes, is_view, torch.Tag.nondeterministic_seeded in operator.tags)


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
    _draws: int = 0

    def add_leaves(self, tensors: Mapping[str, Tensor]) -> None:
        """Names tensors by their bytes: weights, buffers, the input; each comes with what it is called."""
        for label, tensor in tensors.items():
            storage = storage_of(tensor)
            if not is_whole(tensor):
                self.unknown = self.unknown or f"{label} is a part of what its storage holds"
            if storage not in self.leaves:
                self.leaves[storage] = name_of_bytes(tensor)
            self._held[storage] = name = self.leaves[storage]
            self.labels.setdefault(name, label)

    def name_of(self, tensor: Tensor) -> Name:
        """Returns the name of what a tensor holds now."""
        held = self._held.get(storage_of(tensor))
        if held is None:
            self.unknown = self.unknown or f"a tensor of shape {list(tensor.shape)} comes from no step"
            return b"?"
        return held + geometry_of(tensor)

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
        facts, label = _facts_of(operator), str(operator)
        if label == CONSTANT and not self._paused:
            out = operator(*args, **kwargs)
            self._held[storage_of(out)] = name_of_bytes(out)
            return out
        if self._paused or facts.is_view:
            return operator(*args, **kwargs)
        reads: list[Name] = []
        words: list[str] = []
        walk_arguments((args, kwargs), self.name_of, reads, words)
        if facts.draws:
            self._draws += 1
            words.append(f"draw {self._draws}")
        out = operator(*args, **kwargs)
        if label == CAT and len(args[0]) == 1 and is_whole(args[0][0]):
            self._held[storage_of(out)] = self._held[storage_of(args[0][0])]  # a copy
            return out
        step = self._step(label, reads, mean_words(args, kwargs) if label == MEAN else words)
        self.steps.append(step)
        self._name_results(step, facts, args, out)
        if label == CAT:
            self._flattened[self.name_of(out)] = (step.arguments, step.reads)
        return out

    def _step(self, label: str, reads: list[Name], words: list[str]) -> Step:
        plain = label.replace("_.", ".")  # in place or not, it computes the same
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

    def _name_results(self, step: Step, facts: _Facts, args: tuple[Any, ...], out: Any) -> None:
        given = [args[i] for i in facts.writes if i < len(args)]
        written = [one for one in given if isinstance(one, Tensor)]
        for tensor in written:
            self._write(tensor, step.name)
        storages = {storage_of(tensor) for tensor in written}
        if step.operator in NORMS and args[NORM_TRAINING] is True:
            for i in NORM_WRITES:
                if args[i] is not None:
                    self._write(args[i], digest_of(str(i), [step.name], []))
        for i, tensor in enumerate(out if isinstance(out, tuple | list) else (out,)):
            if isinstance(tensor, Tensor) and storage_of(tensor) not in storages:
                # One result needs no number: in place and out of place are one name.
                name = digest_of(str(i), [step.name], []) if i else step.name
                self._held[storage_of(tensor)] = name

    def _write(self, tensor: Tensor, name: Name) -> None:
        storage = storage_of(tensor)
        if not is_whole(tensor):
            name = digest_of("part", [self._held.get(storage, b"?"), geometry_of(tensor), name], [])
        self._held[storage] = name


@contextmanager
def recording(network: nn.Module, x: Tensor, recorder: Recorder | None) -> Iterator[None]:
    """Records a network that runs on ``x`` in the block; does nothing without a recorder."""
    if recorder is None:
        yield
        return
    recorder.add_leaves({**dict(network.named_parameters()), **dict(network.named_buffers()), "the input": x})
    with recorder.recording():
        yield


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
            elif torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
                recorder.unknown = "its code uses autocast"
        return func(*args, **(kwargs or {}))
