"""README.md, the model card: what a receipt says, for people and for the Hub's search.

Nothing stands in it that the receipt does not hold, but for what torchvision says of its own weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from densenet_convert.densenet import DenseNetConfig, architecture_of
from densenet_convert.densenet.config_file import WEIGHTS

from ..records import ORIGIN_IMAGENET
from ..torchvision_weights import DATASET, LICENSE, imagenet_accuracy
from .card_monai import example_of_monai
from .card_proof import as_text, assumed, proof_of, provenance, table
from .receipt import CONVERTER, config_from
from .wording import (
    cost_text,
    network_name,
    other_function,
    preprocessing_rows,
)

PAPER = "https://arxiv.org/abs/1608.06993"
CITATION = """```bibtex
@inproceedings{huang2017densely,
  title = {Densely Connected Convolutional Networks},
  author = {Huang, Gao and Liu, Zhuang and van der Maaten, Laurens and Weinberger, Kilian Q.},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2017}
}
```"""
# torchvision states the accuracy of its weights here.
STATED = "https://pytorch.org/vision/stable/models/generated/torchvision.models.{}.html"
TERMS = "https://github.com/pytorch/vision#pre-trained-model-license"
# The title if no name is known yet.
NOBODY = "USER/NAME"
# Classes that are listed; config.json has all of them.
LISTED = 20


def model_card(
    receipt: Mapping[str, Any], *, repo_id: str = NOBODY, names: Sequence[str] | None = None
) -> str:
    """The card of a conversion; equal arguments give equal text.

    Args:
        receipt: the content of conversion.json; the digests of files are not looked at.
        repo_id: what the repository is called, for the title and the examples.
        names: of the classes, as config.json has them.
    """
    # ModelCard itself takes 0.2 s to import, and would give the same text: a test holds that.
    from huggingface_hub import ModelCardData

    config = config_from(receipt["config"])
    parts = [
        *_head(receipt, config, repo_id),
        *_purpose(receipt, config, names),
        *receipt["card"].get("sections", []),
        "## Use it",
        *_examples(config, repo_id),
        *_preparation(receipt, config),
        *_metrics(receipt, config),
        "## Where the weights are from",
        *provenance(receipt),
        "## What was verified",
        *proof_of(receipt["verification"]),
        *assumed(receipt, "torchvision" if config.spatial_dims == 2 else "MONAI"),
        "## Verify it",
        f"```\npip install {CONVERTER}\n{CONVERTER} verify hf://{repo_id}\n```",
        f"It repeats this on your machine. `{CONVERTER} verify hf://{repo_id} --source FILE` "
        "compares with the file that was converted as well.",
        "## Cite it",
        CITATION,
    ]
    data = ModelCardData(**_metadata(receipt, config, repo_id))
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(receipt: Mapping[str, Any], config: DenseNetConfig, repo_id: str) -> dict[str, Any]:
    """The front matter; timm is the library of the Hub's own examples, where it can build the network."""
    architecture = architecture_of(config)
    fields: dict[str, Any] = {
        "library_name": "timm" if architecture else CONVERTER,
        "pipeline_tag": "image-classification" if config.num_classes else "image-feature-extraction",
        "tags": ["densenet", CONVERTER, *_libraries(config)],
    }
    if config.spatial_dims != 2:  # the Hub has no task for it
        del fields["pipeline_tag"]
    if receipt["source"]["origin"] == ORIGIN_IMAGENET:
        # The same weights, as timm's registry names them.
        base = f"timm/{architecture}.tv_in1k"
        fields |= {"license": LICENSE, "datasets": [DATASET], "base_model": base}
    said = ("license", "license_name", "license_link", "datasets", "base_model")
    fields |= {name: receipt["card"][name] for name in said if name in receipt["card"]}
    if measured := measured_of(receipt, config):
        fields["metrics"] = list(dict.fromkeys(one["type"] for one in measured))
        fields["eval_results"] = [_as_result(one) for one in measured]
        fields["model_name"] = network_name(config) if repo_id == NOBODY else repo_id
    return fields


def measured_of(receipt: Mapping[str, Any], config: DenseNetConfig) -> list[dict[str, Any]]:
    """Returns the metrics that are known: stated, or torchvision's for its own weights, with their source."""
    if receipt["source"]["origin"] != ORIGIN_IMAGENET or "metrics" in receipt["card"]:
        return list(receipt["card"].get("metrics", []))
    architecture = str(architecture_of(config))
    both = zip(("accuracy", "top-5 accuracy"), imagenet_accuracy(architecture), strict=True)
    where = STATED.format(architecture)
    return [{"type": name, "value": value, "dataset": DATASET, "source": where} for name, value in both]


def _as_result(measured: Mapping[str, Any]) -> Any:
    from huggingface_hub import EvalResult

    source = measured.get("source")
    return EvalResult(
        task_type="image-classification",
        dataset_type=measured["dataset"],
        dataset_name=measured["dataset"],
        metric_type=measured["type"],
        metric_value=measured["value"],
        source_name="torchvision" if source else None,
        source_url=source,
    )


