"""A receipt in words, as the terminal, the card and the report say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import floor, isfinite, prod
from typing import Any

from densenet_convert.densenet import DenseNetConfig, architecture_of, config_file
from densenet_convert.densenet.config import dimensions_text, unlike_torchvision

from ..errors import quoted
from ..layout import FEATURES
from ..records import ORIGIN_FILE, ORIGIN_IMAGENET, ORIGIN_MEMORY, ORIGIN_RANDOM
from ..results import DIFFERS, EQUAL, UNKNOWN


def network_name(config: DenseNetConfig) -> str:
    """``"DenseNet-169"``, or ``"DenseNet"`` for others than the four; ``"DenseNet-169 in 3 dimensions"``."""
    architecture = architecture_of(replace(config, spatial_dims=2))
    name = f"DenseNet-{architecture.removeprefix('densenet')}" if architecture else "DenseNet"
    return name + dimensions_text(config)


def other_function(config: DenseNetConfig) -> str:
    """Lists the settings that differ from torchvision's network, in a sentence; empty if none does."""
    other = ", ".join(f"{name} {value}" for name, value in unlike_torchvision(config).items())
    if not other:
        return ""
    whose = "torchvision's" if config.spatial_dims == 2 else "MONAI's"
    return f"{whose} network would take these weights and compute something else: {other}"


def assumed_text(receipt: Mapping[str, Any]) -> str:
    """Says in one line what is assumed of a network that is not built as torchvision's class builds it.

    Of one that has its features and its head where that class has them, it is empty.
    """
    whats = [one["what"] for one in receipt["assumptions"] or []]
    if not whats or _stands_as_in_torchvision(receipt):
        return ""
    more = f" and {len(whats) - 2} more" if len(whats) > 2 else ""
    return f"{'; '.join(whats[:2])}{more}: see assumptions in conversion.json"


def _stands_as_in_torchvision(receipt: Mapping[str, Any]) -> bool:
    """Whether the source calls the features by their usual name, and has the head beside them."""
    names = {entry["name"]: entry["source_name"] for entry in receipt["tensors"]}
    head, prefix = names.get("classifier.weight"), receipt["source"]["prefix"]
    first = names["features.conv0.weight"].removeprefix(prefix)
    usual = first.startswith(FEATURES) or "/" in first  # Keras has words of its own
    return usual and head is not None and head.startswith(prefix)


def inputs_text(proof: Mapping[str, Any]) -> str:
    """``"eval 1x3x224x224, train 2x3x64x96"``: the modes and shapes of a proof's inputs."""
    return ", ".join(f"{x['mode']} {'x'.join(map(str, x['shape']))}" for x in proof["inputs"])


def seen_text(proof: Mapping[str, Any]) -> str:
    """``"99% of the parameters and 100% of the running statistics"``: what the comparisons could see."""
    covered = proof["coverage"]
    return (
        f"{percent(covered['parameters']['share'])} of the parameters and "
        f"{percent(covered['running_statistics']['share'])} of the running statistics"
    )


def reaching_text(proof: Mapping[str, Any]) -> str:
    """``"98% of the parameters reach the logits"``, so that a change there would change the output."""
    return f"{percent(proof['coverage']['reaching_logits']['share'])} of the parameters reach the logits"


def asked_for(proof: Mapping[str, Any]) -> dict[str, str]:
    """Says what was compared beside the reference."""
    rows = {}
    if library := proof.get("library"):
        rows["library"] = (
            f"{library['name']}: {library['relative_difference']:.1g} of the outputs, in float64"
        )
    if own := proof.get("own_network"):
        rows["own network"] = _own_text(own)
    if outputs := proof.get("outputs"):
        rows["outputs"] = (
            f"of {outputs['images']:,} images, recorded elsewhere, largest error {outputs['largest']:.3g} "
            f"of at most {outputs['bound']:.3g}; this shows these inputs alone"
        )
    if images := proof.get("images"):
        rows["images"] = (
            f"{images['images']:,}: the same class for {images['agreed']:,}, "
            f"largest difference of a logit {images['largest']:.3g}"
        )
    if golden := proof.get("golden"):
        rows["golden"] = (
            f"every layer within its bound, the largest difference at {golden['share_of_bound']:.1%} of it"
        )
    return rows


