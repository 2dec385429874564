"""--report, --images and --golden: what the command makes, prints and refuses beside the proof."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from torchvision.transforms.functional import to_pil_image

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import FolderError, ImageError, ParityError, ReportError
from densenet_convert.folder.files import CARD, GOLDEN
from densenet_convert.proof import verification
from densenet_convert.proof.preprocessing import _image
from densenet_convert.proof.report import diagnosis
from densenet_convert.results import Measured

LAYER = "features.denseblock2.denselayer3.norm2"


@pytest.fixture(autouse=True)
def in_the_folder_of_the_source(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    to_pil_image(_image(97, 150)).save(folder / "one.png")
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def faulty_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = verification.compare_bytes

    def with_a_fault(renamed: Any, model: DenseNet, tally: Any) -> None:
        sound(renamed, model, tally)
        model.get_submodule(LAYER).eps = 1e-3

    monkeypatch.setattr(verification, "compare_bytes", with_a_fault)


def test_everything_that_was_asked_for_is_in_the_receipt_and_in_the_summary(
    source: Path, images: Path
) -> None:
    dc.convert(source, "new", golden=True, images=images, report="convert.html")
    verification = json.loads(Path("new/conversion.json").read_bytes())["verification"]
    assert verification["images"] == {"agreed": 1, "images": 1, "largest": 0.0}
    assert verification["golden"]["share_of_bound"] < 0.25
    assert [one["setting"] for one in verification["measured"]][:2] == ["float32", "bfloat16"]
    result = run("verify", "new", "--images", str(images), "--report", "verify.html", "-v")
    assert result.exit_code == 0
    assert "images      1: the same class for 1, largest difference of a logit 0\n" in result.stdout
    assert "golden      every layer within its bound" in result.stdout
    assert f", {GOLDEN}, {CARD}, conversion.json\n" in result.stdout
    assert "  precision   rounding errors are within their bounds in float32, bfloat16, " in result.stdout
    assert "    bfloat16 * " in result.stdout
    for page in ("convert.html", "verify.html"):
        text = Path(page).read_text()
        assert "✓ Proven" in text
        assert "the same class for 1" in text
        assert 'src="data:image/jpeg;base64,' in text
        assert "one.png" in text


def test_json_has_the_same_and_what_was_not_asked_for_is_not_there(source: Path, images: Path) -> None:
    dc.convert(source, "new", golden=True, images=images)
    document = json.loads(run("verify", "new", "--json").stdout)["verification"]
    assert "images" not in document
    assert "measured" not in document
    assert document["golden"]["share_of_bound"] < 0.25
    assert set(document["files"]) == {GOLDEN, CARD}


def test_a_failed_proof_has_a_report_that_marks_the_first_layer(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_proof(monkeypatch)
    with pytest.raises(ParityError):
        dc.convert(source, "new", report="page.html")
    text = Path("page.html").read_text().replace("<wbr>", "")
    assert "✗ Failed" in text
    assert f"The first that differs is {LAYER}, layer" in text
    assert ">cpu, float32<" in text
    assert not Path("new").exists()


def test_a_report_that_cannot_be_written_in_the_end_does_not_hide_that_the_proof_failed(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faulty_proof(monkeypatch)

    def fail(*_: object, **__: object) -> None:
        raise ReportError("The disk is full.")

    monkeypatch.setattr("densenet_convert.proof.report.make.write_report", fail)
    with pytest.raises(ParityError, match=LAYER):
        dc.convert(source, "new", report="page.html")
    assert "The disk is full." in caplog.text


def test_an_error_beyond_its_bound_fails_and_is_in_the_report(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "measure", lambda *_: Measured("channels_last", 3.0, 1.0, 2.0, 9.0))
    with pytest.raises(ParityError, match="In the setting 'channels_last' the error of our logits .* is 3"):
        dc.convert(source, "new", report="page.html")
    assert "beyond its bound in channels_last" in Path("page.html").read_text()
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (".", "is a folder, or not in one"),
        ("missing/page.html", "is a folder, or not in one"),
        ("new/page.html", "is a folder, or not in one"),
        ("source.pth", "exists and is no report: it is left alone"),
        ("pipe", "exists and is no report"),
        ("loop", "loop"),
        ("x" * 300, "too long"),
    ],
)
def test_a_place_where_no_report_can_be_written_is_refused_before_the_work(
    source: Path, report: str, message: str
) -> None:
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    before = source.read_bytes()
    with pytest.raises(ReportError, match=message):
        dc.convert(source, "new", report=report)
    assert not Path("new").exists()
    assert source.read_bytes() == before


def test_a_report_replaces_an_earlier_one(source: Path) -> None:
    for _ in range(2):
        dc.convert(source, "new", report="page.html", force=True)
    assert Path("page.html").read_text().count("<h1>") == 1


@pytest.mark.usefixtures("source")
def test_a_folder_without_images_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densenet_convert.api.convert.open_chosen", None)
    with pytest.raises(ImageError, match="is no folder"):
        dc.convert("source.pth", "new", images="missing")


def test_a_report_is_not_put_among_the_files_that_the_receipt_counts(source: Path) -> None:
    dc.convert(source, "new")
    with pytest.raises(ReportError, match="in the folder new, whose files are counted"):
        dc.verify("new", report="new/page.html")
    assert dc.verify("new")


def test_a_folder_with_golden_outputs_is_replaced_by_one_without(source: Path) -> None:
    dc.convert(source, "new", golden=True)
    dc.convert(source, "new", force=True)
    assert not Path("new", GOLDEN).exists()
    Path("new", GOLDEN).write_bytes(b"")
    with pytest.raises(FolderError, match=f"{GOLDEN} was added"):
        dc.verify("new")


def test_golden_outputs_are_the_same_bytes_on_every_run(source: Path) -> None:
    for folder in ("one", "two"):
        dc.convert(source, folder, golden=True)
    assert Path("one", GOLDEN).read_bytes() == Path("two", GOLDEN).read_bytes()
    assert Path("one", "conversion.json").read_bytes() == Path("two", "conversion.json").read_bytes()


def test_the_command_takes_a_report_for_one_architecture_only() -> None:
    result = run("torchvision", "--arch", "all", "--weights", "random", "--report", "page.html")
    assert result.exit_code == 2
    assert "--report goes with one architecture." in result.stderr


def test_the_command_passes_its_options_on(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def convert(_: str, **options: Any) -> Any:
        given.update(options)
        return dc.convert(source, options["output"])

    monkeypatch.setattr("densenet_convert.api.convert.convert_torchvision", convert)
    options = ["--golden", "--images", "pictures", "--report", "page.html"]
    assert run("torchvision", "--arch", "121", "--weights", "random", *options).exit_code == 0
    assert (given["golden"], given["images"], given["report"]) == (True, Path("pictures"), Path("page.html"))
