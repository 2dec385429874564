"""Reading gives the source's tensors, or one message that says what is wrong; it runs nothing."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import in_2017_names, save, state_dict_of

from densenet_convert.errors import ReadError
from densenet_convert.read import read_checkpoint


class RunsCommand:
    """What a stranger's pickle would do to whoever loads it."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.evidence}'",)


def zip_with_command(evidence: Path) -> bytes:
    """What torch.hub takes for an old zip of one member, which it loads without weights_only."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("weights.pth", pickle.dumps(RunsCommand(evidence), protocol=2))
    return archive.getvalue()


@pytest.mark.parametrize(("legacy", "format_name"), [(True, "torch-legacy"), (False, "torch-zip")])
def test_the_tensors_the_digest_and_the_format_are_those_of_the_file(
    tmp_path: Path, legacy: bool, format_name: str
) -> None:
    state = in_2017_names(state_dict_of())
    path = save(state, tmp_path / "c.pth", legacy=legacy)
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.tensors) == list(state)
    assert all(torch.equal(checkpoint.tensors[name], state[name]) for name in state)
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.size == path.stat().st_size
    assert checkpoint.format == format_name


def test_parameters_are_read_as_plain_tensors(tmp_path: Path) -> None:
    path = save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "c.pth")
    assert not read_checkpoint(path).tensors["a"].requires_grad


def test_elements_are_read_in_one_order_whatever_theirs_was(tmp_path: Path) -> None:
    """torchvision's loader copies into that order, and kernels sum in the order of the elements."""
    kernel = torch.rand(2, 3, 4, 5)
    state = {"a": kernel.to(memory_format=torch.channels_last), "b": kernel.transpose(0, 3)}
    checkpoint = read_checkpoint(save(state, tmp_path / "c.pth", legacy=False))
    for name, tensor in state.items():
        assert checkpoint.tensors[name].is_contiguous()
        assert torch.equal(checkpoint.tensors[name], tensor)
        assert checkpoint.digests[name] == hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def test_a_digest_that_is_known_is_checked_before_anything_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    path.write_bytes(b"not a pickle")
    with pytest.raises(ReadError, match=r"is corrupt: its SHA-256 should begin with b2777c0a.*Delete it"):
        read_checkpoint(path, digits="b2777c0a")


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """A path and what the message must say, for each kind of bad input."""
    legacy = save(in_2017_names(state_dict_of()), folder / "sound.pth").read_bytes()
    today = save(state_dict_of(), folder / "sound-zip.pth", legacy=False).read_bytes()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    contents = {
        "empty": (b"", "is empty"),
        "html": (b"\n<!DOCTYPE html><html>log in</html>", "HTML or XML page"),
        "random bytes": (bytes(range(256)) * 99, "is not a state dict"),
        "zeros": (bytes(1 << 20), "is not a state dict"),
        "tar": (tar.getvalue(), "is not a state dict"),
        "plain zip": (zip_with_command(folder / "ran"), "is not a state dict"),
        "command": (pickle.dumps(RunsCommand(folder / "ran")), "is not a state dict"),
        "cut in the header": (legacy[:30], "is not a state dict"),
        "cut in the names": (legacy[:2000], "is not a state dict"),
        "cut in the tensors": (legacy[:-1], "is not a state dict"),
        "zip cut": (today[:-1000], "is not a state dict"),
        "appended": (legacy + b"x", "goes on for 1 bytes after the end"),
        "zip appended": (legacy + zip_with_command(folder / "ran"), "after the end"),
    }
    made: dict[str, tuple[Path, str]] = {}
    for name, (content, message) in contents.items():
        path = folder / f"{name}.pth"
        path.write_bytes(content)
        made[name] = (path, message)
    objects = {
        "a list": ([torch.ones(1)], "holds a list, expected a dict of tensors"),
        "an empty dict": ({}, "expected a dict of tensors"),
        "a number": ({"epoch": 3, "a": torch.ones(1)}, "no tensors, expected a dict of tensors: epoch"),
        "a container": ({"state_dict": state_dict_of()}, "state_dict.*save that one alone"),
        "a number as name": ({3: torch.ones(1)}, "under 3, expected names that are text"),
        "a stride of 0": ({"a": torch.ones(1).expand(1 << 40)}, "a claims to be larger than the file"),
        "sparse": ({"a": torch.ones(2, 2).to_sparse()}, "a is torch.sparse_coo"),
        "a module": (torch.nn.Linear(1, 1), "is not a state dict"),
    }
    for name, (content, message) in objects.items():
        made[name] = (save(content, folder / f"{name}.pth"), message)
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    made["a fifo"] = (fifo, "is no regular file")
    made["a folder"] = (folder, "is no regular file")
    made["missing"] = (folder / "nowhere.pth", "No such file")
    return made


KINDS = [
    "empty",
    "html",
    "random bytes",
    "zeros",
    "tar",
    "plain zip",
    "command",
    "cut in the header",
    "cut in the names",
    "cut in the tensors",
    "zip cut",
    "appended",
    "zip appended",
    "a list",
    "an empty dict",
    "a number",
    "a container",
    "a number as name",
    "a stride of 0",
    "sparse",
    "a module",
    "a fifo",
    "a folder",
    "missing",
]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_gets_one_message_that_suggests_nothing_unsafe(tmp_path: Path, kind: str) -> None:
    bad = bad_files(tmp_path)
    assert set(bad) == set(KINDS)
    path, message = bad[kind]
    with pytest.raises(ReadError, match=message) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)
    assert "weights_only=False" not in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
