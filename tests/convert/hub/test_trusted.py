"""A workflow publishes by its identity: no secret is kept, and its token is good for one repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import in_2017_names, save, state_dict_of
from click.testing import CliRunner, Result
from hub_server import IDENTITY, REQUEST_TOKEN, Hub, Repository
from huggingface_hub import errors, utils
from signing_keys import write_key

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import HubError, PublishError

NAME = "user/small"
MESSAGE = "DenseNet, converted by densenet-convert 0.1.0"
needs_exchange = pytest.mark.skipif(
    not hasattr(errors, "OIDCError"), reason="huggingface_hub exchanges identities since 1.19"
)
# The client's use of its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("trusted")
    source = save(in_2017_names(state_dict_of()), parent / "old.pth")
    return dc.convert(source, parent / "new", license="mit", device="cpu").folder


@pytest.fixture
def workflow(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A job of a workflow that the repository trusts, with its identity at hand, and an empty repository."""
    monkeypatch.setattr(utils._auth, "_OIDC_TOKEN_CACHE", None, raising=False)
    for name in ("GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_OIDC_RESOURCE", NAME)
    monkeypatch.setenv("HF_OIDC_ID_TOKEN", IDENTITY)
    hub.trusted = {NAME}
    hub.repositories[NAME] = Repository(private=True)
    hub.repositories[NAME].commit("main", {"LICENSE": b"mit"})
    return hub


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def paths(hub: Hub) -> list[str]:
    return [path for _, path in hub.asked]


@needs_exchange
def test_an_identity_publishes_where_no_token_is(folder: Path, workflow: Hub) -> None:
    done = run("push", folder, NAME)
    assert (done.exit_code, done.stdout[:27]) == (0, "user/small, main: published"), done.output
    assert set(workflow.issued.values()) == {NAME}
    assert paths(workflow).count("/oauth/token") == 1
    assert "/api/whoami-v2" not in paths(workflow)
    assert workflow.repositories[NAME].messages[1:] == [MESSAGE]
    assert not dc.push(folder, NAME).changed


@needs_exchange
def test_an_identity_goes_before_a_token_and_github_s_own_is_asked_for_the_hub(
    folder: Path, workflow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    monkeypatch.delenv("HF_OIDC_ID_TOKEN")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{workflow.url}/identity?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN)
    assert dc.push(folder, NAME).commit == workflow.repositories[NAME].refs["main"]
    assert any(path.startswith("/identity?") for path in paths(workflow))


@needs_exchange
def test_a_pull_request_is_opened_once_and_that_of_a_stranger_is_left_alone(
    folder: Path, workflow: Hub
) -> None:
    repository = workflow.repositories[NAME]
    repository.pull_requests.append(MESSAGE)
    repository.authors[1] = "stranger"
    stranger_s = repository.commit("refs/pr/1", {"LICENSE": b"mit", "evil.py": b"import this"})
    first = dc.push(folder, NAME, create_pr=True)
    again = dc.push(folder, NAME, create_pr=True)
    assert (first.revision, first.changed) == ("refs/pr/2", True)
    assert (again.revision, again.commit, again.changed) == ("refs/pr/2", first.commit, False)
    assert repository.refs["refs/pr/1"] == stranger_s
    assert "/api/whoami-v2" not in paths(workflow)


@needs_exchange
def test_a_signed_pull_request_is_opened_once(folder: Path, workflow: Hub, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    key = write_key(tmp_path)
    first, again = (dc.push(folder, NAME, create_pr=True, sign=key) for _ in range(2))
    assert (again.revision, again.commit, again.changed) == ("refs/pr/1", first.commit, False)
    assert len(workflow.repositories[NAME].pull_requests) == 1


@needs_exchange
def test_a_request_of_a_stranger_that_adds_more_is_not_taken_for_the_workflow_s(
    folder: Path, workflow: Hub
) -> None:
    repository = workflow.repositories[NAME]
    dc.push(folder, NAME, create_pr=True)
    files = repository.commits[repository.refs["refs/pr/1"]]
    repository.commit("refs/pr/1", {**files, "evil.py": b"import this"})
    assert dc.push(folder, NAME, create_pr=True).revision == "refs/pr/2"


@needs_exchange
def test_a_conversion_is_added_to_the_repository_that_trusts_the_workflow(
    folder: Path, workflow: Hub
) -> None:
    original = (folder.parent / "old.pth").read_bytes()
    workflow.repositories[NAME].commit("main", {"old.pth": original})
    first, again = (dc.push(folder, NAME, add=True) for _ in range(2))
    assert (first.revision, again.revision, again.changed) == ("refs/pr/1", "refs/pr/1", False)
    assert "/api/whoami-v2" not in paths(workflow)


def refusal(folder: Path, hub: Hub, name: str = NAME, **options: Any) -> str:
    """What is said where nothing is published."""
    before = {branch: dict(one.refs) for branch, one in hub.repositories.items()}
    with pytest.raises((HubError, PublishError)) as error:
        dc.push(folder, name, **options)
    assert {branch: dict(one.refs) for branch, one in hub.repositories.items()} == before
    assert IDENTITY not in str(error.value)
    return str(error.value)


@needs_exchange
def test_no_identity_is_one_message_of_what_the_client_says(
    folder: Path, workflow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_OIDC_ID_TOKEN")
    assert "Set HF_OIDC_ID_TOKEN to the id token minted by your CI" in refusal(folder, workflow)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "Make sure the workflow job sets `permissions: id-token: write`" in refusal(folder, workflow)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{workflow.url}/identity?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of_a_fork")
    assert "GitHub gives this job no identity (401): it needs" in refusal(folder, workflow)
    assert "/oauth/token" not in paths(workflow)


@needs_exchange
def test_an_identity_that_the_repository_does_not_trust_is_asked_for_once(
    folder: Path, workflow: Hub
) -> None:
    workflow.trusted.clear()
    assert "does not take this workflow's identity for user/small (403): add this" in refusal(
        folder, workflow
    )
    assert paths(workflow).count("/oauth/token") == 1
    done = run("push", folder, NAME, "-v", "--json")
    assert done.exit_code == 1
    assert IDENTITY not in done.output


@needs_exchange
def test_a_repository_that_is_missing_is_not_made_by_a_workflow(folder: Path, workflow: Hub) -> None:
    del workflow.repositories[NAME]
    for dry_run in (True, False):
        assert "is not there, and a workflow can't make it" in refusal(folder, workflow, dry_run=dry_run)


@needs_exchange
@pytest.mark.parametrize("name", ["small", "user/other"])
def test_another_name_than_the_one_that_is_trusted_is_refused(name: str, folder: Path, workflow: Hub) -> None:
    assert "HF_OIDC_RESOURCE is user/small, expected one OWNER/NAME" in refusal(folder, workflow, name)
    assert workflow.asked == []


@needs_exchange
def test_a_token_beside_an_identity_is_refused(folder: Path, workflow: Hub) -> None:
    assert "take one of them away" in refusal(folder, workflow, token="hf_of_somebody")
    assert workflow.asked == []


def test_a_client_that_is_too_old_is_named(
    folder: Path, workflow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(errors, "OIDCError", raising=False)
    assert "is too old to sign in by it, expected 1.19 or later: pip install" in refusal(folder, workflow)
    assert workflow.asked == []
