"""Classes are named where their names are known, and by nobody's guess."""

from __future__ import annotations

import json
from argparse import Namespace
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
        LabelError,
        match=r"missing can't be read: No such file .* Name imagenet1k, checkpoint, or a file",
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", '["a", "b", "c", "d", "e"]'),
        ("x.json", '{"1": "b", "0": "a", "2": "c", "4": "e", "3": "d"}'),
        ("x.json", '{"b": 1, "a": 0, "c": 2, "e": 4, "d": 3}'),
        ("x.csv", "name\na\nb\nc\nd\ne\n"),
        ("x.CSV", "id,Label\r\n0,a\r\n1,b\r\n2,c\r\n3,d\r\n4,e\r\n"),
        ("x.csv", 'index;name\n5;e\n1;a\n3;"c"\n2;b\n4;d\n'),
        ("x.csv", "label,name\n0,a\n1,b\n4,e\n3,d\n2,c\n"),
        ("x.tsv", "name\tcount\na\t1\nb\t1\nc\t3\nd\t4\ne\t9\n"),
    ],
)
def test_names_are_read_from_json_and_tables(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found = choose_labels(ORIGIN_FILE, SMALL, asked=tmp_path / name)
    assert found == Labels(tuple("abcde"), "file")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "[", "holds no JSON"),
        ("x.json", '"a"', "holds neither a list of names nor an object"),
        ("x.json", '{"0": "a", "2": "b"}', "holds neither a list"),
        ("x.json", '["a", 1, "c", "d", "e"]', "has 1 as name 2, expected text"),
        ("x.json", '["a"]', "has 1 names, expected 5"),
        ("x.csv", "class,count\na,1\n", "has no column name or label, but class, count"),
        ("x.csv", "", "has no column name or label"),
        ("x.csv", "id,name\n0,a\n0,b\n1,c\n2,d\n3,e\n", "in the column id with gaps or twice"),
        ("x.csv", "id,name\n0\n", "lines of other than 2 cells"),
    ],
)
def test_json_and_tables_of_another_form_are_refused(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError, match=message):
        choose_labels(ORIGIN_FILE, SMALL, asked=tmp_path / name)


def test_names_are_given_in_a_list() -> None:
    assert choose_labels(ORIGIN_FILE, SMALL, asked=list("abcde")) == Labels(tuple("abcde"), "list")
    with pytest.raises(LabelError, match="The list has 2 names, expected 5"):
        choose_labels(ORIGIN_FILE, SMALL, asked=["a", "b"])


HELD: dict[str, dict[str, Any]] = {
    "classes": {"classes": list("abcde")},
    "class_to_idx": {"class_to_idx": {"b": 1, "a": 0, "c": 2, "e": 4, "d": 3}},
    "hyper_parameters.class_names": {"hyper_parameters": {"class_names": tuple("abcde"), "lr": 0.1}},
    "hyper_parameters.label_names": {"hyper_parameters": Namespace(label_names=list("abcde"))},
    "meta.CLASSES": {"meta": {"CLASSES": list("abcde")}},
}


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("where", HELD)
def test_names_that_the_checkpoint_holds_are_shown_and_taken(
    where: str, legacy: bool, tmp_path: Path
) -> None:
    content = {"state_dict": state_dict_of(), **HELD[where]}
    source = save(content, tmp_path / "held.ckpt", legacy=legacy)
    assert dc.inspect(source).labels == {where: tuple("abcde")}
    said = CliRunner().invoke(main, ["inspect", str(source)]).stdout
    assert f"labels      5 in {where}: a, b, c and 2 more" in said
    if where == "classes":
        written = dc.convert(source, tmp_path / "new", labels="checkpoint", device="cpu")
        assert written.receipt["labels"]["origin"] == "checkpoint"
        assert json.loads((written.folder / "config.json").read_text())["label_names"] == list("abcde")


def test_names_in_the_checkpoint_that_differ_or_are_missing_are_refused() -> None:
    for held, message in (
        ({}, "holds no names of classes"),
        ({"a": ("x",), "b": ("y",)}, "that differ, under a, b"),
    ):
        with pytest.raises(LabelError, match=message):
            choose_labels(ORIGIN_FILE, SMALL, asked="checkpoint", held=held)


@pytest.mark.parametrize(
    "value", [3, [1, 2], ["a", "\x1b"], {"a": 1}, {"a": 0, "b": 0}, [], {"a": 0.5}, "abc"]
)
def test_what_is_no_names_is_not_shown(value: Any, tmp_path: Path) -> None:
    source = save({"state_dict": state_dict_of(), "classes": value}, tmp_path / "held.ckpt")
    assert dc.inspect(source).labels == {}
