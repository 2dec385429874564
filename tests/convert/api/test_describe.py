"""A folder that is described later is what a conversion with the same options would have been."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from schemas import validate

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import ClaimError, FolderError, LabelError
from densenet_convert.folder import replace


@pytest.fixture
def folder(converted_with_golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted_with_golden, tmp_path / "out"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_converting_with_options_and_describing_with_them_later_give_the_same_bytes(
    folder: Path, converted_with_golden: Path, tmp_path: Path
) -> None:
    (tmp_path / "limits.md").write_text("Not for patients.")
    options: dict[str, Any] = {
        "labels": list("abcde"),
        "multi_label": True,
        "mean": 0.5,
        "input_size": "320x256",
        "license": "MIT",
        "datasets": ["user/data"],
        "metrics": ["auc=0.9"],
        "card_sections": [tmp_path / "limits.md"],
    }
    source = converted_with_golden.parent / "source.pth"
    converted = dc.convert(source, tmp_path / "other", golden=True, device="cpu", **options)
    described = dc.describe(folder, **options)
    assert contents(folder) == contents(converted.folder)
    assert described.receipt == converted.receipt
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []
    assert dc.verify(folder, source=source, device="cpu")


def test_what_is_described_again_keeps_what_was_said_before(folder: Path) -> None:
    dc.describe(folder, license="mit", mean=0.5, labels=list("abcde"))
    dc.describe(folder, std=0.25)
    content = json.loads((folder / "config.json").read_text())
    assert content["label_names"] == list("abcde")
    assert (content["pretrained_cfg"]["mean"], content["pretrained_cfg"]["std"]) == ([0.5] * 3, [0.25] * 3)
    assert "license: mit" in (folder / "README.md").read_text()
    before = contents(folder)
    dc.describe(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("exchanged", [True, False])
def test_other_files_and_weights_are_carried_over_untouched(
    folder: Path, exchanged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanged:
        monkeypatch.setattr(replace, "_exchange", lambda *_: False)
    (folder / "chest.pth").write_bytes(b"a pickle")
    (folder / "images").mkdir()
    (folder / "images" / "one.png").write_bytes(b"png")
    kept = {name: (folder / name).stat() for name in ("chest.pth", "images/one.png", "model.safetensors")}
    dc.describe(folder, mean=0.5)
    for name, before in kept.items():
        after = (folder / name).stat()
        assert (after.st_mtime_ns, after.st_size, after.st_mode) == (
            before.st_mtime_ns,
            before.st_size,
            before.st_mode,
        )
    assert (folder / "images" / "one.png").read_bytes() == b"png"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["out"]
    assert dc.verify(folder, device="cpu")


def test_a_card_that_its_owner_edited_stays(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "README.md").write_text("# Mine\n")
    dc.describe(folder, license="mit", mean=0.5)
    assert (folder / "README.md").read_text() == "# Mine\n"
    assert "README.md was edited: it is left as it is." in caplog.text
    assert "Write `license: mit` into its front matter." in caplog.text
    assert dc.verify(folder, device="cpu")


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"labels": list("abc")}, LabelError), ({"labels": "checkpoint"}, LabelError), ({"std": 0}, ClaimError)],
)
def test_what_is_refused_changes_nothing(
    folder: Path, options: dict[str, Any], kind: type[Exception]
) -> None:
    before = contents(folder)
    with pytest.raises(kind):
        dc.describe(folder, **options)
    assert contents(folder) == before


def test_a_folder_that_disagrees_with_its_receipt_is_not_described(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(FolderError, match="config.json was changed"):
        dc.describe(folder, mean=0.5)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links")
def test_links_as_the_hub_s_cache_has_them_are_not_replaced(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "blob")
    (folder / "model.safetensors").symlink_to(folder.parent / "blob")
    with pytest.raises(FolderError, match=r"holds links .*: model.safetensors. Copy the folder"):
        dc.describe(folder, mean=0.5)


def test_an_interruption_leaves_the_old_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = contents(folder)
    monkeypatch.setattr("densenet_convert.folder.rewrite.put_in_place", stop)
    with pytest.raises(KeyboardInterrupt):
        dc.describe(folder, mean=0.5)
    assert contents(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["out"]


def test_the_command_prints_what_is_said_now(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    done = CliRunner().invoke(main, ["describe", str(folder), "--mean", "0.5", "--crop-pct", "1", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    validate(document, "conversion")
    assert (document["status"], document["preprocessing"]["crop_pct"]) == ("described", 1.0)
    said = CliRunner().invoke(main, ["describe", str(folder)]).stdout
    assert "crop_pct 1, mean 0.5,0.5,0.5: stated by whoever converted it" in said
    assert "input_size, interpolation, std: assumed, as torchvision" in said
    assert CliRunner().invoke(main, ["describe", str(folder / "none")]).exit_code == 1
