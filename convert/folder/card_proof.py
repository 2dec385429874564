"""The parts of a card that tell where weights are from, and what was proven of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from ..errors import quoted
from .wording import asked_for, coverage_text, every_input_text, origin_text, tensors_text


def provenance(receipt: Mapping[str, Any]) -> Iterator[str]:
    """Yields where the weights are from, and what became of their names."""
    source = receipt["source"]
    container = f", under {as_text(source['container'])}" if source["container"] else ""
    yield table(
        ("", ""),
        [
            ("source", origin_text(source)),
            ("SHA-256", f"`{source['sha256']}`"),
            ("size", f"{source['size']:,} bytes"),
            ("format and layout", f"{source['format']}, {source['layout']}{container}"),
            ("tensors", tensors_text(receipt)),
            ("converter", f"{receipt['converter']['name']} {receipt['converter']['version']}"),
        ],
    )
    yield "conversion.json has the old name, the new name and the SHA-256 of each tensor."


def proof_of(proof: Mapping[str, Any]) -> Iterator[str]:
    """Yields what was compared, on what, and what came of it."""
    yield (
        f"Both networks ran, this one and the reference ({proof['reference']}), which was "
        f"given the source under the source's names: on {proof['device']}, in {proof['dtype']}, with "
        + ", ".join(f"{name} {version}" for name, version in sorted(proof["versions"].items()))
        + "; on inputs "
        + ", ".join(f"{x['mode']} {'x'.join(map(str, x['shape']))}" for x in proof["inputs"])
        + "."
    )
    largest = proof["largest_difference"]
    rows = [(kind, f"{count:,}", f"{largest[kind]:g}") for kind, count in sorted(proof["compared"].items())]
    yield table(("compared", "comparisons", "largest difference"), rows)
    if known := every_input_text(proof):
        yield f"For every input: {known}."
    if covered := coverage_text(proof):
        yield f"Coverage: of {covered}."
    asked = [f"- {name}: {text}" for name, text in asked_for(proof).items()]
    if asked:
        yield "\n".join(asked)
    if measured := proof.get("measured"):
        yield "Largest error of the logits against the reference's run in float64, where rounding differs:"
        yield table(("setting", "ours", "the reference's", "bound"), map(_setting, measured))


def assumed(receipt: Mapping[str, Any], library: str = "torchvision") -> Iterator[str]:
    """Yields what the source does not tell, and what was noticed in it."""
    assumptions, remarks = receipt["assumptions"] or [], receipt["remarks"]
    if assumptions:
        yield (
            "The source does not tell everything about its network's function. This was assumed, as "
            f"{library} has it:"
        )
        rows = [(one["what"], one["because"], one["settled_by"]) for one in assumptions]
        yield table(("assumed", "because", "settled by"), rows)
    if remarks:
        yield "\n".join(f"- {one['text'].replace('`', chr(39))}" for one in remarks)


def _setting(one: Mapping[str, Any]) -> Sequence[str]:
    numbers = (one[column] for column in ("ours", "theirs", "bound"))
    return one["setting"], *("infinite" if n is None or not isfinite(n) else f"{n:.2e}" for n in numbers)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown; a stranger's text in it begins no column of its own."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def as_text(text: str) -> str:
    """Returns a stranger's text within backticks, where nothing is markup."""
    return f"`{quoted(text).replace('`', chr(39))}`"