def _own_text(own: Mapping[str, Any]) -> str:
    """Says in one line how the owner's own network compared."""
    name = "the network at hand" if own["name"] == ORIGIN_MEMORY else quoted(own["name"])
    known, kinds = own["every_input"], ("logits", "gradients", "buffers")
    said = [name]
    if own["output"]:
        said.append(f"its {quoted(own['output'])}")
    if own["around"]:
        said.append(f"around which it runs {', '.join(map(quoted, own['around']))}")
    said.append(f"on {inputs_text(own)}")
    said += [f"{' and '.join(found)} {verdict}" for verdict, found in _by_verdict(known, kinds)]
    if own["bound"]:
        said.append(f"largest difference {own['largest_difference']:.3g} of at most {own['bound']:.3g}")
    because = f"; {quoted(known['because'], 400)}" if "because" in known else ""
    return ", ".join(said) + because


def _by_verdict(known: Mapping[str, str], kinds: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    words = {
        EQUAL: "are equal for every input of these shapes",
        UNKNOWN: "were measured alone",
        DIFFERS: "differ in training",
    }
    for verdict, said in words.items():
        if found := [kind for kind in kinds if known[kind] == verdict]:
            yield said, found


def coverage_text(proof: Mapping[str, Any]) -> str:
    """Says in one line what a proof's comparisons could see; empty if both are equal for every input."""
    return f"{seen_text(proof)}; {reaching_text(proof)}" if "coverage" in proof else ""


def every_input_text(proof: Mapping[str, Any]) -> str:
    """Says in one line what is known for every input; empty for receipts up to version 2."""
    known = proof.get("every_input")
    if known is None:
        return ""
    equal = [kind for kind in ("logits", "gradients", "buffers") if known[kind] == EQUAL]
    if len(equal) == 3:
        return "logits, gradients and buffers are equal for every input of these shapes"
    held = f"{' and '.join(equal)} are equal for every input of these shapes; " if equal else ""
    return f"{held}the rest is not known: {quoted(known['because'])}"


def origin_text(source: Mapping[str, Any]) -> str:
    """``"a file"``, or whose the weights are."""
    kinds = {
        ORIGIN_RANDOM: f"random weights, seed {source['seed']}",
        ORIGIN_FILE: "a file",
        ORIGIN_MEMORY: "a network in memory",
    }
    return kinds.get(source["origin"], f"torchvision's {source['origin']}")


def count_tensors(tensors: list[Mapping[str, Any]], dropped: list[Any]) -> dict[str, int]:
    """Counts a receipt's tensors by what became of their names."""
    zero = sum(entry["source_name"] is None for entry in tensors)
    renamed = sum(entry["source_name"] not in (None, entry["name"]) for entry in tensors)
    return {
        "total": len(tensors),
        "renamed": renamed,
        "kept": len(tensors) - renamed - zero,
        "zero": zero,
        "dropped": len(dropped),
    }


def tensors_text(receipt: Mapping[str, Any]) -> str:
    """``"1,015: 820 renamed, 26 under their own names"`` and so on."""
    counts = count_tensors(receipt["tensors"], receipt["dropped"])
    filled = [step["name"] for step in receipt["rewrites"] if not step["sources"]]
    counters = counts["zero"] - len(filled)
    absent = [f"{counters:,} num_batches_tracked"] if counters else []
    absent += ["the bias of the head"] if filled else []
    zero = f", {' and '.join(absent)} absent and written as zero" if absent else ""
    return (
        f"{counts['total']:,}: {counts['renamed']:,} renamed, {counts['kept']:,} under their own names"
        f"{zero}, {counts['dropped']:,} dropped"
    )


def rewrites_text(receipt: Mapping[str, Any]) -> str:
    """``"121 by count-as-integer, 1 by convolution-as-linear"``; empty where nothing was rewritten."""
    steps = Counter(step["step"] for step in receipt["rewrites"])
    return ", ".join(f"{count:,} by {step}" for step, count in steps.items())


def percent(share: float) -> str:
    """Rounded down: 100% means all of them."""
    return f"{floor(share * 1000) / 10:g}%" if isfinite(share) else "unknown"


# The settings of pre-processing that are shown, in the order in which they apply.
PREPARED = ("input_size", "interpolation", "crop_pct", "mean", "std")


def preprocessing_rows(receipt: Mapping[str, Any], config: DenseNetConfig) -> list[tuple[str, str, str]]:
    """Returns each setting of pre-processing, its value, and how it is known."""
    fields = _fields_of_input(receipt, config)
    known = [name for name in PREPARED if name in fields]
    return [(name, _value_text(fields[name]), _known_by(receipt, config, name)) for name in known]


def _fields_of_input(receipt: Mapping[str, Any], config: DenseNetConfig) -> Mapping[str, Any]:
    """Returns what config.json tells of the input: timm's fields, or what is known where it is no image."""
    content = config_file.config_json(config, preprocessing=receipt["preprocessing"])
    fields: Mapping[str, Any] = content.get("pretrained_cfg", content)
    return fields


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{one:g}" for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _known_by(receipt: Mapping[str, Any], config: DenseNetConfig, name: str) -> str:
    files = [one for one in receipt["beside"] if one.endswith(".json")]
    words = {
        "stated": "stated by whoever converted it",
        "beside": f"{files[0] if len(files) == 1 else 'config.json'} beside the source",
        "layout": f"the layout, {receipt['source']['layout']}",
    }
    if name in receipt["preprocessing"]:
        return words.get(
            receipt["preprocessing_origin"].get(name, ""), "what was beside the source, or its layout"
        )
    if receipt["source"]["origin"] == ORIGIN_IMAGENET:
        return "torchvision's own preset"
    if config.in_channels != 3 and name in ("mean", "std"):
        return "not known: images are left as they are"
    return "assumed, as torchvision"


def prepared_text(receipt: Mapping[str, Any]) -> str:
    """Says in one line what is stated, was found or is assumed of pre-processing."""
    rows = preprocessing_rows(receipt, DenseNetConfig(**receipt["config"]))
    said: dict[str, list[str]] = {}
    for name, value, by in rows:
        known = name in receipt["preprocessing"]
        said.setdefault(by, []).append(f"{name} {value.replace(', ', ',')}" if known else name)
    return "; ".join(f"{', '.join(names)}: {by}" for by, names in said.items())


def cost_text(receipt: Mapping[str, Any], config: DenseNetConfig) -> list[tuple[str, str]]:
    """Returns a network's size, its input, and what one image costs, each in words."""
    counted = [one["shape"] for one in receipt["tensors"] if one["name"].endswith((".weight", ".bias"))]
    parameters = ("parameters", f"{sum(map(prod, counted)):,}")
    size = _fields_of_input(receipt, config).get("input_size")
    if size is None:
        channels = f"{config.in_channels} channel{'s' * (config.in_channels > 1)}"
        return [parameters, ("input", f"{channels}{dimensions_text(config)}, of any size")]
    one = "image" if config.spatial_dims == 2 else "input"
    return [
        parameters,
        ("input", f"{' x '.join(map(str, size))}; other sizes are taken, too"),
        ("multiply-adds", f"{_multiply_adds(config, *size[1:]) / 1e9:.3g} billion an {one} of this size"),
    ]


def _multiply_adds(config: DenseNetConfig, *input_sides: int) -> int:
    """Those of all convolutions and the classifier on one image, whose sides they and the pools round."""
    shapes = config.tensor_shapes()
    padding = sum(config.stem_padding)
    stem = [(side + padding - 7) // 2 + 1 for side in input_sides]
    sides = [(side - 1) // 2 + 1 for side in stem]
    total = prod(shapes["features.conv0.weight"]) * prod(stem)
    for number in range(1, len(config.block_config) + 1):
        within = (f"features.denseblock{number}.", f"features.transition{number}.conv.")
        weights = [shape for name, shape in shapes.items() if name.startswith(within)]
        total += sum(prod(shape) for shape in weights if len(shape) > 2) * prod(sides)
        sides = [side // 2 for side in sides]
    return total + prod(shapes.get("classifier.weight", (0,)))
