"""What lies beside a checkpoint is taken, once it was checked; it is a stranger's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL, save, state_dict_of

import densenet_convert as dc
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import FolderError
from densenet_convert.source.beside import MOST_BYTES, read_beside

NAMES = ["apple", "bread", "cheese", "dates", "eggs"]
PREPROCESSING = {
    "input_size": [3, 256, 256],
    "test_input_size": [3, 288, 288],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
}
TIMM = {"architecture": "densenet121", "label_names": NAMES, "pretrained_cfg": {**PREPROCESSING, "tag": "x"}}
TRANSFORMERS = {
    "architectures": ["DenseNetForImageClassification"],
    "id2label": {str(i): name for i, name in enumerate(NAMES)},
}
CARD = "---\nlicense: apache-2.0\n---\n# A network\n"


def beside(folder: Path, content: Any = None, card: str | None = None) -> Path:
    if content is not None:
        (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder / "model.pth"


def test_timm_s_config_gives_labels_and_preprocessing(tmp_path: Path) -> None:
    found = read_beside(beside(tmp_path, TIMM), SMALL)
    assert found.names == tuple(NAMES)
    assert found.preprocessing == PREPROCESSING
    assert found.files == {"config.json": hashlib.sha256((tmp_path / "config.json").read_bytes()).hexdigest()}
    assert found.remarks == ()


def test_an_older_one_of_timm_has_the_fields_at_its_top(tmp_path: Path) -> None:
    found = read_beside(beside(tmp_path, {"architecture": "densenet121", **PREPROCESSING}), SMALL)
    assert found.preprocessing == PREPROCESSING


def test_transformers_config_gives_labels(tmp_path: Path) -> None:
    assert read_beside(beside(tmp_path, TRANSFORMERS), SMALL).names == tuple(NAMES)


def test_labels_that_nobody_gave_are_none(tmp_path: Path) -> None:
    unnamed = {"architectures": ["DenseNet"], "id2label": {str(i): f"LABEL_{i}" for i in range(5)}}
    assert read_beside(beside(tmp_path, unnamed), SMALL).names is None


def test_a_model_card_gives_its_license(tmp_path: Path) -> None:
    found = read_beside(beside(tmp_path, card=CARD), SMALL)
    assert found.card == {"license": "apache-2.0"}
    assert list(found.files) == ["README.md"]


def test_nothing_beside_is_nothing(tmp_path: Path) -> None:
    found = read_beside(beside(tmp_path), SMALL)
    assert (found.names, found.preprocessing, found.card, found.files, found.remarks) == (
        *(None, {}, {}, {}),
        (),
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it holds no JSON"),
        ("[" * 100_000, "it holds no JSON"),
        ('{"a": 1}' + " " * MOST_BYTES, "it is larger than 1,048,576 bytes"),
        ([1], "it tells of no DenseNet"),
        ({"architecture": "resnet50", "label_names": NAMES}, "it tells of no DenseNet"),
        ({"lr": 0.1}, "it tells of no DenseNet"),
        (
            {**TIMM, "label_names": NAMES[:4], "pretrained_cfg": {}},
            "it names 4 classes, and the network has 5",
        ),
        ({"architecture": "densenet121", "mean": [0.1, 0.2]}, r"mean in config.json .* was not read"),
        ({"architecture": "densenet121", "std": [0.0, 1, 1]}, r"std in config.json .* was not read"),
        ({"architecture": "densenet121", "mean": [float("nan")] * 3}, r"mean in config.json .* was not read"),
        ({"architecture": "densenet121", "crop_pct": 10**400}, r"crop_pct in config.json .* was not read"),
        ({"architecture": "densenet121", "input_size": [1, 2, 3]}, r"input_size in config.json .* not read"),
        (
            {"architecture": "densenet121", "interpolation": ["x"]},
            r"interpolation in config.json .* not read",
        ),
        ({"architecture": "densenet121", "crop_mode": "squash"}, r"crop_mode in config.json .* not read"),
    ],
)
def test_what_is_not_read_is_said_with_its_reason(content: Any, why: str, tmp_path: Path) -> None:
    found = read_beside(beside(tmp_path, content), SMALL)
    assert (found.names, found.preprocessing, found.files) == (None, {}, {})
    (remark,) = found.remarks
    assert remark.kind == "not-read"
    assert pytest.importorskip("re").search(why, remark.text)
    assert "not read" in remark.text
    assert "config.json" in remark.text


@pytest.mark.parametrize("labels", [[1] * 5, ["\x1b[31m"] * 5, ["x" * 1001] * 5, {}, [""] * 5, "apple"])
def test_labels_that_are_no_names_are_not_taken(labels: Any, tmp_path: Path) -> None:
    assert (
        read_beside(beside(tmp_path, {"architecture": "densenet121", "label_names": labels}), SMALL).names
        is None
    )


@pytest.mark.parametrize(
    "card",
    [
        "# No front matter",
        "---\nlicense: [\n---\n",
        "---\nlicense: {a: b}\n---\n",
        "---\nlicense: 'A B'\n---\n",
    ],
)
def test_a_card_without_a_sound_license_gives_none(card: str, tmp_path: Path) -> None:
    found = read_beside(beside(tmp_path, card=card), SMALL)
    assert (found.card, found.files) == ({}, {})


def test_a_conversion_takes_it_over_and_says_so_unless_it_is_to_be_ignored(tmp_path: Path) -> None:
    source = save(state_dict_of(), beside(tmp_path, TIMM, CARD))
    written = dc.convert(source, tmp_path / "new", device="cpu")
    content = json.loads((written.folder / "config.json").read_text())
    assert content["label_names"] == NAMES
    assert content["pretrained_cfg"].items() >= PREPROCESSING.items()
    assert "license: apache-2.0" in (written.folder / "README.md").read_text()
    assert written.receipt["labels"]["origin"] == "beside"
    assert set(written.receipt["beside"]) == {"config.json", "README.md"}
    assert dc.verify(written.folder, source=source, device="cpu")
    (tmp_path / "config.json").unlink()
    assert dc.verify(written.folder, source=source, device="cpu")

    ignored = dc.convert(source, tmp_path / "ignored", ignore_config=True, device="cpu")
    content = json.loads((ignored.folder / "config.json").read_text())
    assert "label_names" not in content
    assert content["pretrained_cfg"]["interpolation"] == "bilinear"
    assert ignored.receipt["beside"] == {}


def test_what_the_user_says_goes_before_it(tmp_path: Path) -> None:
    source = save(state_dict_of(), beside(tmp_path, TIMM, CARD))
    names = tmp_path / "names.txt"
    names.write_text("\n".join("vwxyz"))
    written = dc.convert(source, tmp_path / "new", labels=names, license="mit", device="cpu")
    assert json.loads((written.folder / "config.json").read_text())["label_names"] == list("vwxyz")
    assert "license: mit" in (written.folder / "README.md").read_text()


def test_beside_a_folder_of_ours_it_is_the_receipt_s_to_tell(converted: Path) -> None:
    assert read_beside(converted / "model.safetensors", SMALL).files == {}


def test_of_several_sources_one_that_was_converted_is_skipped_while_nothing_beside_it_changes(
    tmp_path: Path,
) -> None:
    source = save(state_dict_of(), beside(tmp_path, TIMM))

    def status() -> list[str]:
        return [one.status for one in dc.convert_many([source], tmp_path / "many", device="cpu")]

    assert status() == ["converted"]
    assert status() == ["skipped"]
    beside(tmp_path, {**TIMM, "label_names": NAMES[::-1]})
    assert status() == ["failed"]


def test_what_our_own_save_pretrained_wrote_is_the_network_that_its_config_tells(tmp_path: Path) -> None:
    config = replace(SMALL, norm_eps=1e-3, final_relu=False)
    DenseNet(config).save_pretrained(tmp_path / "saved")
    written = dc.convert(tmp_path / "saved" / "model.safetensors", tmp_path / "new", device="cpu")
    assert DenseNet.from_pretrained(written.folder).config == config


def test_settings_there_that_no_network_has_are_refused_unless_they_are_to_be_ignored(tmp_path: Path) -> None:
    DenseNet(SMALL).save_pretrained(tmp_path / "saved")
    config = tmp_path / "saved" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "norm_eps": "tiny"}))
    weights = tmp_path / "saved" / "model.safetensors"
    with pytest.raises(FolderError, match=r"function that no DenseNet has: .* with `ignore_config=True`"):
        dc.convert(weights, tmp_path / "new", device="cpu")
    assert dc.convert(weights, tmp_path / "new", ignore_config=True, device="cpu")
