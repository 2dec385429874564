"""README.md, the model card: what a receipt says, for people and for the Hub's search.

Nothing stands in it that the receipt does not hold, but for what torchvision says of its own weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from densenet_convert.densenet import DenseNetConfig, architecture_of
from densenet_convert.densenet.config_file import WEIGHTS

from ..errors import FolderError, quoted
from ..records import ORIGIN_IMAGENET
from ..torchvision_weights import DATASET, LICENSE, imagenet_accuracy
from .receipt import CONVERTER, config_from
from .wording import (
    asked_for,
    coverage_text,
    every_input_text,
    network_name,
    origin_text,
    other_function,
    tensors_text,
)

PAPER = "https://arxiv.org/abs/1608.06993"
# Where torchvision states the accuracy of its weights.
STATED = "https://pytorch.org/vision/stable/models/generated/torchvision.models.{}.html"
TERMS = "https://github.com/pytorch/vision#pre-trained-model-license"
# Where no name is known yet.
NOBODY = "USER/NAME"


def model_card(receipt: Mapping[str, Any], *, repo_id: str = NOBODY, license: str | None = None) -> str:
    """The card of a conversion; equal arguments give equal text.

    Args:
        receipt: the content of conversion.json; the digests of files are not looked at.
        repo_id: what the repository is called, for the examples.
        license: one of the Hub's identifiers, such as ``"mit"``; None for torchvision's where the weights
            are its own, and for none otherwise.
    """
    # ModelCard itself takes 0.2 s to import, and would give the same text: a test holds that.
    from huggingface_hub import ModelCardData

    config = config_from(receipt["config"])
    parts = [
        *_head(receipt, config),
        "## Use it",
        *_examples(receipt, config, repo_id),
        "## Where the weights are from",
        *_provenance(receipt),
        "## What was verified",
        *_proof(receipt["verification"]),
        *_assumed(receipt),
        "## Verify it",
        f"```\npip install {CONVERTER}\n{CONVERTER} verify hf://{repo_id}\n```",
        f"It repeats this on your machine. `{CONVERTER} verify hf://{repo_id} --source FILE` "
        "compares with the file that was converted as well.",
    ]
    data = ModelCardData(**_metadata(receipt, config, license))
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def license_of(path: Path) -> str | None:
    """What a card on disk names as its licence; None where it names none, or is not there.

    Raises:
        FolderError: it can't be read.
    """
    from huggingface_hub import ModelCard

    try:
        if not path.exists():
            return None
        found = ModelCard(path.read_text(encoding="utf-8")).data.get("license")
    # YAML's errors are of a library that is the Hub client's own business.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise FolderError(f"{path} can't be read as a model card: {quoted(reason)}. Mend it.") from error
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return found if found and isinstance(found, str) else None


def _metadata(receipt: Mapping[str, Any], config: DenseNetConfig, license: str | None) -> dict[str, Any]:
    """The front matter; timm is the library of the Hub's own examples, where it can build the network."""
    architecture = architecture_of(config)
    imagenet = receipt["source"]["origin"] == ORIGIN_IMAGENET
    known = {
        "license": LICENSE,
        "datasets": [DATASET],
        "metrics": ["accuracy"],
        # The same weights, as timm's registry names them.
        "base_model": f"timm/{architecture}.tv_in1k",
    }
    return {
        "library_name": "timm" if architecture else CONVERTER,
        "pipeline_tag": "image-classification" if config.num_classes else "image-feature-extraction",
        "tags": ["densenet", CONVERTER, *_libraries(config)],
        **(known if imagenet else {}),
        **({"license": license} if license else {}),
    }


def _libraries(config: DenseNetConfig) -> list[str]:
    """Which of the Hub's libraries load it."""
    if architecture_of(config) is None:
        return []
    return ["timm", "transformers"] if config.num_classes and config.in_channels == 3 else ["timm"]


def _head(receipt: Mapping[str, Any], config: DenseNetConfig) -> Iterator[str]:
    name = network_name(config)
    imagenet = receipt["source"]["origin"] == ORIGIN_IMAGENET
    yield f"# {name}" + (f", torchvision's {ORIGIN_IMAGENET}" if imagenet else "")
    blocks = "" if architecture_of(config) else f" of blocks {list(config.block_config)}"
    channels = "" if config.in_channels == 3 else f" with in_channels {config.in_channels}"
    what = f"{config.num_classes:,} classes" if config.num_classes else "features, and no classes"
    yield (
        f"A {name}{blocks} ([Huang et al.]({PAPER})) that takes images{channels} and gives {what}"
        f"{_read(receipt)}."
    )
    if imagenet:
        architecture = str(architecture_of(config))
        top1, top5 = imagenet_accuracy(architecture)
        yield (
            f"On ImageNet-1k's validation images torchvision states a top-1 accuracy of {top1:g}% and a "
            f"top-5 accuracy of {top5:g}% for these weights ([source]({STATED.format(architecture)})); "
            "it was not measured again here. torchvision is under the BSD-3-Clause license; its "
            f"authors say that weights [may have terms of their own]({TERMS}), which follow from the data."
        )


