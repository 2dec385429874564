"""A folder is published in one commit that proves itself, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import in_2017_names, save, state_dict_of
from click.testing import CliRunner, Result
from hub_server import TOKEN, Hub, Repository, running_hub
from huggingface_hub import ModelCard
from schemas import validate

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import FolderError, HubError, PublishError
from densenet_convert.folder import receipt
from densenet_convert.folder.open import open_folder
from densenet_convert.hub import publish
from densenet_convert.hub.fetch import local_folder

# The client's use of its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "user/small"
FILES = {"README.md", "config.json", "conversion.json", "model.safetensors"}
LARGE = "model.safetensors"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("publish")
    source = save(in_2017_names(state_dict_of()), folder / "old.pth")
    return dc.convert(source, folder / "new", license="mit").folder


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "new"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def files_of(hub: Hub, branch: str = "main", name: str = NAME) -> dict[str, bytes]:
    repository = hub.repositories[name]
    commit = repository.resolve(branch)
    assert commit is not None
    return {name: data for name, data in repository.commits[commit].items() if name != ".gitattributes"}


def commits_of(hub: Hub) -> list[str]:
    """Messages, without the one of the repository's own making."""
    return hub.repositories[NAME].messages[1:]


def asked(hub: Hub, method: str, part: str) -> int:
    return sum(m == method and part in path for m, path in hub.asked)


def test_a_folder_is_published_in_one_commit_and_fetched_back(folder: Path, hub: Hub) -> None:
    published = dc.push(folder, NAME)
    there = files_of(hub)
    assert there.keys() == FILES
    for name in ("config.json", LARGE):
        assert there[name] == (folder / name).read_bytes()
    assert commits_of(hub) == ["DenseNet, converted by densenet-convert 0.1.0"]
    assert {file.action for file in published.files} == {"add"}
    assert published.commit == hub.repositories[NAME].refs["main"]
    assert asked(hub, "GET", f"/resolve/{published.commit}/") == 3
    assert asked(hub, "GET", "/stored/") == 1


