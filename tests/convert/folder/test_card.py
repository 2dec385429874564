"""The model card says what the receipt holds, and nothing that nobody measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL
from huggingface_hub import ModelCard
from torchvision.models import DenseNet169_Weights

import densenet_convert as dc
from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.densenet.config_file import as_json
from densenet_convert.errors import FolderError
from densenet_convert.folder.card import model_card
from densenet_convert.folder.card_fields import license_of
from densenet_convert.folder.files import CARD, file_sha256
from densenet_convert.folder.open import open_folder

ACCURACY = DenseNet169_Weights.IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]


@pytest.fixture(scope="module")
def receipt(converted_with_golden: Path) -> dict[str, Any]:
    return dict(open_folder(converted_with_golden).receipt)


def published(receipt: dict[str, Any], **config: Any) -> dict[str, Any]:
    """As if torchvision's own weights had been converted."""
    fields = as_json(replace(ARCHITECTURES["densenet169"], **config))
    return {**receipt, "config": fields, "source": {**receipt["source"], "origin": "IMAGENET1K_V1"}}


def test_a_folder_has_a_card_whose_digest_is_beside_what_depends_on_the_machine(
    converted_with_golden: Path,
) -> None:
    content = open_folder(converted_with_golden).receipt
    assert content["verification"]["files"][CARD] == file_sha256(converted_with_golden / CARD)
    assert CARD not in content["files"]
    assert (converted_with_golden / CARD).read_text() == model_card(content)


def test_the_card_gives_the_proof_s_numbers_device_and_versions(receipt: dict[str, Any]) -> None:
    text = model_card(receipt)
    proof = receipt["verification"]
    for kind, count in proof["compared"].items():
        assert f"| {kind} | {count:,} | 0 |" in text
    for said in (f"on {proof['device']}", *proof["versions"].values(), proof["reference"]):
        assert said in text
    for said in (
        receipt["source"]["sha256"],
        f"{receipt['source']['size']:,} bytes",
        "torch-legacy, torchvision-dotted",
    ):
        assert said in text
    assert "golden: every layer within its bound" in text


def test_of_unknown_weights_neither_license_nor_data_nor_accuracy_is_claimed(receipt: dict[str, Any]) -> None:
    card = ModelCard(model_card(receipt))
    assert set(card.data.to_dict()) == {"library_name", "pipeline_tag", "tags"}
    assert "accuracy" not in card.text
    assert "assumed, as torchvision" in card.text
    assert "IMAGENET" not in card.text.upper().replace("IMAGENET IS", "")
    assert ModelCard(model_card({**receipt, "card": {"license": "mit"}})).data.license == "mit"


def test_of_torchvision_s_own_weights_everything_known_is_said_with_its_source(
    receipt: dict[str, Any],
) -> None:
    card = ModelCard(model_card(published(receipt)))
    assert card.data.to_dict() == {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["densenet", "densenet-convert", "timm", "transformers"],
        "license": "bsd-3-clause",
        "datasets": ["ILSVRC/imagenet-1k"],
        "metrics": ["accuracy", "top-5 accuracy"],
        "base_model": "timm/densenet169.tv_in1k",
        "model-index": card.data.to_dict()["model-index"],
    }
    results = card.data.eval_results or []
    assert [one.metric_value for one in results] == [ACCURACY["acc@1"], ACCURACY["acc@5"]]
    assert {one.dataset_type for one in results} == {"ILSVRC/imagenet-1k"}
    assert (
        f"top-1 accuracy of {ACCURACY['acc@1']:g}% and a top-5 accuracy of {ACCURACY['acc@5']:g}%"
        in card.text
    )
    assert "torchvision.models.densenet169.html" in card.text
    assert "it was not measured again here" in card.text


def test_every_example_is_python_and_names_the_repository(receipt: dict[str, Any]) -> None:
    text = model_card(published(receipt), repo_id="user/name")
    examples = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert len(examples) == 4
    for example in examples:
        compile(example, "example", "exec")
        assert "user/name" in example
    assert "USER/NAME" not in text


@pytest.mark.parametrize(
    ("config", "libraries"),
    [({"num_classes": 0}, {"densenet_convert", "timm"}), ({"in_channels": 1}, {"densenet_convert", "timm"})],
)
def test_only_libraries_that_load_it_are_shown(
    config: dict[str, Any], libraries: set[str], receipt: dict[str, Any]
) -> None:
    fields = as_json(replace(ARCHITECTURES["densenet121"], **config))
    text = model_card({**receipt, "config": fields})
    found = {
        name
        for name in ("densenet_convert", "timm", "transformers", "torchvision")
        if f"import {name}\n" in text or f"from {name}" in text
    }
    assert found == libraries


