"""A folder is opened, and its proof repeated, only while every byte agrees with the receipt."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL, in_2017_names, save, state_dict_of
from safetensors.torch import load_file, save_file

import densenet_convert
from densenet_convert.errors import FolderError
from densenet_convert.folder import receipt
from densenet_convert.folder.files import file_sha256
from densenet_convert.folder.open import open_folder
from densenet_convert.folder.recover import recover_checkpoint


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "out"))


def edit_receipt(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Changes a receipt as someone would who knows how it is sealed."""
    path = folder / "conversion.json"
    content = receipt.unseal(path.read_text())
    edit(content)
    path.write_text(receipt.seal(content))


def test_the_proof_is_repeated_without_the_source(folder: Path) -> None:
    verified = densenet_convert.verify(folder, device="cpu")
    assert verified.loaded.config == SMALL
    assert verified.loaded.renamed.reading.layout.name == "torchvision-dotted"
    assert set(verified.proof.largest.values()) == {0.0}


def test_the_proof_is_repeated_against_the_source(folder: Path, converted: Path) -> None:
    assert densenet_convert.verify(folder, source=converted.parent / "source.pth", device="cpu")


def test_the_sources_tensors_are_rebuilt_under_its_names(folder: Path) -> None:
    rebuilt = recover_checkpoint(open_folder(folder)).tensors
    source = in_2017_names(state_dict_of())
    assert set(rebuilt) == set(source)
    assert all(torch.equal(rebuilt[name], source[name]) for name in source)


def test_another_source_is_refused(folder: Path, tmp_path: Path) -> None:
    other = save(in_2017_names(state_dict_of(seed=1)), tmp_path / "other.pth")
    with pytest.raises(FolderError, match=r"other\.pth is not the source of"):
        densenet_convert.verify(folder, source=other, device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "conversion.json"])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.5, 0.9999])
def test_a_changed_byte_is_refused_by_name(folder: Path, name: str, where: float) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(FolderError, match=name):
        densenet_convert.verify(folder, device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "conversion.json"])
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FolderError, match=f"{name} is missing"):
        densenet_convert.verify(folder, device="cpu")


def test_other_files_beside_ours_are_named_and_left_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "LICENSE").touch()
    (folder / "images").mkdir()
    assert densenet_convert.verify(folder, device="cpu")
    assert "LICENSE, images, pytorch_model.bin are not covered by conversion.json." in caplog.text
    assert densenet_convert.export(folder, "torchvision", folder.parent / "back.pth").path.exists()


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "adapter_config.json",
        "preprocessor_config.json",
    ],
)
def test_what_a_loader_would_take_instead_of_ours_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).touch()
    with pytest.raises(FolderError, match=f"holds {name}: other loaders would take that"):
        densenet_convert.verify(folder, device="cpu")


def test_what_the_hub_adds_is_no_added_file(folder: Path) -> None:
    (folder / ".gitattributes").touch()
    (folder / ".cache").mkdir()
    assert open_folder(folder)


@pytest.mark.parametrize(
    "edit", [lambda text: text + "\n", lambda text: text.replace("  ", "   ", 1), str.upper]
)
def test_a_receipt_whose_text_was_touched_is_refused(folder: Path, edit: Callable[[str], str]) -> None:
    path = folder / "conversion.json"
    path.write_text(edit(path.read_text()))
    with pytest.raises(FolderError, match=r"conversion\.json"):
        open_folder(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "{", '{"self_sha256": 1}', "[" * 100_000, "\ud800"])
def test_a_receipt_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "conversion.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(FolderError, match=r"conversion\.json"):
        open_folder(folder)