@pytest.mark.usefixtures("hub")
def test_a_remark_on_the_weights_is_repeated_before_anything_is_sent(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = open_folder(folder).receipt
    remarks = [{"kind": kind, "text": f"It is {kind}."} for kind in ("refers-to", "never-loaded")]
    (folder / receipt.FILE_NAME).write_text(receipt.seal({**content, "remarks": remarks}))
    dc.push(folder, NAME, dry_run=True)
    assert "It is never-loaded." in caplog.messages
    assert "It is refers-to." not in caplog.messages


def test_what_is_published_is_a_folder_that_verifies(folder: Path, hub: Hub, tmp_path: Path) -> None:
    dc.push(folder, NAME)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, data in files_of(hub).items():
        (copy / name).write_bytes(data)
    assert dc.verify(copy).proof
    assert dc.verify(f"hf://{NAME}").proof


def test_the_card_has_the_name_of_the_repository_and_the_receipt_its_digest(folder: Path, hub: Hub) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    dc.push(folder, NAME)
    there = files_of(hub)
    assert b'from_pretrained("user/small")' in there["README.md"]
    assert b"USER/NAME" not in there["README.md"]
    local, sent = (
        receipt.unseal(data.decode()) for data in (before["conversion.json"], there["conversion.json"])
    )
    local["verification"]["files"], digests = None, sent["verification"]["files"]
    sent["verification"]["files"] = None
    assert sent == local
    assert digests.keys() == {"README.md"}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_second_push_sends_nothing_and_compares_again(folder: Path, hub: Hub) -> None:
    first = dc.push(folder, NAME)
    hub.asked.clear()
    again = dc.push(folder, NAME)
    assert (again.commit, again.changed) == (first.commit, False)
    assert len(commits_of(hub)) == 1
    assert not any(method in ("POST", "PUT") for method, _ in hub.asked)
    assert asked(hub, "GET", "/stored/") == 1


def test_only_what_changed_is_sent_and_what_is_gone_is_deleted(folder: Path, hub: Hub) -> None:
    golden = folder.parent / "golden"
    source = save(in_2017_names(state_dict_of()), folder.parent / "old.pth")
    dc.convert(source, golden, golden=True, license="mit")
    dc.push(golden, NAME)
    hub.asked.clear()
    published = dc.push(folder, NAME)
    assert {file.name: file.action for file in published.files} == {
        "README.md": "change",
        "config.json": "keep",
        "conversion.json": "change",
        LARGE: "keep",
        "parity.safetensors": "delete",
    }
    assert asked(hub, "PUT", "/lfs/") == 0
    assert files_of(hub).keys() == FILES


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(folder: Path, hub: Hub) -> None:
    planned = dc.push(folder, NAME, dry_run=True)
    assert not any(method in ("POST", "PUT") for method, _ in hub.asked)
    assert hub.repositories == {}
    assert planned.commit is None
    sent = dc.push(folder, NAME)
    assert planned.files == sent.files
    assert planned.card == sent.card == files_of(hub)["README.md"].decode()
    done = run("push", folder, "--repo-id", "user/other", "--dry-run")
    assert done.exit_code == 0
    for file in planned.files:
        assert file.sha256 is not None
        if file.name in ("config.json", LARGE):
            assert f"{file.name:<24}{file.size:>12,} bytes  sha256 {file.sha256}" in done.stdout
    assert 'pipeline("image-classification"' not in done.stdout  # of a network that transformers has not
    assert 'DenseNet.from_pretrained("user/other")' in done.stdout


@pytest.mark.parametrize("named", [["small"], ["--repo-id", "small"], [NAME], [NAME, "--repo-id", NAME]])
def test_the_name_is_an_argument_and_a_bare_one_is_the_user_s_own(
    named: list[str], folder: Path, hub: Hub
) -> None:
    done = run("push", folder, *named)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("user/small, main: published")
    assert files_of(hub).keys() == FILES


def test_no_name_two_names_and_a_bare_one_of_nobody_are_refused(
    folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Name the repository" in run("push", folder).stderr
    assert "Two repositories are named" in run("push", folder, NAME, "--repo-id", "user/other").stderr
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        PublishError, match="is a name without its owner, .*set HF_TOKEN.* Or name OWNER/small"
    ):
        dc.push(folder, "small")
    assert hub.repositories == {}


def test_a_branch_is_made_where_it_is_missing(folder: Path, hub: Hub) -> None:
    dc.push(folder, NAME)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    published = dc.push(folder, NAME, revision="draft", commit_message="Mine")
    assert published.revision == "draft"
    assert files_of(hub, "draft")["README.md"].endswith(b"# Mine\n")
    assert b"# Mine" not in files_of(hub)["README.md"]
    assert commits_of(hub)[1:] == ["Mine"]


def test_a_pull_request_is_opened_once(folder: Path, hub: Hub) -> None:
    hub.repositories[NAME] = Repository()
    hub.repositories[NAME].commit("main", {})
    first = dc.push(folder, NAME, create_pr=True)
    assert (first.revision, first.url) == ("refs/pr/1", f"{hub.url}/{NAME}/discussions/1")
    assert files_of(hub) == {}
    again = dc.push(folder, NAME, create_pr=True)
    assert (again.revision, again.commit, again.changed) == ("refs/pr/1", first.commit, False)
    another = dc.push(folder, NAME, create_pr=True, commit_message="Another")
    assert another.revision == "refs/pr/2"


def test_a_new_repository_is_private_where_that_is_asked(folder: Path, hub: Hub) -> None:
    dc.push(folder, NAME, private=True)
    assert hub.repositories[NAME].private
    dc.push(folder, "user/open")
    assert not hub.repositories["user/open"].private
    with pytest.raises(PublishError, match="there and public, and was asked to be private"):
        dc.push(folder, "user/open", private=True)


def test_random_weights_are_not_published(hub: Hub, tmp_path: Path, converted: Path) -> None:
    written = open_folder(converted)
    content = {**written.receipt, "source": {**written.receipt["source"], "origin": "random", "seed": 0}}
    folder = Path(shutil.copytree(converted, tmp_path / "random"))
    (folder / "conversion.json").write_text(receipt.seal(content))
    with pytest.raises(PublishError, match="holds random weights"):
        dc.push(folder, NAME, license="mit")
    assert hub.asked == []


@pytest.mark.parametrize("name", ["config.json", LARGE, "conversion.json"])
def test_a_folder_that_disagrees_with_its_receipt_is_not_published(name: str, folder: Path, hub: Hub) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-9] ^= 1
    (folder / name).write_bytes(data)
    done = run("push", folder, "--repo-id", NAME)
    assert done.exit_code == 1
    assert "was changed" in done.stderr
    assert hub.asked == []


