"""hf://USER/NAME is a folder like any other, fetched by the real client from a Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkpoints import in_2017_names, save, state_dict_of
from hub_server import TOKEN, Hub, Repository, running_hub

from densenet_convert.errors import ReadError
from densenet_convert.hub.fetch import local_file, local_folder

NAME = "user/small"
# The package's own errors are shown, others are a traceback.
FETCH = """
import sys
from densenet_convert.errors import ConvertError
from densenet_convert.hub.fetch import local_folder
try:
    print(sorted(path.name for path in local_folder(sys.argv[1]).iterdir()))
except ConvertError as error:
    print(f"{type(error).__name__}: {error}")
"""
VERIFY = "from densenet_convert.cli import run; run()"


@pytest.fixture(scope="module")
def files(converted_with_golden: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in converted_with_golden.iterdir()}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    """It has the folder, with a card of its owner and what the Hub itself adds."""
    with running_hub() as hub:
        hub.repositories[NAME] = Repository()
        hub.repositories[NAME].commit("main", {**files, "README.md": b"# mine", ".gitattributes": b""})
        yield hub


def run(hub: Hub, cache: Path, code: str, *arguments: str, **variables: str) -> tuple[int, str, str]:
    environment = {**os.environ, **hub.environment(cache), **variables}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout.strip(), done.stderr


def fetch(hub: Hub, cache: Path, name: str = f"hf://{NAME}", **variables: str) -> str:
    code, said, trace = run(hub, cache, FETCH, name, **variables)
    assert code == 0, trace
    return said


def test_a_path_is_a_path() -> None:
    assert local_folder("./some/folder") == Path("some/folder")
    assert local_folder(Path("a/b/c")) == Path("a/b/c")
    assert local_folder("folder") == Path("folder")


@pytest.mark.parametrize("fetching", [local_folder, local_file])
def test_a_name_that_is_no_path_may_be_meant_for_the_hub(fetching: Callable[[str], Path]) -> None:
    with pytest.raises(ReadError, match="neither a file nor a folder here. Did you mean hf://user/small?"):
        fetching("user/small")
    assert local_file("runs/model.pth") == Path("runs/model.pth")


def test_the_whole_folder_is_verified_by_its_name(hub: Hub, tmp_path: Path) -> None:
    code, said, trace = run(hub, tmp_path, VERIFY, "verify", f"hf://{NAME}@main", "--json")
    assert code == 0, trace
    document = json.loads(said)
    assert (document["status"], document["folder"]) == ("verified", f"hf://{NAME}@main")
    assert set(document["verification"]["largest_difference"].values()) == {0.0}
    assert document["verification"]["golden"]["share_of_bound"] < 1


def test_a_changed_byte_in_the_repository_is_found(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    weights = files["model.safetensors"][:-1] + b"x"
    hub.repositories[NAME].commit("main", {**files, "model.safetensors": weights})
    code, _, said = run(hub, tmp_path, VERIFY, "verify", f"hf://{NAME}")
    assert code == 1
    assert "model.safetensors was changed" in said
    assert "Traceback" not in said


def test_what_was_fetched_is_there_without_a_network(hub: Hub, tmp_path: Path) -> None:
    assert "conversion.json" in fetch(hub, tmp_path)
    hub.asked.clear()
    assert "conversion.json" in fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert hub.asked == []
    refused = fetch(hub, tmp_path / "empty", HF_HUB_OFFLINE="1")
    assert refused.startswith(f"HubError: hf://{NAME}: it is not in the cache")


def test_a_repository_without_a_receipt_is_refused(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    rest = {name: data for name, data in files.items() if name != "conversion.json"}
    hub.repositories[NAME].commit("main", rest)
    assert "it holds no conversion.json" in fetch(hub, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://user/missing", "it is not there, or private: set HF_TOKEN"),
        (f"hf://{NAME}@v9", "it has no such branch, tag or commit"),
        ("hf://a/b/c", "expected hf://USER/NAME, or hf://USER/NAME@REVISION"),
        ("hf://", "expected hf://USER/NAME"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_why(
    name: str, message: str, hub: Hub, tmp_path: Path
) -> None:
    said = fetch(hub, tmp_path, name)
    assert said.startswith(f"HubError: {name}: ")
    assert message in said


def test_a_private_repository_opens_to_its_token_alone(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[NAME].private = True
    assert "conversion.json" in fetch(hub, tmp_path / "with", HF_TOKEN=TOKEN)
    refused = fetch(hub, tmp_path / "without", HF_TOKEN="hf_of_someone_else")
    assert "it is not there, or private" in refused
    assert "hf_of_someone_else" not in refused


@pytest.mark.parametrize("status", [403, 500])
def test_a_hub_that_refuses_is_an_error_with_its_status(status: int, hub: Hub, tmp_path: Path) -> None:
    def refuse(handler: object) -> bool:
        handler.send({"error": "no"}, status)  # type: ignore[attr-defined]
        return True

    hub.fault = refuse
    said = fetch(hub, tmp_path)
    assert said.startswith(f"HubError: hf://{NAME}: ")
    assert str(status) in said


def test_a_hub_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with running_hub() as hub:
        pass
    assert fetch(hub, tmp_path).startswith(f"HubError: hf://{NAME}: ")


SOURCE = """
import sys
from densenet_convert.errors import ConvertError
from densenet_convert.hub.fetch import local_file
try:
    print(local_file(sys.argv[1]).read_bytes())