def _read(receipt: Mapping[str, Any]) -> str:
    """How the logits are to be read, and what the classes are called."""
    labels = receipt["labels"]
    several = (
        ", several of which may hold at once: a sigmoid is for the logits" if labels["problem_type"] else ""
    )
    named = "; `label_names` in config.json are their names" if labels["sha256"] else ""
    return several + named


def _examples(receipt: Mapping[str, Any], config: DenseNetConfig, repo_id: str) -> Iterator[str]:
    """Yields how the network is loaded, by us and by other libraries, and how images are prepared."""
    yield _python(
        "from densenet_convert.densenet import DenseNet  # pip install densenet-convert",
        "",
        f'model = DenseNet.from_pretrained("{repo_id}")  # strict, in eval mode',
    )
    architecture = architecture_of(config)
    if architecture is None:
        other = other_function(config)
        yield f"timm and transformers have no such network{f', and {other}' if other else ''}."
        return
    yield from _examples_of_others(architecture, config, repo_id)
    yield _preparation(receipt, config)


def _examples_of_others(architecture: str, config: DenseNetConfig, repo_id: str) -> Iterator[str]:
    """Yields how the network is loaded by each library that has one of this architecture."""
    yield _python(
        "import timm",
        "",
        f'model = timm.create_model("hf-hub:{repo_id}", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
    )
    if config.num_classes and config.in_channels == 3:
        yield _python(
            "from transformers import pipeline",
            "",
            f'classify = pipeline("image-classification", model="{repo_id}")',
        )
        yield _python(
            "import torchvision",
            "from huggingface_hub import hf_hub_download",
            "from safetensors.torch import load_file",
            "",
            f"model = torchvision.models.{architecture}(num_classes={config.num_classes})",
            f'model.load_state_dict(load_file(hf_hub_download("{repo_id}", "{WEIGHTS}")))',
        )


def _preparation(receipt: Mapping[str, Any], config: DenseNetConfig) -> str:
    """Returns how images are to be prepared, as far as it is known."""
    if other := receipt["preprocessing"]:
        listed = ", ".join(f"{name} {value}" for name, value in sorted(other.items()))
        return f"Images, of 0 to 1, are prepared as config.json tells timm and transformers: {listed}."
    if config.in_channels != 3:
        return (
            "How images are to be prepared is not known: config.json tells timm no mean and no standard "
            "deviation."
        )
    as_torchvision = (
        "config.json tells timm and transformers to prepare images as torchvision does: the shorter side "
        "to 256 (bilinear), the middle 224 x 224, mean and standard deviation of ImageNet."
    )
    if receipt["source"]["origin"] == ORIGIN_IMAGENET:
        return as_torchvision
    return as_torchvision + " That these were trained so is assumed."


def _python(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"


def _provenance(receipt: Mapping[str, Any]) -> Iterator[str]:
    source = receipt["source"]
    # A stranger's key: within backticks nothing is markup.
    key = quoted(source["container"] or "").replace("`", "'")
    container = f", under `{key}`" if key else ""
    yield _table(
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


def _proof(proof: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Both networks ran side by side, this one and the reference ({proof['reference']}), which was "
        f"given the source under the source's names: on {proof['device']}, in {proof['dtype']}, with "
        + ", ".join(f"{name} {version}" for name, version in sorted(proof["versions"].items()))
        + "; on inputs "
        + ", ".join(f"{x['mode']} {'x'.join(map(str, x['shape']))}" for x in proof["inputs"])
        + "."
    )
    largest = proof["largest_difference"]
    rows = [(kind, f"{count:,}", f"{largest[kind]:g}") for kind, count in sorted(proof["compared"].items())]
    yield _table(("compared", "comparisons", "largest difference"), rows)
    if known := every_input_text(proof):
        yield f"For every input: {known}."
    if covered := coverage_text(proof):
        yield f"Coverage: of {covered}."
    asked = [f"- {name}: {text}" for name, text in asked_for(proof).items()]
    if asked:
        yield "\n".join(asked)
    if measured := proof.get("measured"):
        yield "Largest error of the logits against the reference's run in float64, where rounding differs:"
        yield _table(("setting", "ours", "the reference's", "bound"), map(_setting, measured))


def _assumed(receipt: Mapping[str, Any]) -> Iterator[str]:
    """Yields what the source does not tell, and what was noticed in it."""
    assumptions, remarks = receipt["assumptions"] or [], receipt["remarks"]
    if assumptions:
        yield (
            "The source does not tell everything about its network's function. This was assumed, as "
            "torchvision has it:"
        )
        rows = [(one["what"], one["because"], one["settled_by"]) for one in assumptions]
        yield _table(("assumed", "because", "settled by"), rows)
    if remarks:
        yield "\n".join(f"- {one['text'].replace('`', chr(39))}" for one in remarks)


def _setting(one: Mapping[str, Any]) -> Sequence[str]:
    numbers = (one[column] for column in ("ours", "theirs", "bound"))
    return one["setting"], *("infinite" if n is None or not isfinite(n) else f"{n:.2e}" for n in numbers)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