def test_a_file_that_changes_after_it_was_checked_is_not_sent(
    folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object) -> None:
        (folder / LARGE).write_bytes(b"something else")

    monkeypatch.setattr(publish, "_fetch_card", late)
    with pytest.raises(PublishError, match="changed while it was read"):
        dc.push(folder, NAME)
    assert hub.repositories == {}


def test_a_license_is_required_where_none_is_known(hub: Hub, converted: Path, tmp_path: Path) -> None:
    source = converted.parent / "old.pth"
    folder = dc.convert(source, tmp_path / "without").folder
    for dry_run in (True, False):
        with pytest.raises(PublishError, match="names no license, and for these weights none is known"):
            dc.push(folder, NAME, dry_run=dry_run)
    assert hub.repositories == {}
    dc.push(folder, NAME, license="apache-2.0")
    assert ModelCard(files_of(hub)["README.md"].decode()).data.license == "apache-2.0"


def test_a_card_that_its_owner_edited_is_sent_as_it_is(folder: Path, hub: Hub) -> None:
    mine = "---\nlicense: mit\n---\n# Mine\n"
    (folder / "README.md").write_text(mine)
    done = run("push", folder, "--repo-id", NAME)
    assert done.exit_code == 0, done.stderr
    assert done.stderr == "README.md was edited here: it is left as it is, and nothing in it is proven.\n"
    assert files_of(hub)["README.md"].decode() == mine
    with pytest.raises(PublishError, match="names the license mit, expected gpl"):
        dc.push(folder, NAME, license="gpl")
    (folder / "README.md").write_text("# Mine, under no license\n")
    with pytest.raises(PublishError, match="edited here, names no license"):
        dc.push(folder, NAME)
    (folder / "README.md").write_text("---\n: [\n---\n")
    with pytest.raises(dc.ConvertError, match="README.md can't be read as a model card"):
        dc.push(folder, NAME)


def test_a_card_that_its_owner_edited_on_the_hub_is_kept(folder: Path, hub: Hub) -> None:
    dc.push(folder, NAME)
    mine = b"---\nlicense: mit\n---\n# Mine\n"
    hub.repositories[NAME].commit("main", {**files_of(hub), "README.md": mine, LARGE: b"lost"})
    published = dc.push(folder, NAME)
    assert published.remarks == (
        "README.md was edited on the Hub: it is left as it is, and nothing in it is proven.",
    )
    assert files_of(hub)["README.md"] == mine
    assert files_of(hub)[LARGE] == (folder / LARGE).read_bytes()


def test_a_card_that_was_edited_on_both_sides_is_nobody_s_to_choose(folder: Path, hub: Hub) -> None:
    dc.push(folder, NAME)
    theirs = b"---\nlicense: mit\n---\n# Theirs\n"
    hub.repositories[NAME].commit("main", {**files_of(hub), "README.md": theirs})
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    with pytest.raises(PublishError, match="edited here and on the Hub"):
        dc.push(folder, NAME)
    assert files_of(hub)["README.md"] == theirs