except ConvertError as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        ({"old.pth": b"1", "README.md": b""}, "hf://user/x", "b'1'"),
        ({"model.safetensors": b"2", "pytorch_model.bin": b"1"}, "hf://user/x@main", "b'2'"),
        ({"a/b.pth": b"3", "c.pth": b"1"}, "hf://user/x/a/b.pth", "b'3'"),
        ({"a.pth": b"4"}, "hf://user/x@main/a.pth", "b'4'"),
        (
            {"a.pth": b"", "b.ckpt": b""},
            "hf://user/x",
            "HubError: hf://user/x holds 2 checkpoints: a.pth, b.ckpt. Name one: hf://user/x/a.pth.",
        ),
        ({"a.pth": b"5", "training_args.bin": b"", "x/optimizer.pt": b""}, "hf://user/x", "b'5'"),
        ({"README.md": b""}, "hf://user/x", "HubError: hf://user/x holds no checkpoint"),
        ({"a.pth": b""}, "hf://user/x/b.pth", "HubError: hf://user/x/b.pth: it has no such file"),
        ({"a.pth": b""}, "hf://user/x@v1/a.pth", "it has no such branch"),
        ({}, "hf://user", "HubError: hf://user: expected hf://USER/NAME"),
    ],
)
def test_a_source_is_a_file_of_a_repository(
    files: dict[str, bytes], name: str, found: str, hub: Hub, tmp_path: Path
) -> None:
    hub.repositories["user/x"] = Repository()
    hub.repositories["user/x"].commit("main", files)
    code, said, trace = run(hub, tmp_path, SOURCE, name)
    assert code == 0, trace
    assert found in said


def test_the_metadata_of_a_bundle_come_with_its_weights(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["user/bundle"] = Repository()
    files = {"models/model.pt": b"6", "configs/metadata.json": b"{}", "configs/train.json": b"{}"}
    hub.repositories["user/bundle"].commit("main", files)
    code, said, trace = run(hub, tmp_path, SOURCE, "hf://user/bundle")
    assert code == 0, trace
    assert said == "b'6'"
    fetched = [path for path in tmp_path.rglob("*.json") if "snapshots" in path.parts]
    assert [path.parts[-2:] for path in fetched] == [("configs", "metadata.json")]


def test_a_checkpoint_on_the_hub_is_converted_with_what_lies_beside_it_and_verified_by_its_name(
    hub: Hub, tmp_path: Path
) -> None:
    old = save(in_2017_names(state_dict_of()), tmp_path / "old.pth")
    config = {"architecture": "densenet121", "label_names": list("abcde")}
    files = {"config.json": json.dumps(config).encode(), "README.md": b"---\nlicense: mit\n---\n"}
    hub.repositories["user/chest"] = Repository()
    hub.repositories["user/chest"].commit("main", {"chest.pth.tar": old.read_bytes(), **files})
    out = tmp_path / "out"
    code, said, trace = run(hub, tmp_path, VERIFY, "file", "hf://user/chest", "--output", str(out))
    assert code == 0, trace
    assert "layout torchvision-dotted" in said
    assert "beside      config.json, README.md" in said
    assert json.loads((out / "config.json").read_text())["label_names"] == list("abcde")
    code, _, trace = run(
        hub, tmp_path, VERIFY, "verify", str(out), "--source", "hf://user/chest/chest.pth.tar"
    )
    assert code == 0, trace
