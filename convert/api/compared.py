"""The result of ``compare``, and its text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..columns import rows_as_text, table, wrapped
from ..comparing.compare import Difference
from ..comparing.parts import Part
from ..errors import quoted
from ..folder.records import Written
from ..shown import Shown


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """The common parts of two networks, and why they differ.

    Attributes:
        a, b: what was compared, as it was named, and the key that was asked for.
        same: whether both are the same network: every tensor that both have agrees in every bit, and neither
            states of its function or of its images what the other states otherwise.
        stages: the stem, each dense block and transition, the last norm and the classifier.
        layers: the layers that differ, the farthest first.
        differences: the causes; empty where ``same``.
        repaired: the folder that B was converted to through the exchange that was found; None if it was not
            asked for.
    """

    a: str
    b: str
    same: bool
    stages: tuple[Part, ...]
    layers: tuple[Part, ...]
    differences: tuple[Difference, ...]
    repaired: Written | None = None

    @property
    def verdict(self) -> str:
        """``"same"`` or ``"different"``."""
        return "same" if self.same else "different"

    def __str__(self) -> str:
        return comparison_as_text(self)

    def _shown(self) -> dict[str, object]:
        """Returns what was compared, the verdict and the causes."""
        causes = ", ".join(one.cause for one in self.differences)
        return {"a": self.a, "b": self.b, "verdict": self.verdict, "causes": causes}


def comparison_as_text(found: Comparison, *, verbose: bool = False) -> str:
    """Says the verdict, the causes and a table of stages; with ``verbose`` also one of the layers."""
    lines = [*wrapped(f"A  {quoted(found.a)}"), *wrapped(f"B  {quoted(found.b)}"), f"  {found.verdict}"]
    lines += rows_as_text((one.cause, one.text) for one in found.differences)
    tables = [("stage", found.stages), *([("layer", found.layers)] if verbose and found.layers else [])]
    for title, parts in tables:
        rows = [(f"  {name}", cells) for name, *cells in part_rows(parts)]
        lines += ["", *table(f"  {title}", ("tensors", "equal", "distance"), rows)]
    if found.repaired is not None:
        lines += ["", f"{found.repaired.folder}: repaired and verified"]
    return "\n".join(lines)


def part_rows(parts: Sequence[Part]) -> Iterator[tuple[str, str, str, str]]:
    """Yields name, number of tensors, share of equal ones and relative distance of each part."""
    for part in parts:
        share = int(1000 * part.equal / part.tensors) / 10
        far = "unknown" if part.distance is None else f"{part.distance:.2g}"
        yield part.name, f"{part.tensors:,}", f"{share:g}%", far
