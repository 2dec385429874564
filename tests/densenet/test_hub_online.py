"""A repository is loaded through the real client, in a process of its own, from a Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import SMALL, state_dict_of
from hub_server import TOKEN, Hub, Repository, running_hub

from densenet_convert.densenet import DenseNet

NAME = "user/small"
LOAD = """
import json, sys
from densenet_convert.densenet import DenseNet
name, revision = sys.argv[1:]
try:
    found = DenseNet.from_pretrained(name, revision=revision or None).config.norm_eps
except Exception as error:
    found = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def files_of(folder: Path, norm_eps: float) -> dict[str, bytes]:
    model = DenseNet(SMALL)
    model.load_state_dict(state_dict_of())
    model.save_pretrained(folder)
    config = {**json.loads((folder / "config.json").read_bytes()), "norm_eps": norm_eps}
    (folder / "config.json").write_text(json.dumps(config))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def repository(hub: Hub, tmp_path: Path) -> Repository:
    """Its first commit is the tag v1."""
    made = hub.repositories[NAME] = Repository()
    made.refs["v1"] = made.commit("main", {**files_of(tmp_path / "one", 1e-3), "other.bin": b"x"})
    made.commit("main", files_of(tmp_path / "two", 1e-5))
    return made


def load(hub: Hub, cache: Path, revision: str = "", token: str | None = None, **variables: str) -> object:
    environment = {**os.environ, **hub.environment(cache, token), **variables}
    command = [sys.executable, "-c", LOAD, NAME, revision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # Nothing but what the script prints: the bars of a download are on stderr.
    return json.loads(done.stdout)


@pytest.mark.usefixtures("repository")
def test_a_repository_is_loaded_at_its_revision_and_again_without_a_network(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert load(hub, cache) == 1e-5
    assert load(hub, cache, revision="v1") == 1e-3
    fetched = [path for method, path in hub.asked if method == "GET" and "/resolve/" in path]
    assert not any("other.bin" in path for path in fetched)
    hub.asked.clear()
    assert load(hub, cache, HF_HUB_OFFLINE="1") == 1e-5
    assert hub.asked == []


def test_a_private_repository_needs_the_token_and_never_shows_it(
    hub: Hub, repository: Repository, tmp_path: Path
) -> None:
    repository.private = True
    assert load(hub, tmp_path / "with", token=TOKEN) == 1e-5
    refused = load(hub, tmp_path / "without", token="hf_of_someone_else")
    assert str(refused).startswith("RepositoryNotFoundError: 401")
    assert "hf_of_someone_else" not in str(refused)


def test_what_is_not_there_is_said_to_be_missing(hub: Hub, tmp_path: Path) -> None:
    assert "NotFoundError" in str(load(hub, tmp_path / "cache"))
    hub.repositories[NAME] = Repository()
    hub.repositories[NAME].commit("main", {"README.md": b"# nothing"})
    assert "FileNotFoundError" in str(load(hub, tmp_path / "cache"))
    assert "RevisionNotFoundError" in str(load(hub, tmp_path / "cache", revision="v9"))