def test_a_card_that_was_edited_and_pushed_can_be_edited_again(folder: Path, hub: Hub) -> None:
    for text in ("# One", "# Two"):
        (folder / "README.md").write_text(f"---\nlicense: mit\n---\n{text}\n")
        assert dc.push(folder, NAME).remarks
        assert text.encode() in files_of(hub)["README.md"]
        assert not dc.push(folder, NAME).changed


def test_a_card_of_a_repository_that_we_did_not_make_is_kept(folder: Path, hub: Hub) -> None:
    hub.repositories[NAME] = Repository()
    hub.repositories[NAME].commit("main", {"README.md": b"---\nlicense: mit\n---\n# By hand\n"})
    assert "on the Hub" in dc.push(folder, NAME).remarks[0]
    assert files_of(hub)["README.md"].endswith(b"# By hand\n")
    assert files_of(hub).keys() == FILES


def test_another_model_of_the_same_file_names_is_left_alone(folder: Path, hub: Hub) -> None:
    hub.repositories[NAME] = Repository()
    before = {"config.json": b'{"model_type": "bert"}', LARGE: b"bert"}
    hub.repositories[NAME].commit("main", before)
    with pytest.raises(PublishError, match=r"holds another model: config.json, model.safetensors without"):
        dc.push(folder, NAME)
    assert files_of(hub) == before


def test_an_edited_card_without_a_license_goes_on_by_the_option_with_a_remark(folder: Path, hub: Hub) -> None:
    (folder / "README.md").write_text("# Mine\n")
    remarks = dc.push(folder, NAME, license="mit").remarks
    assert "write `license: mit` into its front matter" in remarks[1]
    assert files_of(hub)["README.md"] == b"# Mine\n"


def test_a_card_that_is_missing_is_made_anew(folder: Path, hub: Hub) -> None:
    (folder / "README.md").unlink()
    dc.push(folder, NAME, license="mit")
    assert b"\n# user/small\n" in files_of(hub)["README.md"]


def test_other_files_of_the_repository_stay_and_are_named(
    folder: Path, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.repositories[NAME] = Repository()
    others = {"pytorch_model.bin": b"a pickle", "LICENSE": b"mit", "images/one.png": b"png"}
    hub.repositories[NAME].commit("main", {**others, "README.md": b"---\nlicense: mit\n---\n# old"})
    (folder / "notes.txt").touch()
    published = dc.push(folder, NAME)
    assert published.remarks[1:] == (
        f"{folder}: notes.txt is not covered by conversion.json. It is not sent.",
        f"{NAME}: LICENSE, images/one.png, pytorch_model.bin are not covered by conversion.json. "
        "It is left as it is.",
    )
    assert files_of(hub).keys() == FILES | others.keys()
    assert files_of(hub).items() >= others.items()
    hub.asked.clear()
    assert dc.verify(f"hf://{NAME}")
    assert f"hf://{NAME}: LICENSE, images/one.png, pytorch_model.bin are not covered by" in caplog.text
    assert not any(name in path for name in others for _, path in hub.asked)
    assert not dc.push(folder, NAME).changed


def test_what_a_loader_would_take_instead_of_ours_is_refused_in_the_repository(
    folder: Path, hub: Hub
) -> None:
    hub.repositories[NAME] = Repository()
    hub.repositories[NAME].commit("main", {"model-00001-of-00002.safetensors": b"a part"})
    with pytest.raises(FolderError, match=r"user/small holds model-00001-of-00002.safetensors"):
        dc.push(folder, NAME)
    assert len(hub.repositories[NAME].commits) == 1


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "processor_config.json"])
def test_what_a_loader_would_take_instead_of_ours_is_refused_when_it_is_fetched(
    name: str, folder: Path, hub: Hub
) -> None:
    dc.push(folder, NAME)
    hub.repositories[NAME].commit("main", {**files_of(hub), name: b"{}"})
    with pytest.raises(FolderError, match=f"holds {name}: other loaders would take that in place of"):
        local_folder(f"hf://{NAME}")


