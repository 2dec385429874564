"""Licenses are those of the Hub's list, and what else a card says has its proper form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import densenet_convert as dc
from densenet_convert.errors import ClaimError
from densenet_convert.folder.card_fields import license_identifier, license_identifiers, stated_card
from densenet_convert.records import Options


def test_the_hub_s_list_is_shipped() -> None:
    assert len(license_identifiers()) == 83
    assert {"mit", "apache-2.0", "other", "unknown", "bsd-3-clause"} < set(license_identifiers())


@pytest.mark.parametrize(("asked", "found"), [("MIT", "mit"), (" BSD-3-Clause ", "bsd-3-clause")])
def test_a_license_is_found_whatever_its_letters(asked: str, found: str) -> None:
    assert license_identifier(asked) == found


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("apache2", "Did you mean apache-2.0"),
        ("GPL-3.0-only", "Did you mean gpl-3.0"),
        ("xyzzy", "`license='other'"),
    ],
)
def test_a_license_that_the_hub_does_not_know_is_refused_before_anything_is_written(
    asked: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ClaimError, match=message):
        dc.convert(tmp_path / "missing.pth", tmp_path / "new", license=asked)


def test_another_license_has_a_name_and_an_address() -> None:
    options = Options(license="other", license_name="ours", license_link="LICENSE")
    assert stated_card(options) == {"license": "other", "license_name": "ours", "license_link": "LICENSE"}
    for license_text in (None, "mit"):
        with pytest.raises(ClaimError, match="go with `license='other'`"):
            stated_card(Options(license=license_text, license_name="ours"))


def test_a_metric_says_on_which_data_it_was_measured() -> None:
    one = {"type": "accuracy", "value": 0.91, "dataset": "user/data"}
    assert stated_card(Options(metrics=["accuracy=0.91@user/data"]))["metrics"] == [one]
    assert stated_card(Options(metrics=["accuracy=0.91"], datasets=["user/data"]))["metrics"] == [one]
    with pytest.raises(ClaimError, match="does not say on which data"):
        stated_card(Options(metrics=["accuracy=0.91"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["accuracy"]}, "expected NAME=NUMBER"),
        ({"metrics": ["accuracy=high@x"]}, "expected NAME=NUMBER"),
        ({"metrics": ["accuracy=nan@x"]}, "expected NAME=NUMBER"),
        ({"datasets": ["a\nb"]}, "dataset is .* expected a line of text"),
        ({"base_model": ""}, "base_model is"),
        ({"card_sections": ["missing.md"]}, "missing.md can't be read: No such file"),
    ],
)
def test_what_has_another_form_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        stated_card(Options(**options))


def test_a_section_has_its_own_heading_or_its_file_s_name(tmp_path: Path) -> None:
    (tmp_path / "intended-use.md").write_text("For research.\n")
    (tmp_path / "x.md").write_text("# Limits\r\n\r\nNot for patients.\r\n")
    (tmp_path / "empty.md").write_text(" ")
    found = stated_card(Options(card_sections=[tmp_path / "intended-use.md", tmp_path / "x.md"]))
    assert found["sections"] == ["## Intended use\n\nFor research.", "## Limits\n\nNot for patients."]
    with pytest.raises(ClaimError, match="expected text of 1 to"):
        stated_card(Options(card_sections=[tmp_path / "empty.md"]))


def test_what_a_card_beside_the_source_says_is_taken_over(source: Path) -> None:
    (source.parent / "README.md").write_text(
        "---\nlicense: other\nlicense_name: ours\ndatasets: [user/data]\nbase_model: user/base\n"
        "model-index:\n- name: x\n  results:\n  - task: {type: image-classification}\n"
        "    dataset: {type: user/data, name: Data}\n    metrics:\n    - {type: auc, value: 0.8}\n---\n# x\n"
    )
    written = dc.convert(source, source.parent / "new", datasets=["other/data"], device="cpu")
    assert written.receipt["card"] == {
        "license": "other",
        "license_name": "ours",
        "datasets": ["other/data"],
        "base_model": "user/base",
        "metrics": [{"type": "auc", "value": 0.8, "dataset": "user/data"}],
    }


def test_a_license_beside_the_source_that_is_none_is_said_not_to_be_read(source: Path) -> None:
    (source.parent / "README.md").write_text("---\nlicense: mine\n---\n")
    written = dc.convert(source, source.parent / "new", device="cpu")
    assert "license" not in written.receipt["card"]
    assert "was not read: it is 'mine'" in written.receipt["remarks"][0]["text"]
