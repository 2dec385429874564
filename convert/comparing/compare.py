"""Compares two networks by digests, and where these differ by values; says the cause of each difference."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from densenet_convert.densenet.config import architecture_label

from ..errors import first_few
from .parts import Part, Sums, cosine_of, distance_of, layer_of, parts_of, stage_of, sums_of
from .placement import Exchange, find_copies, find_exchanges
from .sides import COUNTER, Side, is_of_head
from .tensor_causes import (
    COPIED,
    COUNTERS,
    EXCHANGED,
    INITIAL,
    ROUNDED,
    SAME_NUMBERS,
    SHAPES,
    VALUES,
    Finding,
    find_cause,
)

ARCHITECTURE, HEAD, FINE_TUNED, STATISTICS = "architecture", "head", "fine-tuned", "statistics"
EPSILON, FUNCTION, PREPROCESSING = "epsilon", "function", "preprocessing"
# Settings of a config that change the names or the shapes of tensors; the classes are the head's own.
SIZES = ("growth_rate", "block_config", "num_init_features", "bn_size", "spatial_dims")
# The cosine of two weights above which one was made of the other.
ALIKE = 0.5


@dataclass(frozen=True)
class Difference:
    """A difference of two networks, by its cause.

    Attributes:
        cause: a word: ``"exchanged"``, ``"axes"``, ``"channels"``, ``"rows"``, ``"entries"``, ``"rounded"``,
            ``"dtype"``, ``"bit-flip"``, ``"last-place"``, ``"pruned"``, ``"initial"``, ``"copied"``,
            ``"counters"``, ``"statistics"``, ``"fine-tuned"``, ``"values"``, ``"head"``, ``"shapes"``,
            ``"architecture"``, ``"renamed"``, ``"epsilon"``, ``"function"`` or ``"preprocessing"``.
        names: canonical names of the tensors, or of the layers or the settings, that it is of.
        text: the cause in a sentence.
    """

    cause: str
    names: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Compared:
    """The result for two sides.

    Attributes:
        stages: from the stem to the classifier.
        layers: those that differ, the farthest first.
        differences: empty where both are the same network.
        exchanges: tensors that stand at one another's places.
        findings: the cause of each other tensor that differs.
    """

    stages: tuple[Part, ...]
    layers: tuple[Part, ...]
    differences: tuple[Difference, ...]
    exchanges: tuple[Exchange, ...] = ()
    findings: Mapping[str, Finding] = field(default_factory=dict)


def compare_sides(a: Side, b: Side) -> Compared:
    """Compares two networks; values are looked at only where digests differ."""
    common = [name for name in a.tensors if name in b.tensors]
    shared = [name for name in common if a.tensors[name].shape == b.tensors[name].shape]
    differing = [name for name in shared if a.tensors[name].key != b.tensors[name].key]
    sums = sums_of(a, b, shared, differing)
    stages = parts_of(shared, differing, sums, stage_of)
    layers = [one for one in parts_of(shared, differing, sums, layer_of) if one.equal < one.tensors]
    layers.sort(key=lambda one: -1.0 if one.distance is None else -one.distance)
    settings = (*_of_settings(a, b),)
    if sizes := [name for name in SIZES if getattr(a.config, name) != getattr(b.config, name)]:
        text = (
            f"A is a {architecture_label(a.config)} and B a {architecture_label(b.config)}: other networks."
        )
        other = Difference(ARCHITECTURE, tuple(sizes), text)
        return Compared(stages, tuple(layers), (other, *settings))
    exchanges = find_exchanges(a.tensors, b.tensors, differing)
    placed = {name for one in exchanges for name in one.moves}
    left = [name for name in differing if name not in placed]
    findings = _unlike_as_one(_findings(a, b, left), sums)
    differences = (
        *_of_shapes(a, b, shared),
        *_of_exchanges(exchanges),
        *_of_findings(findings, shared, sums),
        *settings,
    )
    return Compared(stages, tuple(layers), differences, tuple(exchanges), findings)


def _findings(a: Side, b: Side, names: Collection[str]) -> dict[str, Finding]:
    """Returns the cause for each tensor; what A has elsewhere is a copy, unless it is a constant."""
    found = {name: find_cause(name, a.tensors[name], b.tensors[name]) for name in names}
    copies = find_copies(a.tensors, b.tensors, [name for name in names if found[name].cause == VALUES])
    texts = {name: f"B holds there what A holds at {place}" for name, place in copies.items()}
    return _rounded_as_one({**found, **{name: Finding(COPIED, text) for name, text in texts.items()}})


def _rounded_as_one(findings: dict[str, Finding]) -> dict[str, Finding]:
    """Returns the findings of a network that was rounded, of which some tensors had nothing to round."""
    roundings = {finding for finding in findings.values() if finding.cause == ROUNDED}
    if len(roundings) != 1:
        return findings
    (rounding,) = roundings
    exact = [name for name, found in findings.items() if found.text.endswith(SAME_NUMBERS)]
    return findings | dict.fromkeys(exact, rounding)


def _unlike_as_one(findings: dict[str, Finding], sums: Sums) -> dict[str, Finding]:
    """Returns the findings without an initial value here and there, where both were trained apart."""
    values = [name for name, found in findings.items() if found.cause == VALUES]
    initial = {name: found for name, found in findings.items() if found.cause == INITIAL}
    drawn = [name for name, found in initial.items() if not found.is_constant]
    if len(drawn) >= len(values) or cosine_of(values, sums) > ALIKE:
        return findings
    return findings | dict.fromkeys(drawn, Finding(VALUES, ""))


def _of_settings(a: Side, b: Side) -> Iterator[Difference]:
    """Yields what both sides state of their function or of their images, and state otherwise."""
    for name in [name for name in a.stated if name in b.stated]:
        if a.stated[name] != b.stated[name]:
            both = f"A states {name} {a.stated[name]} and B {b.stated[name]}"
            text = f"{both}: the same weights compute other outputs."
            yield Difference(EPSILON if name == "norm_eps" else FUNCTION, (name,), text)
    for name in [name for name in a.preprocessing if name in b.preprocessing]:
        if a.preprocessing[name] != b.preprocessing[name]:
            text = f"A states {name} {a.preprocessing[name]} for its images and B {b.preprocessing[name]}."
            yield Difference(PREPROCESSING, (name,), text)


def _of_shapes(a: Side, b: Side, shared: Collection[str]) -> Iterator[Difference]:
    """Yields what is of another shape, or on one side alone: another head, or another input."""
    names = [name for name in {**a.tensors, **b.tensors} if not name.endswith(COUNTER)]
    other = [name for name in names if name not in shared]
    if head := tuple(filter(is_of_head, other)):
        one, two = (_classes(side) for side in (a, b))
        yield Difference(HEAD, head, f"Another head: A's is of {one}, and B's of {two}.")
    if rest := tuple(name for name in other if not is_of_head(name)):
        shapes = [f"{name} {_shape(a, name)} in A and {_shape(b, name)} in B" for name in rest]
        yield Difference(SHAPES, rest, f"Other shapes: {first_few(shapes)}.")


def _classes(side: Side) -> str:
    return f"{side.config.num_classes:,} classes"


def _shape(side: Side, name: str) -> str:
    return str(list(side.tensors[name].shape)) if name in side.tensors else "absent"


def _of_exchanges(exchanges: Sequence[Exchange]) -> Iterator[Difference]:
    """Yields one difference for each exchange, and one for the same two fields in many layers."""
    together: dict[tuple[str, ...], list[Exchange]] = {}
    for exchange in exchanges:
        parents = {name.rpartition(".")[0] for name in exchange.names}
        fields = tuple(name.rpartition(".")[2] for name in exchange.names)
        key = fields if len(parents) == 1 and exchange.names[0] in exchange.moves else exchange.names
        together.setdefault(key, []).append(exchange)
    for key, some in together.items():
        names = tuple(name for exchange in some for name in exchange.names)
        yield Difference(EXCHANGED, names, _exchange_text(key, names, some))


def _exchange_text(key: tuple[str, ...], names: tuple[str, ...], some: Sequence[Exchange]) -> str:
    if key != names:
        layers = list(dict.fromkeys(map(layer_of, names)))
        return f"{key[0]} and {key[1]}, two fields of one layer, are exchanged: {first_few(layers)}."
    if len(names) > 2:
        return f"{first_few(names, 4)} have changed places among themselves."
    kind = "" if names[0] in some[0].moves else " as a whole"
    return f"{names[0]} and {names[1]} are exchanged{kind}."


def _of_findings(
    findings: Mapping[str, Finding], shared: Collection[str], sums: Sums
) -> Iterator[Difference]:
    """Yields one difference for all tensors to which the same happened."""
    together: dict[tuple[str, str], list[str]] = {}
    for name, finding in findings.items():
        together.setdefault((finding.cause, finding.text), []).append(name)
    values = [name for name, finding in findings.items() if finding.cause == VALUES]
    for (cause, text), names in together.items():
        if cause not in (VALUES, COUNTERS):
            yield Difference(cause, tuple(names), _sentence(cause, text, names, shared))
    head = [name for name in values if is_of_head(name)]
    if head and cosine_of(head, sums) <= ALIKE:
        yield Difference(HEAD, tuple(head), "Another head: it has as many classes, and other numbers.")
        values = [name for name in values if not is_of_head(name)]
    if values:
        yield _of_values(values, sums)
    for (cause, text), names in together.items():
        if cause == COUNTERS:  # they matter least
            yield Difference(cause, tuple(names), _sentence(cause, text, names, shared))


def _sentence(cause: str, text: str, names: Sequence[str], shared: Collection[str]) -> str:
    """Returns the cause and where it is: everywhere, or at the first names."""
    of_all = [name for name in shared if name.endswith(COUNTER) == (cause == COUNTERS)]
    where = f"all {len(names):,} tensors" if len(names) == len(of_all) > 1 else first_few(names)
    if cause == INITIAL and len(names) == len(of_all):
        return (
            f"{text[0].upper()}{text[1:]}: all {len(names):,} tensors. It was never trained, or never loaded."
        )
    return f"{text[0].upper()}{text[1:]}: {where}."


def _of_values(names: Sequence[str], sums: Sums) -> Difference:
    """Returns how tensors differ that hold other numbers, and nothing else explains: trained on, or apart."""
    far = distance_of(names, sums)
    shown = f"at a relative distance of {'more than can be said' if far is None else format(far, '.2g')}"
    if all(name.endswith((".running_mean", ".running_var")) for name in names):
        text = f"Only running statistics differ, {shown}: one of the two was run in training mode."
        return Difference(STATISTICS, tuple(names), text)
    if cosine_of(names, sums) > ALIKE:
        order = sorted(names, key=lambda name: -(distance_of([name], sums) or 0.0))
        count = f"{len(names):,} tensors differ" if len(names) > 1 else "1 tensor differs"
        differ = f"{count}, {shown}, most of all {order[0]}"
        text = f"One was trained on from the other: {differ}."
        return Difference(FINE_TUNED, tuple(order), text)
    return Difference(VALUES, tuple(names), f"Other numbers, {shown}, and unlike: {first_few(names)}.")