def answering(status: int, part: str, times: int = 100, **headers: str) -> Callable[[Any], bool]:
    """A fault: requests whose method and path have ``part`` in them are answered by an error."""
    left = [times]

    def fault(handler: Any) -> bool:
        if part not in f"{handler.command} {handler.path}" or not left[0]:
            return False
        left[0] -= 1
        handler.send({"error": "by the test"}, status, headers)
        return True

    return fault


def cutting(part: str) -> Callable[[Any], bool]:
    """A fault: the connection ends without an answer."""

    def fault(handler: Any) -> bool:
        if part not in f"{handler.command} {handler.path}":
            return False
        handler.close_connection = True
        handler.connection.close()
        return True

    return fault


LOOK, CREATE, UPLOAD, COMMIT = "GET /api/models", "POST /api/repos/create", "PUT /lfs", "/commit/main"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (answering(401, LOOK), "401"),
        (answering(401, COMMIT), "the Hub asks for a token that it knows (401)"),
        (answering(403, LOOK), "403"),
        (answering(403, CREATE), "the Hub does not allow this (403)"),
        (answering(403, COMMIT), "the Hub does not allow this (403)"),
        (answering(404, "preupload"), "404"),
        (answering(409, COMMIT), "someone else changed it meanwhile (409): run this again"),
        (answering(412, COMMIT), "someone else changed it meanwhile (412): run this again"),
        (answering(429, COMMIT, **{"Retry-After": "30"}), "the Hub asks to wait 30 seconds (429)"),
        (answering(429, LOOK), "the Hub asks to wait (429)"),
        (answering(500, LOOK), "the Hub failed (500)"),
        (answering(500, COMMIT), "the Hub failed (500)"),
        (answering(500, UPLOAD), "500"),
        (answering(503, "/batch"), "503"),
        (answering(200, LOOK), "answer"),
        (cutting(UPLOAD), "Run this again"),
        (cutting(COMMIT), "Run this again"),
        (cutting(LOOK), "Run this again"),
        (cutting("GET /stored"), "Run this again"),
    ],
)
def test_a_fault_on_the_wire_is_one_message_and_mended_by_a_second_push(
    fault: Callable[[Any], bool], message: str, folder: Path, hub: Hub
) -> None:
    hub.fault = fault
    done = run("push", folder, "--repo-id", NAME, "--token", TOKEN)
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert message in said[0]
    assert TOKEN not in done.output
    for repository in hub.repositories.values():
        # Nothing, or all of it.
        assert all(
            commit.keys() - {".gitattributes"} in (set(), FILES) for commit in repository.commits.values()
        )
    hub.fault = lambda _: False
    assert dc.push(folder, NAME).commit == hub.repositories[NAME].refs["main"]
    assert files_of(hub).keys() == FILES
    assert len(commits_of(hub)) == 1


def test_a_commit_whose_answer_was_lost_is_not_made_twice(folder: Path, hub: Hub) -> None:
    from hub_server import _Handler

    def fault(handler: Any) -> bool:
        if COMMIT not in handler.path:
            return False
        handler.send = lambda *_, **__: handler.connection.close()
        _Handler.commit(handler, NAME, "main")
        handler.close_connection = True
        return True

    hub.fault = fault
    with pytest.raises(HubError):
        dc.push(folder, NAME)
    hub.fault = lambda _: False
    assert not dc.push(folder, NAME).changed
    assert len(commits_of(hub)) == 1