def test_the_hub_s_own_card_is_the_same_text(receipt: dict[str, Any]) -> None:
    measured = {"type": "auc", "value": 0.5, "dataset": "user/data"}
    said = {"license": "mit", "datasets": ["a"], "base_model": "b/c", "metrics": [measured]}
    for text in (model_card({**receipt, "card": said}), model_card(published(receipt))):
        assert str(ModelCard(text)) == text


def test_a_head_without_classes_is_for_features(receipt: dict[str, Any]) -> None:
    card = ModelCard(model_card({**receipt, "config": as_json(replace(SMALL, num_classes=0))}))
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert "gives features, and no classes" in card.text


def test_the_card_says_how_a_multi_label_head_is_read(receipt: dict[str, Any]) -> None:
    labels = {"origin": "file", "sha256": "0", "problem_type": "multi_label_classification"}
    text = model_card({**receipt, "labels": labels})
    assert "several of which may hold at once: a sigmoid is for the logits" in text
    assert "`label_names` in config.json are their names" in text


def test_the_card_names_another_preprocessing(receipt: dict[str, Any]) -> None:
    fields = as_json(ARCHITECTURES["densenet121"])
    text = model_card({**receipt, "config": fields, "preprocessing": {"mean": [0.5], "crop_pct": 1.0}})
    assert "| crop_pct | 1 | what was beside the source, or its layout |" in text
    assert "| mean | 0.5 |" in text
    assert "| std | 0.229, 0.224, 0.225 | assumed, as torchvision |" in text
    stated = {"preprocessing": {"mean": [0.5] * 3}, "preprocessing_origin": {"mean": "stated"}}
    assert "| mean | 0.5, 0.5, 0.5 | stated by whoever converted it |" in model_card({**receipt, **stated})


def test_the_card_bears_the_repository_s_name_once_it_is_known(receipt: dict[str, Any]) -> None:
    assert "\n# user/name\n" in model_card(receipt, repo_id="user/name")
    assert "\n# DenseNet\n" in model_card(receipt)


def test_the_card_lists_the_first_classes_and_says_what_an_image_costs(receipt: dict[str, Any]) -> None:
    names = [f"class {i}" for i in range(25)]
    fields = as_json(replace(ARCHITECTURES["densenet121"], num_classes=25))
    text = model_card({**receipt, "config": fields}, names=[*names[:2], "a|`<b>", *names[3:]])
    assert "| 19 | `class 19` |\n\nThese are the first 20 of 25" in text
    assert "| 2 | `a/'<b>` |" in text
    assert "| 20 |" not in text
    # As fvcore counts for timm's densenet121 at 224 x 224, its classifier aside: 2.83 GMACs.
    assert "| multiply-adds | 2.83 billion" in text


def test_the_owner_s_own_words_and_numbers_are_in_the_card(receipt: dict[str, Any]) -> None:
    said = {
        "license": "other",
        "license_name": "ours",
        "license_link": "LICENSE",
        "datasets": ["user/data"],
        "base_model": "user/base",
        "metrics": [{"type": "auc", "value": 0.875, "dataset": "user/data"}],
        "sections": ["## Limits\n\nNot for patients."],
    }
    card = ModelCard(model_card({**receipt, "card": said}, repo_id="user/name"))
    data = card.data.to_dict()
    assert {name: data[name] for name in said.keys() - {"metrics", "sections"}} == {
        name: value for name, value in said.items() if name not in ("metrics", "sections")
    }
    (result,) = card.data.eval_results or []
    assert (result.metric_type, result.metric_value, card.data.model_name) == ("auc", 0.875, "user/name")
    assert "\n## Limits\n\nNot for patients.\n" in card.text
    assert "| `auc` | 0.875 | `user/data` |" in card.text
    assert "Limits" not in model_card(receipt)


def test_a_stranger_s_key_is_no_markup(receipt: dict[str, Any]) -> None:
    hostile = {**receipt["source"], "container": "a`|<script>\n# x"}
    text = model_card({**receipt, "source": hostile})
    assert "`a'/<script>\\n# x`" in text


def test_the_license_of_the_command_is_in_the_card(source: Path, tmp_path: Path) -> None:
    folder = dc.convert(source, tmp_path / "new", license="apache-2.0").folder
    assert license_of(folder / CARD) == "apache-2.0"
    assert license_of(tmp_path / "missing") is None


def test_an_edited_card_is_reported_by_verify_and_not_overwritten(
    converted_with_golden: Path, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = Path(shutil.copytree(converted_with_golden, tmp_path / "copy"))
    (copy / CARD).write_text("# Mine")
    dc.verify(copy)
    assert f"{copy / CARD} was edited: nothing in it is proven." in caplog.text
    with pytest.raises(FolderError, match=r"would delete it: README\.md"):
        dc.convert(source, copy, force=True)
    (copy / CARD).unlink()
    caplog.clear()
    dc.verify(copy)
    assert caplog.text == ""
    dc.convert(source, copy, force=True)
    assert (copy / CARD).exists()
