"""A folder is written whole or not at all, is the same on every run, and replaces nothing unasked."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from checkpoints import save, state_dict_of
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import densenet_convert
from densenet_convert.api import convert as conversion
from densenet_convert.errors import FolderError
from densenet_convert.folder import replace, write
from densenet_convert.folder.open import open_folder
from densenet_convert.folder.records import Verified
from densenet_convert.folder.staging import _system
from densenet_convert.records import Renamed

FILES = {"model.safetensors", "config.json", "conversion.json", "README.md"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_weights_are_the_sources_under_todays_names_with_one_metadata_key(
    source: Path, tmp_path: Path
) -> None:
    densenet_convert.convert(source, tmp_path / "out", device="cpu")
    written = load_file(tmp_path / "out" / "model.safetensors")
    # A file of 2017 has no counters; they are written as zero.
    expected = {n: t * 0 if n.endswith("tracked") else t for n, t in state_dict_of().items()}
    assert set(written) == set(expected)
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_two_runs_give_the_same_files(source: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        densenet_convert.convert(source, tmp_path / name, device="cpu")
    assert set(contents(tmp_path / "a")) == FILES
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_files_name_no_path_and_no_date(source: Path, tmp_path: Path) -> None:
    densenet_convert.convert(source, tmp_path / "out", device="cpu")
    for content in contents(tmp_path / "out").values():
        for secret in (str(tmp_path), str(Path.home()), time.strftime("%Y-%m-%d")):
            assert secret.encode() not in content


def test_tensors_that_share_memory_or_lie_out_of_order_are_written_as_they_are(tmp_path: Path) -> None:
    state = state_dict_of()
    whole = torch.stack([state["features.norm0.weight"], state["features.norm0.bias"]])
    state["features.norm0.weight"], state["features.norm0.bias"] = whole[0], whole[1]
    state["features.conv0.weight"] = state["features.conv0.weight"].transpose(2, 3)
    state["features.norm0.running_mean"] = state["features.norm0.bias"]
    expected = {name: tensor.clone() for name, tensor in state.items()}
    densenet_convert.convert(save(state, tmp_path / "tied.pth", legacy=False), tmp_path / "out", device="cpu")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written[name], expected[name]) for name in expected)


def test_parents_are_made_and_modes_are_those_of_other_new_files(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    densenet_convert.convert(source, folder, device="cpu")
    (tmp_path / "new").touch()
    mode = stat.S_IMODE((tmp_path / "new").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {mode}


def test_an_existing_folder_is_left_alone_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FolderError, match=r"out exists and is left alone.*`force=True`"):
        densenet_convert.convert(tmp_path / "nowhere.pth", tmp_path / "out", device="cpu")


def test_force_replaces_a_folder_of_ours(source: Path, tmp_path: Path) -> None:
    densenet_convert.convert(source, tmp_path / "out", device="cpu")
    other = save(state_dict_of(seed=1), tmp_path / "other.pth")
    densenet_convert.convert(other, tmp_path / "out", device="cpu", force=True)
    assert open_folder(tmp_path / "out").receipt["source"]["layout"] == "torchvision"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other.pth", "source.pth"}


def test_force_never_deletes_what_the_converter_did_not_write(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(FolderError, match=r"did not write, and `force=True` would delete it: thesis\.tex"):
        densenet_convert.convert(source, tmp_path / "out", device="cpu", force=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_force_never_replaces_files_of_our_names_that_others_wrote(source: Path, tmp_path: Path) -> None:
    """A folder from the Hub has a config.json and a model.safetensors, too."""
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(FolderError, match=r"did not write, and `force=True` would delete it: config\.json"):
        densenet_convert.convert(source, tmp_path / "bert", device="cpu", force=True)
    densenet_convert.convert(source, tmp_path / "out", device="cpu")
    (tmp_path / "out" / "README.md").write_text("the owner's words")
    with pytest.raises(FolderError, match=r"would delete it: README\.md"):
        densenet_convert.convert(source, tmp_path / "out", device="cpu", force=True)


def test_force_takes_an_empty_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    densenet_convert.convert(source, tmp_path / "out", device="cpu", force=True)
    assert open_folder(tmp_path / "out")


@pytest.mark.parametrize("force", [False, True])
def test_what_someone_puts_there_meanwhile_is_left_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    read_back = write.read_back

    def slowly(folder: Path) -> None:
        read_back(folder)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").write_text("years of work")

    monkeypatch.setattr(write, "read_back", slowly)
    with pytest.raises(FolderError, match="would delete it" if force else "exists and is left alone"):
        densenet_convert.convert(source, tmp_path / "out", device="cpu", force=force)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "source.pth"}


def test_force_does_not_replace_a_file(source: Path) -> None:
    with pytest.raises(FolderError, match="source.pth exists, and is no folder"):
        densenet_convert.convert(source, source, device="cpu", force=True)


def test_a_link_to_a_folder_stays_a_link_and_that_folder_is_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    densenet_convert.convert(source, tmp_path / "elsewhere" / "real", device="cpu")
    (tmp_path / "link").symlink_to("elsewhere/real")
    other = save(state_dict_of(), tmp_path / "other.pth")
    densenet_convert.convert(other, tmp_path / "link", device="cpu", force=True)
    assert (tmp_path / "link").readlink() == Path("elsewhere/real")
    assert open_folder(tmp_path / "elsewhere" / "real").receipt["source"]["layout"] == "torchvision"
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["real"]
    with pytest.raises(FolderError, match=r"link exists and is of another source"):
        densenet_convert.convert(source, tmp_path / "link", device="cpu")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("leads_to", ["nowhere", "link", "source.pth"])
def test_a_link_to_anything_but_a_folder_is_refused(
    source: Path, tmp_path: Path, leads_to: str, force: bool
) -> None:
    (tmp_path / "link").symlink_to(leads_to)
    before = source.read_bytes()
    with pytest.raises(FolderError, match="link is a link to what is no folder"):
        densenet_convert.convert(source, tmp_path / "link", device="cpu", force=force)
    assert (tmp_path / "link").readlink() == Path(leads_to)
    assert source.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"link", "source.pth"}


def test_force_refuses_a_folder_of_links_as_the_hubs_cache_holds(source: Path, tmp_path: Path) -> None:
    densenet_convert.convert(source, tmp_path / "out", device="cpu")
    (tmp_path / "out" / "model.safetensors").rename(tmp_path / "blob")
    (tmp_path / "out" / "model.safetensors").symlink_to(tmp_path / "blob")
    with pytest.raises(FolderError, match=r"holds links.*would replace them by files: model\.safetensors"):
        densenet_convert.convert(source, tmp_path / "out", device="cpu", force=True)
    assert open_folder(tmp_path / "out")


@pytest.mark.parametrize("force", [False, True])
def test_an_empty_folder_that_appears_at_the_last_moment_is_no_loss(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """And one that holds something is said to exist, as if it had been there from the start."""
    put_in_place = write.put_in_place

    def late(new: Path, folder: Path, **options: bool) -> None:
        folder.mkdir()
        put_in_place(new, folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(write, "put_in_place", late)
    densenet_convert.convert(source, tmp_path / "out", device="cpu", force=force)
    assert open_folder(tmp_path / "out")


def test_a_folder_that_appears_at_the_last_moment_is_said_to_exist(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place = write.put_in_place

    def late(new: Path, folder: Path, **options: bool) -> None:
        folder.mkdir()
        (folder / "thesis.tex").write_text("years of work")
        put_in_place(new, folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(write, "put_in_place", late)
    with pytest.raises(FolderError, match="out exists and is left alone"):
        densenet_convert.convert(source, tmp_path / "out", device="cpu")
    assert contents(tmp_path / "out") == {"thesis.tex": b"years of work"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "source.pth"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has other modes")
def test_force_keeps_modes(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    densenet_convert.convert(source, out, device="cpu")
    modes = {"model.safetensors": 0o640, "config.json": 0o444, "conversion.json": 0o604, "README.md": 0o644}
    for name, mode in modes.items():
        (out / name).chmod(mode)
    out.chmod(0o2750)
    densenet_convert.convert(source, out, device="cpu", force=True)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == modes
    assert stat.S_IMODE(out.stat().st_mode) == 0o2750


def test_what_killed_runs_left_is_cleared(source: Path, tmp_path: Path) -> None:
    """Before the exchange a part of the new folder, after it the old one, with what the Hub added."""
    new, old = (tmp_path / f".out.{_system()}{digit * 24}.partial" for digit in "01")
    densenet_convert.convert(source, old, device="cpu")
    (old / ".cache" / "huggingface").mkdir(parents=True)
    (old / ".gitattributes").touch()
    new.mkdir()
    for name in ("config.json", ".tmpAb3dE9"):
        (new / name).touch()
    densenet_convert.convert(source, tmp_path / "out", device="cpu")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "source.pth"}


@pytest.mark.parametrize("force", [False, True])
def test_ctrl_c_leaves_nothing_behind(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    if force:
        densenet_convert.convert(source, tmp_path / "out", device="cpu")
    before = contents(tmp_path / "out") if force else None
    monkeypatch.setattr(write, "read_back", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        densenet_convert.convert(source, tmp_path / "out", device="cpu", force=force)
    assert (contents(tmp_path / "out") if force else None) == before
    assert {path.name for path in tmp_path.iterdir()} == {"source.pth", *(["out"] if force else [])}


def test_all_that_is_written_is_on_disk_before_it_is_put_in_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By inode: files and folder, then the folder where it is put, and those that hold new ones."""
    order: list[object] = []
    fsync, rename = os.fsync, Path.rename

    def syncing(descriptor: int) -> None:
        order.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def renaming(self: Path, target: Path) -> Path:
        order.append("renamed")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "rename", renaming)
    densenet_convert.convert(source, tmp_path / "a" / "b" / "out", device="cpu")
    out = tmp_path / "a" / "b" / "out"
    first, last = order[: order.index("renamed")], order[order.index("renamed") + 1 :]
    assert {path.stat().st_ino for path in (*out.iterdir(), out, tmp_path, tmp_path / "a")} <= set(first)
    assert last == [out.parent.stat().st_ino]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_read_back_and_differs_is_not_put_in_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    if force:
        densenet_convert.convert(source, tmp_path / "out", device="cpu")
    before = contents(tmp_path / "out") if force else None
    sound = write._apart

    def damaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        name = "features.norm5.bias"
        return {**sound(tensors), name: torch.nextafter(tensors[name], torch.tensor(9.0))}

    monkeypatch.setattr(write, "_apart", damaged)
    with pytest.raises(FolderError, match=r"read back and differs.*tensor features\.norm5\.bias has sha256"):
        densenet_convert.convert(source, tmp_path / "out", device="cpu", force=force)
    assert (contents(tmp_path / "out") if force else None) == before
    assert {path.name for path in tmp_path.iterdir()} == {"source.pth", *(["out"] if force else [])}