def test_a_commit_of_someone_else_in_between_is_not_overwritten(folder: Path, hub: Hub) -> None:
    def fault(handler: Any) -> bool:
        if COMMIT in handler.path and len(hub.repositories[NAME].commits) == 1:
            hub.repositories[NAME].commit("main", {"README.md": b"# theirs"}, "theirs")
        return False

    hub.fault = fault
    with pytest.raises(HubError, match="someone else changed it meanwhile"):
        dc.push(folder, NAME)
    assert files_of(hub) == {"README.md": b"# theirs"}


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1] + b"x", lambda data: data[:-1]], ids=["byte", "size"]
)
def test_what_comes_back_changed_is_found(change: Callable[[bytes], bytes], folder: Path, hub: Hub) -> None:
    def fault(handler: Any) -> bool:
        if handler.command != "GET" or "/resolve/" not in handler.path or "config.json" not in handler.path:
            return False
        # What says that a file is whole, though it is not.
        headers = {"X-Repo-Commit": hub.repositories[NAME].refs["main"], "ETag": '"0"'}
        handler.send(change(files_of(hub)["config.json"]), headers=headers)
        return True

    hub.fault = fault
    done = run("push", folder, "--repo-id", NAME)
    assert done.exit_code == 1
    assert "config.json" in done.stderr
    hub.fault = lambda _: False
    assert dc.push(folder, NAME).commit


def test_a_changed_byte_of_a_large_file_on_its_way_there_is_refused(folder: Path, hub: Hub) -> None:
    def fault(handler: Any) -> bool:
        if handler.command == "PUT":
            handler.body = handler.body[:-1] + b"x"
        return False

    hub.fault = fault
    with pytest.raises(HubError):
        dc.push(folder, NAME)
    assert files_of(hub) == {}


@pytest.mark.usefixtures("hub")
def test_no_token_is_an_error_that_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = run("push", folder, "--repo-id", NAME)
    assert done.exit_code == 1
    assert "set HF_TOKEN, or run `hf auth login`" in done.stderr
    assert run("push", folder, "--repo-id", NAME, "--dry-run").exit_code == 0


@pytest.mark.usefixtures("hub")
def test_the_token_given_is_taken_before_the_environment_s(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_someone_else")
    done = run("push", folder, "--repo-id", NAME, "--token", TOKEN, "-v", "--json")
    assert done.exit_code == 0, done.stderr
    assert TOKEN not in done.output
    assert "hf_of_someone_else" not in done.output


@pytest.mark.parametrize("token", ["hf_secret\nx", "hf_sec ret", "hf_s\x00"])
def test_what_is_no_token_is_refused_and_not_shown(token: str, folder: Path, hub: Hub) -> None:
    with pytest.raises(PublishError, match="holds what no token does") as error:
        dc.push(folder, NAME, token=token)
    assert "sec" not in str(error.value)
    assert hub.asked == []


def test_blanks_around_a_token_and_an_empty_one_do_not_matter(folder: Path, hub: Hub) -> None:
    assert dc.push(folder, NAME, token=f"{TOKEN}\n").commit
    assert not dc.push(folder, NAME, token=" ").changed
    assert len(commits_of(hub)) == 1


@pytest.mark.parametrize("name", ["hf://user/small", "a/b/c", "", "a b"])
def test_what_is_no_name_of_a_repository_is_refused_before_anything_is_made(
    name: str, folder: Path, hub: Hub
) -> None:
    with pytest.raises(PublishError, match="expected USER/NAME"):
        dc.push(folder, name)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"revision": ""}, "expected the name of a branch"),
        ({"revision": "0" * 40}, "expected the name of a branch"),
        ({"revision": "dev", "create_pr": True}, "leave `revision=...` or `create_pr=True` out"),
    ],
)
def test_what_is_no_branch_is_refused(options: dict[str, Any], message: str, folder: Path, hub: Hub) -> None:
    with pytest.raises(PublishError, match=message):
        dc.push(folder, NAME, **options)
    assert hub.asked == []


@pytest.mark.parametrize("part", ["whoami", "discussions"])
def test_a_fault_while_pull_requests_are_looked_for_opens_no_second_one(
    part: str, folder: Path, hub: Hub
) -> None:
    hub.repositories[NAME] = Repository()
    hub.repositories[NAME].commit("main", {})
    dc.push(folder, NAME, create_pr=True)
    hub.fault = answering(500, part)
    with pytest.raises(HubError, match="the Hub failed"):
        dc.push(folder, NAME, create_pr=True)
    assert len(hub.repositories[NAME].pull_requests) == 1


