"""The metadata of a MONAI bundle beside its weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL, in_names_of, save, state_dict_of

import densenet_convert as dc
from densenet_convert.claims import Beside
from densenet_convert.densenet import DenseNet
from densenet_convert.source.beside import preprocessing_beside, read_beside

CONFIG = replace(SMALL, block_config=(1, 1), num_classes=2, in_channels=1, spatial_dims=1)
NAME = "configs/metadata.json"
SOUND: dict[str, Any] = {
    "inputs": {"image": {"type": "series", "num_channels": 1, "spatial_shape": [96]}},
    "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "benign", "1": "malignant"}}},
}


def bundle(root: Path, formats: Any = SOUND, **changed: Any) -> Path:
    """Returns the weights of a bundle, whose metadata are as the specification has them, or changed."""
    for folder in ("models", "configs"):
        (root / folder).mkdir(parents=True)
    content = {"version": "0.1.0", "network_data_format": formats, **changed}
    (root / NAME).write_text(json.dumps(content))
    return save(in_names_of("monai", state_dict_of(CONFIG)), root / "models" / "model.pt")


def with_field(which: str, **changed: Any) -> dict[str, Any]:
    """The sound formats, with fields of the input or the output changed."""
    (name, fields), *_ = SOUND[which].items()
    return {**SOUND, which: {name: {**fields, **changed}}}


def test_labels_and_size_are_taken_as_of_a_config_json(tmp_path: Path) -> None:
    source = bundle(tmp_path / "bundle")
    written = dc.convert(source, tmp_path / "new", device="cpu")
    digest = hashlib.sha256((tmp_path / "bundle" / NAME).read_bytes()).hexdigest()
    receipt, content = written.receipt, json.loads((written.folder / "config.json").read_bytes())
    assert receipt["beside"] == {NAME: digest}
    assert receipt["labels"]["origin"] == "beside"
    assert receipt["preprocessing_origin"] == {"input_size": "beside"}
    assert (content["label_names"], content["input_size"]) == (["benign", "malignant"], [1, 96])
    assert f"| input_size | 1, 96 | {NAME} beside the source |" in (written.folder / "README.md").read_text()
    assert dc.convert(source, tmp_path / "new", device="cpu").receipt == receipt
    assert dc.verify(written.folder, source=source, device="cpu").claims.labels.names == (
        "benign",
        "malignant",
    )
    DenseNet.from_pretrained(written.folder).save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_bytes()) == content
    alone = dc.convert(source, tmp_path / "alone", device="cpu", ignore_config=True)
    assert (alone.receipt["beside"], alone.receipt["preprocessing"]) == ({}, {})


def test_a_bundle_of_images_tells_the_size_of_images(tmp_path: Path) -> None:
    sides = with_field("inputs", spatial_shape=[128, 96])
    found = preprocessing_beside(bundle(tmp_path, sides), replace(CONFIG, spatial_dims=2))
    assert found == {"input_size": [1, 128, 96]}


def test_a_config_json_goes_before_the_bundle(tmp_path: Path) -> None:
    source = bundle(tmp_path)
    said = {"architecture": "densenet121", "label_names": ["a", "b"], "input_size": [1, 32]}
    (source.parent / "config.json").write_text(json.dumps(said))
    found = read_beside(source, CONFIG)
    assert (found.names, found.preprocessing) == (("a", "b"), {"input_size": [1, 32]})


@pytest.mark.parametrize(
    ("formats", "names", "size", "remark"),
    [
        (with_field("inputs", num_channels=4), True, False, "are of 4 channels, and the network takes 1"),
        (with_field("inputs", spatial_shape=[96, 96, 96]), True, False, "have 3 sides, and the network's 1"),
        (with_field("outputs", num_channels=3), False, True, "are of 3 outputs, and the network has 2"),
        (
            with_field("outputs", channel_def={"0": "a"}),
            False,
            True,
            "are of 1 outputs, and the network has 2",
        ),
    ],
)
def test_what_contradicts_the_weights_is_not_read_and_is_said(
    formats: Any, names: bool, size: bool, remark: str, tmp_path: Path
) -> None:
    found = read_beside(bundle(tmp_path, formats), CONFIG)
    assert (found.names is not None, bool(found.preprocessing)) == (names, size)
    (said,) = found.remarks
    assert said.kind == "not-read"
    assert said.text.endswith(f"in {NAME} were not read: they {remark}.")


@pytest.mark.parametrize(
    "formats",
    [
        None,
        [],
        {"inputs": [], "outputs": 3},
        {"inputs": {"a": {}, "b": {}}, "outputs": {}},
        with_field("inputs", spatial_shape=["16*n"]),
        with_field("inputs", spatial_shape=[0]),
    ],
)
def test_what_tells_no_size_is_passed_over(formats: Any, tmp_path: Path) -> None:
    found = read_beside(bundle(tmp_path, formats), CONFIG)
    assert (found.preprocessing, found.remarks) == ({}, ())


@pytest.mark.parametrize(
    "named", [{"0": "a", "2": "b"}, {"0": "a", "1": "\n"}, {"0": 1, "1": 2}, ["a", "b"], {}]
)
def test_what_names_no_classes_is_passed_over(named: Any, tmp_path: Path) -> None:
    assert read_beside(bundle(tmp_path, with_field("outputs", channel_def=named)), CONFIG).names is None


def test_an_input_and_an_output_of_another_name_are_taken_if_they_are_alone(tmp_path: Path) -> None:
    formats = {"inputs": {"ecg": SOUND["inputs"]["image"]}, "outputs": {"y": SOUND["outputs"]["pred"]}}
    found = read_beside(bundle(tmp_path, formats), CONFIG)
    assert (found.names, found.preprocessing) == (("benign", "malignant"), {"input_size": [1, 96]})


def test_what_is_no_json_or_no_bundle_s_is_not_read(tmp_path: Path) -> None:
    source = bundle(tmp_path / "a")
    (tmp_path / "a" / NAME).write_text("{")
    (said,) = read_beside(source, CONFIG).remarks
    assert said.text == f"{NAME} beside the source was not read: it holds no JSON."
    (tmp_path / "a" / "models").rename(tmp_path / "a" / "weights")
    assert read_beside(tmp_path / "a" / "weights" / "model.pt", CONFIG) == Beside()