def test_a_bit_that_flips_in_memory_after_reading_is_not_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network, reference and file share the memory, so only a digest from before can tell."""
    verify = conversion.prove_parity

    def flipping(renamed: Renamed, *others: Any) -> Verified:
        verified = verify(renamed, *others)
        renamed.tensors["features.norm0.weight"].view(torch.int32)[3] ^= 1
        return verified

    monkeypatch.setattr(conversion, "prove_parity", flipping)
    with pytest.raises(FolderError, match=r"tensor features\.norm0\.weight has sha256"):
        densenet_convert.convert(source, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_the_disk_damaged_is_not_put_in_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_files = write._write_files

    def damaging(verified: Verified, folder: Path) -> dict[str, object]:
        content = write_files(verified, folder)
        path = folder / name
        path.write_bytes(path.read_bytes()[:-1])
        return content

    monkeypatch.setattr(write, "_write_files", damaging)
    with pytest.raises(FolderError, match="read back and differs"):
        densenet_convert.convert(source, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cant_be_written_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"file/out can't be written: Not a directory"):
        densenet_convert.convert(source, tmp_path / "file" / "out", device="cpu")


def test_where_folders_cant_be_exchanged_the_receipt_is_replaced_last(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    densenet_convert.convert(source, tmp_path / "out", device="cpu")
    (tmp_path / "out" / ".gitattributes").write_text("from the Hub")
    expected = densenet_convert.convert(source, tmp_path / "expected", device="cpu")
    order: list[str] = []
    rename = Path.replace

    def recording(self: Path, target: Path) -> Path:
        order.append(target.name)
        return rename(self, target)

    monkeypatch.setattr(replace, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "replace", recording)
    densenet_convert.convert(source, tmp_path / "out", device="cpu", force=True)
    assert order == ["config.json", "model.safetensors", "conversion.json", "README.md"]
    assert contents(tmp_path / "out") == contents(expected.folder)
