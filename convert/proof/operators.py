"""Facts about torch's operators: what they write, draw and read, and which of them give the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Operators that write without saying so in their schema: their running mean and variance, where they are
# given and the sixth argument says that this is training.  Source: native_functions.yaml of torch 2.14.
NORMS = ("aten.native_batch_norm.default", "aten.cudnn_batch_norm.default", "aten.miopen_batch_norm.default")
NORM_WRITES, NORM_TRAINING, NORM_MOMENTUM = (3, 4), 5, 6
# Python reads a tensor's values by these, so that a branch may follow that no step shows.
READS = {
    *("__array__", "__bool__", "__complex__", "__contains__", "__dlpack__", "__float__", "__format__"),
    *("__index__", "__int__", "__repr__", "apply_", "data_ptr", "item", "map_", "map2_", "numpy"),
    *("tensor_split", "tolist"),
}
# These make a constant of Python's numbers, and read the values of tensors among them.
MAKERS = ("as_tensor", "new_tensor", "tensor")
# These give memory that holds no values yet.
UNWRITTEN = ("aten.empty", "aten.new_empty")
# These write over all of their first argument, and read nothing of it.
OVERWRITING = tuple(f"aten.{name}_." for name in ("bernoulli", "copy", "fill", "normal", "uniform", "zero"))
# An operator whose results, or their shapes, depend on values that no step shows.
READING = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
# The order of operands changes no bit of these: IEEE 754 rounds an exact sum or product of two numbers.
COMMUTATIVE = ("aten.add.Tensor", "aten.mul.Tensor")
# Sums and means of several, whose order does change bits: where one has no partner, nothing is known.
SUMS = ("aten.add.Tensor", "aten.add_.Tensor", "aten.sum.dim_IntList", "aten.mean.dim", "aten.cat.default")
# A constant that is made within a forward.
CONSTANT = "aten.lift_fresh.default"
CAT, MEAN = "aten.cat.default", "aten.mean.dim"


class Facts(NamedTuple):
    """The facts that an operator's schema tells.

    Attributes:
        writes: names and places of the arguments that it writes.
        is_view: whether it returns what it is given, and writes nothing.
        draws: whether it draws random numbers.
        reads_values: whether what it returns, or its shape, depends on values that no step shows.
    """

    writes: tuple[tuple[str, int], ...]
    is_view: bool
    draws: bool
    reads_values: bool


@cache
def facts_of(operator: Any) -> Facts:
    schema = operator._schema
    aliases = [(one.name, i, one.alias_info) for i, one in enumerate(schema.arguments)]
    writes = tuple((name, i) for name, i, alias in aliases if getattr(alias, "is_write", False))
    returned = [one.alias_info for one in schema.returns]
    is_view = bool(returned) and not writes and all(returned)
    reading = any(tag in operator.tags for tag in READING)
    plain = any("Tensor" not in str(one.type) for one in schema.returns)
    draws = torch.Tag.nondeterministic_seeded in operator.tags
    return Facts(writes, is_view, draws, reading or plain)


def written_by(label: str, facts: Facts, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Returns the tensors that an operator writes, as its schema says, or as is known of it."""
    given = [args[i] if i < len(args) else kwargs.get(name) for name, i in facts.writes]
    if label in NORMS and args[NORM_TRAINING] is True:
        given += [args[i] for i in NORM_WRITES]
    return list(tensors_in(given))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yields the tensors of an argument or a result, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors_in(one)