def test_a_commit_that_cannot_be_fetched_back_is_said_to_be_there(folder: Path, hub: Hub) -> None:
    hub.fault = answering(500, "HEAD /user/small/resolve")
    with pytest.raises(
        HubError, match=r"Commit \w{40} is there, but was not fetched back. .*the Hub failed \(500\)"
    ):
        dc.push(folder, NAME)
    assert len(commits_of(hub)) == 1


def test_an_answer_of_another_form_is_one_message(folder: Path, hub: Hub) -> None:
    def fault(handler: Any) -> bool:
        if "preupload" not in handler.path:
            return False
        handler.send([])
        return True

    hub.fault = fault
    with pytest.raises(HubError, match="not one that the Hub's client understands"):
        dc.push(folder, NAME)


def test_an_address_that_signs_in_is_cut(folder: Path, hub: Hub) -> None:
    def fault(handler: Any) -> bool:
        if "/batch" not in handler.path:
            return False
        objects = [
            {**one, "actions": {"upload": {"href": f"{hub.url}/lfs/x?X-Amz-Signature=SECRET"}}}
            for one in handler.json()["objects"]
        ]
        handler.send({"transfer": "basic", "objects": objects})
        return True

    hub.fault = fault
    done = run("push", folder, "--repo-id", NAME)
    assert done.exit_code == 1
    assert "SECRET" not in done.output


def test_a_receipt_that_lacks_what_a_card_tells_is_the_folder_s_fault(folder: Path, hub: Hub) -> None:
    content = dict(open_folder(folder).receipt)
    content["verification"] = {k: v for k, v in content["verification"].items() if k != "reference"}
    (folder / "conversion.json").write_text(receipt.seal(content))
    with pytest.raises(FolderError, match="lacks what a card tells: KeyError"):
        dc.push(folder, NAME)
    assert hub.repositories == {}


@pytest.mark.usefixtures("hub")
def test_a_dry_run_says_what_would_be_made(folder: Path) -> None:
    planned = dc.push(folder, NAME, private=True, dry_run=True)
    assert "the repository, private, is not there" in planned.remarks[0]
    dc.push(folder, NAME)
    planned = dc.push(folder, NAME, revision="dev", dry_run=True)
    assert "the branch dev, is not there" in planned.remarks[0]
    assert "nothing would be sent" in run("push", folder, "--repo-id", NAME, "--dry-run").stdout


def test_an_error_that_repeats_the_token_is_printed_without_it(folder: Path, hub: Hub) -> None:
    def fault(handler: Any) -> bool:
        handler.send({"error": TOKEN}, 400, {"X-Error-Message": f"bad {TOKEN}"})
        return True

    hub.fault = fault
    done = run("push", folder, "--repo-id", NAME, "--json", "-v")
    assert done.exit_code == 1
    assert TOKEN not in done.output


def test_the_command_prints_one_document(folder: Path, hub: Hub) -> None:
    arguments = ("push", folder, "--repo-id", NAME, "--json")
    for status in ("published", "unchanged"):
        document = json.loads(run(*arguments).stdout)
        validate(document, "publication")
        assert (document["status"], document["repo_id"]) == (status, NAME)
        assert document["commit"] == hub.repositories[NAME].refs["main"]
    planned = json.loads(run(*arguments, "--dry-run").stdout)
    validate(planned, "publication")
    assert planned["status"] == "dry-run"
    failed = json.loads(run("push", folder, "--repo-id", "a/b/c", "--json").stdout)
    assert (failed["status"], failed["error"]["type"]) == ("error", "PublishError")


def test_a_program_s_output_has_no_bars_and_quiet_is_silent(folder: Path, tmp_path: Path) -> None:
    with running_hub() as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "cache", TOKEN)}
        script = "from densenet_convert.cli import run; run()"
        for options, printed in ((["-q"], False), ([], True)):
            command = [sys.executable, "-c", script, "push", str(folder), "--repo-id", NAME, *options]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
            assert (done.returncode, done.stderr) == (0, "")
            assert bool(done.stdout) == printed
