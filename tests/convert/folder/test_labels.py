"""Classes are named where their names are known, and by nobody's guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL, in_2017_names, save, state_dict_of
from click.testing import CliRunner
from PIL import Image
from torchvision.models import DenseNet121_Weights

import densenet_convert as dc
from densenet_convert.claims import Labels
from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.errors import FolderError, LabelError
from densenet_convert.folder import receipt
from densenet_convert.folder.files import file_sha256
from densenet_convert.folder.labels import choose_labels
from densenet_convert.records import ORIGIN_FILE, ORIGIN_IMAGENET, ORIGIN_RANDOM

NAMES = ("no finding", "pneumonia", "œdema", "a, b", "x")
IMAGENET = tuple(DenseNet121_Weights.IMAGENET1K_V1.meta["categories"])
WHOLE = ARCHITECTURES["densenet121"]


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return path


def test_torchvisions_own_weights_have_torchvisions_names() -> None:
    assert choose_labels(ORIGIN_IMAGENET, WHOLE) == Labels(IMAGENET, "imagenet1k")


@pytest.mark.parametrize("origin", [ORIGIN_RANDOM, "file"])
def test_no_names_are_claimed_for_others(origin: str) -> None:
    assert choose_labels(origin, WHOLE) == Labels()


def test_imagenets_names_are_given_to_others_when_the_user_says_so() -> None:
    assert choose_labels(ORIGIN_FILE, WHOLE, asked="imagenet1k").names == IMAGENET


def test_names_are_read_from_a_file(names: Path) -> None:
    assert choose_labels(ORIGIN_FILE, SMALL, asked=names) == Labels(NAMES, "file")
    names.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(NAMES).encode())
    assert choose_labels(ORIGIN_FILE, SMALL, asked=names).names == NAMES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\n", "has 2 names, expected 5, one for each class"),
        (b"", "has 0 names, expected 5"),
        (b"a\n\nc\nd\ne\n", "has an empty line, 2, expected a name in each"),
        (b"\xff\xfe\xff", "can't be read"),
    ],
)
def test_a_file_of_other_than_a_name_for_each_class_is_refused(
    content: bytes, message: str, names: Path
) -> None:
    names.write_bytes(content)
    with pytest.raises(LabelError, match=message):
        choose_labels(ORIGIN_FILE, SMALL, asked=names)


def test_a_missing_file_is_named_with_what_else_could_be_given(tmp_path: Path) -> None:
    with pytest.raises(
        LabelError, match=r"missing can't be read: No such file .* Name imagenet1k, or a text"
    ):
        choose_labels(ORIGIN_FILE, SMALL, asked=tmp_path / "missing")


def test_imagenets_names_do_not_fit_another_head() -> None:
    with pytest.raises(LabelError, match="imagenet1k has 1,000 names, expected 5"):
        choose_labels(ORIGIN_FILE, SMALL, asked="imagenet1k")


def test_they_are_written_where_timm_and_transformers_look(source: Path, names: Path, tmp_path: Path) -> None:
    folder = dc.convert(source, tmp_path / "new", labels=names, multi_label=True).folder
    config = json.loads((folder / "config.json").read_bytes())
    assert config["label_names"] == list(NAMES)
    assert config["problem_type"] == "multi_label_classification"
    content = json.loads((folder / receipt.FILE_NAME).read_bytes())
    assert content["labels"]["origin"] == "file"
    assert dc.verify(folder)


def test_without_names_the_file_has_no_field_for_them(source: Path, tmp_path: Path) -> None:
    folder = dc.convert(source, tmp_path / "new").folder
    assert not {"label_names", "problem_type"} & set(json.loads((folder / "config.json").read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"label_names": ["pneumonia", "no finding", *NAMES[2:]]},
            "other label_names than the receipt names",
        ),
        ({"label_names": None}, "label_names"),
        ({"label_names": "abc"}, "label_names"),
        ({"problem_type": None}, "problem_type None, expected multi_label_classification"),
    ],
)
def test_other_names_with_a_digest_that_agrees_are_refused(
    change: dict[str, Any], message: str, source: Path, names: Path, tmp_path: Path
) -> None:
    folder = dc.convert(source, tmp_path / "new", labels=names, multi_label=True).folder
    config = {**json.loads((folder / "config.json").read_bytes()), **change}
    (folder / "config.json").write_text(receipt.canonical_json(config))
    content = receipt.unseal((folder / receipt.FILE_NAME).read_text())
    content["files"]["config.json"] = file_sha256(folder / "config.json")
    (folder / receipt.FILE_NAME).write_text(receipt.seal(content))
    with pytest.raises(FolderError, match=message):
        dc.verify(folder)


@pytest.mark.parametrize(("labels", "multi_label"), [("imagenet1k", False), (None, True)])
def test_transformers_reads_them(labels: str | None, multi_label: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    source = save(in_2017_names(state_dict_of(WHOLE)), tmp_path / "old.pth")
    folder = dc.convert(source, tmp_path / "new", labels=labels, multi_label=multi_label).folder
    classify = transformers.pipeline("image-classification", model=str(folder), device="cpu")
    found = classify(Image.new("RGB", (300, 260), "teal"), top_k=1000)
    assert len(found) == 1000
    if labels:
        assert classify.model.config.id2label == dict(enumerate(IMAGENET))
    # A softmax sums to 1, a thousand sigmoids to far more.
    assert (sum(one["score"] for one in found) > 1.1) is multi_label


def test_the_command_passes_them_on(
    source: Path, names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def convert(_: str, **options: Any) -> Any:
        given.update(options)
        return dc.convert(source, options["output"])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("densenet_convert.api.convert.convert_torchvision", convert)
    options = ["--arch", "121", "--weights", "random", "--labels", str(names), "--multi-label"]
    assert CliRunner().invoke(main, ["torchvision", *options]).exit_code == 0
    assert (given["labels"], given["multi_label"]) == (str(names), True)
