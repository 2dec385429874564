"""The sides of a comparison: the tensors of a network under canonical names, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import DenseNetConfig

from ..formats.raw import DTYPES, RawTensor
from ..formats.untrusted import Budget
from ..layout import HEAD
from ..layouts.prepare import MASKED, RESHAPED, ROUNDED, SCALED, classes_of, matrix_sides
from ..records import Identified, Rewrite
from .values import bytes_of, counted, numbers, permuted

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTER = ".num_batches_tracked"


class Tensor:
    """A tensor whose bytes are taken from the file when they are first looked at.

    Attributes:
        dtype: torch's name for it, such as ``"float32"``.
        shape: its sizes.
    """

    def __init__(self, dtype: str, shape: Sequence[int], load: Callable[[], memoryview]) -> None:
        self.dtype, self.shape, self._load = dtype, tuple(shape), load

    @cached_property
    def data(self) -> memoryview:
        """Its elements in row-major order, in the machine's byte order."""
        return self._load()

    @cached_property
    def sha256(self) -> str:
        """The digest of ``data``, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def key(self) -> tuple[str, tuple[int, ...], str]:
        """Equal for tensors of one dtype and shape that agree in every bit."""
        return self.dtype, self.shape, self.sha256

    def turned(self, axes: Sequence[int]) -> Tensor:
        """Returns it with its axes in another order, as ``torch.Tensor.permute`` takes them."""
        shape = [self.shape[axis] for axis in axes]
        return Tensor(self.dtype, shape, lambda: permuted(self, axes))


@dataclass(frozen=True)
class Side:
    """One of the two networks.

    Attributes:
        config: its hyperparameters.
        tensors: under canonical names, in the network's order; without counters that the source lacks.
        sources: the source's name of each of them.
        axes: the source's axes in canonical order, of the canonical names where they lie otherwise.
        stated: fields of the config that the source states, and shapes do not tell.
        preprocessing: fields of ``pretrained_cfg`` that it states.
    """

    config: DenseNetConfig
    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str]
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


def held_tensors(raw_tensors: Mapping[str, RawTensor], size: int) -> dict[str, Tensor]:
    """Returns the tensors of a file under its own names.

    Args:
        raw_tensors: what was parsed.
        size: the file's length in bytes, which bounds what views of one storage may claim.
    """
    budget = Budget(size)
    shared: dict[Any, Tensor] = {}
    for raw in raw_tensors.values():
        if raw.key not in shared:
            budget.take(raw.nbytes)
            shared[raw.key] = Tensor(raw.dtype, raw.shape, raw.row_major)
    return {name: shared[raw.key] for name, raw in raw_tensors.items()}


def canonical_side(held: Mapping[str, Tensor], network: Identified, **stated: Any) -> Side:
    """Returns the network that was identified, with the steps carried out that its reading needs."""
    tensors = dict(held)
    for step in network.rewrites:
        taken = [tensors.pop(name) for name in step.sources]
        tensors[step.target] = _carried_out(step, taken, tensors.get(step.like))
    explanation = network.reading.explanation
    sources = {ours: name for name, ours in explanation.targets.items()}
    names = [name for name in network.config.tensor_shapes() if name in sources]
    axes = {
        ours: explanation.axes[name] for name, ours in explanation.targets.items() if name in explanation.axes
    }
    found = {name: tensors[sources[name]] for name in names}
    found |= {name: found[name].turned(axes[name]) for name in names if name in axes}
    return Side(network.config, found, sources, axes, **stated)


def _carried_out(step: Rewrite, taken: list[Tensor], like: Tensor | None) -> Tensor:
    """Returns what ``layouts/rewrite.py`` gives for a step."""
    if step.name == ROUNDED:
        return Tensor("int64", (), lambda: counted(taken[0]))
    if step.name == MASKED:
        weight, mask = taken
        return Tensor(
            weight.dtype, weight.shape, lambda: bytes_of(numbers(mask) * numbers(weight), weight.dtype)
        )
    if step.name == SCALED:
        return taken[1]
    if step.name == RESHAPED:
        return Tensor(taken[0].dtype, matrix_sides(step, taken[0].shape), lambda: taken[0].data)
    assert like is not None  # the weight, whose classes are counted
    classes = classes_of(step, like.shape)
    return Tensor(like.dtype, (classes,), lambda: memoryview(bytes(classes * DTYPES[like.dtype].size)))


def is_of_head(name: str) -> bool:
    """Whether a canonical name is the classifier's."""
    return name.startswith(f"{HEAD}.")