def _libraries(config: DenseNetConfig) -> list[str]:
    """Which of the Hub's libraries load it."""
    if config.spatial_dims != 2:
        return ["monai"]
    if architecture_of(config) is None:
        return []
    return ["timm", "transformers"] if config.num_classes and config.in_channels == 3 else ["timm"]


def _head(receipt: Mapping[str, Any], config: DenseNetConfig, repo_id: str) -> Iterator[str]:
    name = network_name(config)
    imagenet = receipt["source"]["origin"] == ORIGIN_IMAGENET
    whose = f", torchvision's {ORIGIN_IMAGENET}" if imagenet else ""
    yield f"# {name}{whose}" if repo_id == NOBODY else f"# {repo_id}"
    named = architecture_of(replace(config, spatial_dims=2))
    blocks = "" if named else f" of blocks {list(config.block_config)}"
    takes = _taken(config)
    what = f"{config.num_classes:,} classes" if config.num_classes else "features, and no classes"
    yield (
        f"A {name}{blocks}{whose} ([Huang et al.]({PAPER})) that takes {takes} and gives {what}"
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


def _taken(config: DenseNetConfig) -> str:
    """``"images with in_channels 1"``, or what else the network takes."""
    if config.spatial_dims != 2:
        kind = "volumes" if config.spatial_dims == 3 else "signals"
        return f"{kind} with in_channels {config.in_channels}"
    return "images" if config.in_channels == 3 else f"images with in_channels {config.in_channels}"


def _read(receipt: Mapping[str, Any]) -> str:
    """How the logits are to be read, and what the classes are called."""
    labels = receipt["labels"]
    several = (
        ", several of which may hold at once: a sigmoid is for the logits" if labels["problem_type"] else ""
    )
    named = "; `label_names` in config.json are their names" if labels["sha256"] else ""
    return several + named


def _purpose(
    receipt: Mapping[str, Any], config: DenseNetConfig, names: Sequence[str] | None
) -> Iterator[str]:
    """Yields what the network is for: its task, its size, its input and the first of its classes."""
    yield "## What it is for"
    card = receipt["card"]
    kind = {1: "signal", 2: "image", 3: "volume"}[config.spatial_dims]
    task = f"{kind} classification" if config.num_classes else f"features of {kind}s, for other tasks"
    rows = [("task", task), *cost_text(receipt, config)]
    rows += [("trained on", ", ".join(map(as_text, card["datasets"])))] if "datasets" in card else []
    rows += [("made from", as_text(card["base_model"]))] if "base_model" in card else []
    yield table(("", ""), rows)
    if names:
        yield table(("class", "name"), [(str(i), as_text(name)) for i, name in enumerate(names[:LISTED])])
        if len(names) > LISTED:
            yield f"These are the first {LISTED} of {len(names):,}; config.json has all of them."
    elif config.num_classes:
        yield "What the classes are called is not known."


def _examples(config: DenseNetConfig, repo_id: str) -> Iterator[str]:
    """Yields how the network is loaded, by us and by other libraries."""
    yield _python(
        "from densenet_convert.densenet import DenseNet  # pip install densenet-convert",
        "",
        f'model = DenseNet.from_pretrained("{repo_id}")  # strict, in eval mode',
    )
    architecture = architecture_of(config)
    if config.spatial_dims != 2:
        yield from example_of_monai(config, repo_id)
    elif architecture is None:
        other = other_function(config)
        yield f"timm and transformers have no such network{f', and {other}' if other else ''}."
    else:
        yield from _examples_of_others(architecture, config, repo_id)


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


def _preparation(receipt: Mapping[str, Any], config: DenseNetConfig) -> Iterator[str]:
    """Yields how images are to be prepared, as config.json tells it, and who says so."""
    rows = preprocessing_rows(receipt, config)
    if config.spatial_dims != 2:
        yield "## How inputs are prepared"
        yield "It is not known: whoever trained the network tells it."
        if rows:
            yield table(("setting", "value", "known by"), rows)
        return
    yield "## How images are prepared"
    yield (
        "config.json tells timm and transformers: the shorter side is resized to the input's by `crop_pct`, "
        "the middle is cut out, and what is then 0 to 1 is normalised."
    )
    yield table(("setting", "value", "known by"), rows)


def _metrics(receipt: Mapping[str, Any], config: DenseNetConfig) -> Iterator[str]:
    """Yields what was measured, by others."""
    if measured := measured_of(receipt, config):
        yield "## What was measured"
        yield "These are its owner's, or torchvision's; they were not measured again here."
        rows = [(as_text(one["type"]), f"{one['value']:g}", as_text(one["dataset"])) for one in measured]
        yield table(("metric", "value", "data"), rows)


def _python(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"
