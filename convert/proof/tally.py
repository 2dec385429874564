"""Keeps count of a proof; the first difference raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import ParityError, first_few
from ..tensors import same_bits


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
            kind: ``"tensors"``, ``"activations"``, ``"logits"``, ``"placements"``, ``"gradients"`` or
                ``"running statistics"``.
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
            if not largest > 0:  # a signed zero, or a NaN
                found += ", and some bits differ"
        self.largest[kind] = largest
        raise ParityError(
            f"The converted network is not the reference's function. The first of its {kind} that differs, "
            f"after {sum(self.compared.values()) - 1:,} comparisons without a difference, is at "
            f"{where}{self._source(where)} on {on}: {found}.",
            where=where,
            largest=largest,
        )

    def other_function(self, where: str, because: str) -> ParityError:
        """Returns the error of an operation that takes something else than the reference's."""
        return ParityError(
            f"The converted network is not the reference's function, though no value differed on the inputs: "
            f"{because}.",
            where=where,
            largest=0.0,
        )

    def _source(self, where: str) -> str:
        names = [
            source or "zero"
            for name, source in self.source_names.items()
            if where in (name, name.rpartition(".")[0])
        ]
        return f" (from {first_few(names[:1])})" if names else ""