def test_a_receipt_of_a_later_version_says_so(folder: Path) -> None:
    edit_receipt(folder, lambda r: r.update(schema_version=4))
    with pytest.raises(FolderError, match=r"schema_version 4, expected 3 or less.*newer densenet-convert"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["tensors"][3].update(sha256="0" * 64), r"tensor \S+ has sha256"),
        (lambda r: r["tensors"][3].update(shape=[3]), r"tensor \S+ has shape"),
        (lambda r: r["tensors"].pop(3), r"tensor \S+ is not in the receipt"),
        (lambda r: r["config"].update(growth_rate=5), r"config\.json has growth_rate 4, expected 5"),
        (lambda r: r["files"].pop("config.json"), r"files are"),
        (lambda r: r.pop("tensors"), r"lacks a field"),
        (lambda r: r.update(tensors=None), r"lacks a field"),
        (lambda r: r["source"].update(layout="torchvision"), r"'source' the layout torchvision: No layout"),
        (lambda r: r["source"].pop("sha256"), r"lacks a field"),
        (lambda r: r["source"].update(origin="IMAGENET1K_V1"), "claims the origin IMAGENET1K_V1"),
        (lambda r: r["source"].update(origin="\x1b[31m"), "lacks a field"),
        (lambda r: r["source"].update(size="big"), "lacks a field"),
        (lambda r: r["source"].update(sha256="not a digest"), "lacks a field"),
        (lambda r: r["source"].update(seed=3), "lacks a field"),
        (lambda r: r["tensors"][3].update(source_name=5), "lacks a field"),
        (lambda r: r.update(schema_version=True), "schema_version True"),
        (lambda r: r.update(schema_version=0), "schema_version 0"),
        (lambda r: r["files"].update(other="0"), "files are"),
        (lambda r: r["dropped"].append({"source_name": "a", "because": "b"}), "'dropped'"),
        (lambda r: r["tensors"].reverse(), "'tensors'"),
        (lambda r: r["labels"].update(problem_type="nonsense"), "problem_type 'nonsense'"),
    ],
)
def test_a_receipt_sealed_anew_with_other_content_is_refused(
    folder: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_receipt(folder, edit)
    with pytest.raises(FolderError, match=message):
        densenet_convert.verify(folder, device="cpu")


def swap_tensors(folder: Path) -> None:
    """A wrong conversion whose receipt was made to fit it: only the source can tell."""
    a, b = (f"features.denseblock2.denselayer{i}.norm2.weight" for i in (1, 2))
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[a], tensors[b] = tensors[b], tensors[a]
    save_file(tensors, path, metadata={"format": "pt"})

    def edit(content: dict[str, Any]) -> None:
        entries = {entry["name"]: entry for entry in content["tensors"]}
        entries[a]["sha256"], entries[b]["sha256"] = entries[b]["sha256"], entries[a]["sha256"]
        content["files"]["model.safetensors"] = file_sha256(path)

    edit_receipt(folder, edit)


def test_exchanged_tensors_under_a_receipt_that_fits_them_are_refused_against_the_source(
    folder: Path, converted: Path
) -> None:
    swap_tensors(folder)
    with pytest.raises(FolderError, match=r"not what a conversion of its source gives.*norm2\.weight"):
        densenet_convert.verify(folder, source=converted.parent / "source.pth", device="cpu")


@pytest.mark.parametrize(
    "edit",
    [
        {"architecture": "densenet169"},
        {"num_features": 7},
        {"model_type": "densenet"},
        {"pretrained_cfg": {}},
    ],
)
def test_a_config_file_that_says_anything_else_is_refused(folder: Path, edit: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **edit}))
    edit_receipt(folder, lambda r: r["files"].update({"config.json": file_sha256(path)}))
    with pytest.raises(FolderError, match=rf"config\.json has {next(iter(edit))}"):
        open_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "conversion.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(FolderError, match=f"{name} is no regular file"):
        open_folder(folder)


def test_the_receipt_ends_with_its_own_digest_and_is_canonical(folder: Path) -> None:
    text = (folder / "conversion.json").read_text()
    content = json.loads(text)
    assert list(content)[-1] == "self_sha256"
    assert list(content)[:-1] == sorted(list(content)[:-1])
    assert receipt.seal(receipt.unseal(text)) == text


def test_the_receipt_accounts_for_every_tensor(folder: Path) -> None:
    content = open_folder(folder).receipt
    assert [entry["name"] for entry in content["tensors"]] == list(SMALL.tensor_shapes())
    sources = [entry["source_name"] for entry in content["tensors"] if entry["source_name"]]
    assert sorted(sources) == sorted(in_2017_names(state_dict_of()))


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="this is no folder"):
        densenet_convert.verify(tmp_path / "nowhere", device="cpu")


FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.mark.parametrize("source", [None, FIXTURES / "torchvision-dotted-legacy.pth"])
def test_a_folder_with_a_receipt_of_version_1_is_verified(source: Path | None) -> None:
    verified = densenet_convert.verify(FIXTURES / "receipt-1", source=source, device="cpu")
    assert set(verified.proof.largest.values()) == {0}


def test_a_folder_with_a_receipt_of_version_1_is_refused_when_touched(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "receipt-1", tmp_path / "old"))
    edit_receipt(folder, lambda r: r.update(schema_version=1, labels=None, dropped=[{}]))
    with pytest.raises(FolderError, match="lacks a field"):
        open_folder(folder)
    shutil.copy(FIXTURES / "receipt-1" / "conversion.json", folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(FolderError, match="model.safetensors was changed"):
        open_folder(folder)


def test_an_epsilon_that_the_source_did_not_tell_is_refused_however_the_folder_agrees(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "norm_eps": 1e-3}))
    digest = file_sha256(folder / "config.json")

    def edit(content: dict[str, Any]) -> None:
        content["config"]["norm_eps"] = 1e-3
        content["files"]["config.json"] = digest

    edit_receipt(folder, edit)
    open_folder(folder)
    with pytest.raises(FolderError, match="under 'config'"):
        densenet_convert.verify(folder, device="cpu")
