"""Doing the same again is no error: what is there, whole and as asked, is kept; all else is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL, state_dict_of

import densenet_convert as dc
from densenet_convert.api import already_done
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import FolderError
from densenet_convert.folder.receipt import seal, unseal


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def chest(converted: Path) -> Path:
    """A source, and in the working folder the conversion of it that is named after it."""
    shutil.copy(converted.with_name("source.pth"), "chest.pth")
    shutil.copytree(converted, "chest")
    return Path("chest.pth")


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def change(folder: Path, field: str, **values: object) -> None:
    """Writes something else into a receipt, as if it had been so."""
    path = folder / "conversion.json"
    receipt = unseal(path.read_text())
    path.write_text(seal({**receipt, field: {**receipt[field], **values}}))


def test_the_same_again_is_kept_and_is_called_skipped(chest: Path) -> None:
    before = files_of(Path("chest"))
    again = dc.convert(chest, device="cpu")
    assert (again.folder, again.skipped) == (Path("chest"), True)
    assert again.receipt["source"]["layout"] == "torchvision-dotted"
    assert files_of(Path("chest")) == before
    assert dc.convert(chest, force=True, device="cpu").skipped is False


def test_without_output_the_folder_is_named_as_the_command_names_it(chest: Path) -> None:
    assert dc.convert(chest.rename("chest.pth.tar"), device="cpu").folder == Path("chest")


@pytest.mark.parametrize("source", [DenseNet(SMALL), state_dict_of()])
def test_what_is_in_memory_has_no_name(source: Any) -> None:
    with pytest.raises(FolderError, match="has no name that its folder could have: state `output=...`"):
        dc.convert(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": 169}, "it has the architecture None, expected densenet169"),
        ({"license": "mit"}, "it has the license None, expected mit"),
        ({"mean": 0.5}, "it has the pre-processing"),
        ({"golden": True}, "it has golden outputs False, expected True"),
    ],
)
def test_what_was_asked_otherwise_is_refused_by_what_differs(
    chest: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FolderError, match=message):
        dc.convert(chest, device="cpu", **options)


def test_what_was_said_once_and_is_not_said_again_differs(chest: Path) -> None:
    dc.describe("chest", license="mit")
    with pytest.raises(FolderError, match="it has the license mit, expected None"):
        dc.convert(chest, device="cpu")
    assert dc.convert(chest, device="cpu", license="MIT").skipped


def test_what_is_not_whole_is_refused(chest: Path) -> None:
    Path("chest/config.json").unlink()
    with pytest.raises(FolderError, match=r"chest exists and is not whole\. .*config\.json is missing"):
        dc.convert(chest, device="cpu")


@pytest.mark.parametrize("option", ["images", "outputs", "report", "reference"])
def test_a_proof_that_is_asked_for_is_not_passed_over(
    chest: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("densenet_convert.proof.prove.ProofExtras.check", lambda *_: None)
    with pytest.raises(FolderError) as refused:
        dc.convert(chest, device="cpu", **{option: "my thing"})
    assert str(refused.value).splitlines()[1] == (
        f"dc.verify('chest', source='chest.pth', {option}='my thing', device='cpu')"
    )


def test_a_network_at_hand_is_held_against_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[Path, object]] = []
    monkeypatch.setattr(already_done, "verify", lambda folder, source, **_: held.append((folder, source)))
    network = DenseNet(SMALL)
    written = dc.convert(network.state_dict(), "own", device="cpu")
    with pytest.raises(FolderError, match="it has the owner's network None, expected memory"):
        dc.convert(network, "own", device="cpu")
    change(written.folder, "verification", own_network={"name": "memory", "output": None})
    assert dc.convert(network, "own", device="cpu").skipped
    assert held == [(Path("own"), network)]


def test_a_mapping_of_tensors_is_compared_by_its_values() -> None:
    assert not dc.convert(state_dict_of(), "own", device="cpu").skipped
    assert dc.convert(state_dict_of(), "own", device="cpu").skipped
    with pytest.raises(FolderError, match="of another source than what is in memory"):
        dc.convert(state_dict_of(seed=1), "own", device="cpu")


@pytest.mark.usefixtures("chest")
def test_torchvisions_weights_are_not_had_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(already_done, "ARCHITECTURES", {"densenet121": SMALL})
    monkeypatch.setattr(already_done, "size_of", {SMALL: "densenet121"}.get)
    monkeypatch.setattr(already_done, "weights_digits", lambda _: "0123456789abcdef")
    change(Path("chest"), "source", origin="random", seed=3)
    ask: dict[str, Any] = {"output": "chest", "device": "cpu"}
    assert dc.convert_torchvision(121, weights="random", seed=3, **ask).skipped
    with pytest.raises(FolderError, match="it has the seed 3, expected 0"):
        dc.convert_torchvision(121, weights="random", **ask)
    with pytest.raises(FolderError, match="it has weights random, expected IMAGENET1K_V1"):
        dc.convert_torchvision(121, labels=list("abcde"), **ask)
    with pytest.raises(FolderError, match=r"\ndc.verify\('chest', reference='m:f', device='cpu'\)$"):
        dc.convert_torchvision(121, weights="random", seed=3, reference="m:f", **ask)
    change(Path("chest"), "source", origin="IMAGENET1K_V1", seed=None)
    with pytest.raises(FolderError, match="a source with the digest .*, expected 0123456789abcdef"):
        dc.convert_torchvision(121, labels=list("abcde"), **ask)
