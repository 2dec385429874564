"""What is pushed can be signed, is fetched back with its signature, and is signed once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import in_2017_names, save, state_dict_of
from click.testing import CliRunner, Result
from hub_server import Hub, Repository
from signing_keys import write_key

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import PublishError, SignatureError
from densenet_convert.folder.files import SIGNATURE, SIGNATURE_FILES, STATEMENT
from densenet_convert.folder.signature import Expected
from densenet_convert.folder.signed import check_signature
from densenet_convert.hub.fetch import local_folder

pytest.importorskip("model_signing")
# The client's use of its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "user/small"
CARD = "README.md"
OURS = {CARD, "config.json", "conversion.json", "model.safetensors"}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("signing")
    source = save(in_2017_names(state_dict_of()), parent / "old.pth")
    return dc.convert(source, parent / "new", license="mit", device="cpu").folder


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "new"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def files_of(hub: Hub, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories[NAME]
    files = repository.commits[repository.refs[branch]]
    return {name: data for name, data in files.items() if name != ".gitattributes"}


def check_fetched(key: Path, name: str = f"hf://{NAME}") -> str:
    """As verify does it, without the proof."""
    return check_signature(local_folder(name), Expected(key.with_suffix(".pub")))


def test_what_is_signed_as_it_is_sent_is_verified_as_it_is_fetched(folder: Path, key: Path, hub: Hub) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run("push", folder, NAME, "--sign", key)
    assert done.exit_code == 0, done.output
    there = files_of(hub)
    assert there.keys() == {*OURS, *SIGNATURE_FILES}
    assert b"# user/small" in there[CARD]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    verified = dc.verify(f"hf://{NAME}", public_key=key.with_suffix(".pub"), device="cpu")
    assert "by the key with SHA-256" in str(verified.signed_by)


def test_a_second_push_sends_nothing_with_the_key_and_without_it(folder: Path, key: Path, hub: Hub) -> None:
    first = dc.push(folder, NAME, sign=key)
    for sign in (key, None):
        again = dc.push(folder, NAME, sign=sign)
        assert (again.commit, again.changed, again.remarks) == (first.commit, False, ())
    assert len(hub.repositories[NAME].messages) == 2


def test_a_dry_run_names_the_signature(folder: Path, key: Path, hub: Hub) -> None:
    planned = dc.push(folder, NAME, sign=key, dry_run=True)
    assert {file.name for file in planned.files} == {*OURS, *SIGNATURE_FILES}
    assert hub.repositories == {}
    # What Sigstore signs is public for good.
    planned = dc.push(folder, NAME, sign="sigstore", dry_run=True)
    assert {file.name for file in planned.files} == OURS
    assert "verification.intoto.json and model.sig are made when it is sent." in planned.remarks


def test_a_signature_that_does_not_hold_is_made_anew(folder: Path, key: Path, hub: Hub) -> None:
    dc.push(folder, NAME, sign=key)
    broken = files_of(hub)[SIGNATURE].replace(b'"sig":"', b'"sig":"AAAA')
    hub.repositories[NAME].commit("main", {**files_of(hub), SIGNATURE: broken})
    with pytest.raises(SignatureError, match="is not what was signed"):
        check_fetched(key)
    published = dc.push(folder, NAME, sign=key)
    assert [file.name for file in published.files if file.action != "keep"] == [SIGNATURE]
    assert check_fetched(key)


def test_a_push_of_something_else_takes_a_signature_away(folder: Path, key: Path, hub: Hub) -> None:
    dc.push(folder, NAME, sign=key)
    dc.describe(folder, mean=0.5, std=0.5)
    done = run("push", folder, NAME)
    assert done.exit_code == 0, done.output
    assert "are of other files, and are deleted. Push with --sign to sign these." in done.stderr
    assert files_of(hub).keys() == OURS
    assert dc.push(folder, NAME, sign=key).changed
    assert check_fetched(key)


def test_a_signed_folder_is_sent_as_it_is(folder: Path, key: Path, hub: Hub) -> None:
    dc.sign(folder, private_key=key)
    published = dc.push(folder, NAME)
    assert published.remarks == (
        f"{folder} is signed, and is sent as it is. Push with `sign=...` to sign what is sent anew.",
    )
    assert files_of(hub) == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert check_fetched(key)
    assert not dc.push(folder, NAME).changed
    assert dc.push(folder, NAME, sign=key).changed
    assert b"# user/small" in files_of(hub)[CARD]


@pytest.mark.parametrize("change", ["license", "card here", "no card", "card there"])
def test_a_signed_folder_that_would_be_sent_otherwise_is_refused(
    change: str, folder: Path, key: Path, hub: Hub
) -> None:
    dc.sign(folder, private_key=key)
    hub.repositories[NAME] = Repository()
    card = b"---\nlicense: mit\n---\n# By hand\n"
    hub.repositories[NAME].commit("main", {CARD: card} if change == "card there" else {})
    options: dict[str, Any] = {"license": "apache-2.0"} if change == "license" else {}
    if change == "card here":
        (folder / CARD).write_bytes(card)
    elif change == "no card":
        (folder / CARD).unlink()
    with pytest.raises((PublishError, SignatureError), match="sign"):
        dc.push(folder, NAME, **options)
    assert len(hub.repositories[NAME].messages) == 1
    assert dc.push(folder, NAME, sign=key, **options).commit
    assert check_fetched(key)


def test_a_signature_of_somebody_else_alone_stays(folder: Path, hub: Hub) -> None:
    hub.repositories[NAME] = Repository()
    hub.repositories[NAME].commit("main", {SIGNATURE: b"{}"})
    remarks = dc.push(folder, NAME).remarks
    assert f"{NAME}: model.sig is not covered by conversion.json. It is left as it is." in remarks
    assert files_of(hub)[SIGNATURE] == b"{}"


def test_a_changed_byte_on_the_hub_is_refused(folder: Path, key: Path, hub: Hub) -> None:
    dc.push(folder, NAME, sign=key)
    hub.repositories[NAME].commit("main", {**files_of(hub), CARD: files_of(hub)[CARD] + b" "})
    with pytest.raises(SignatureError, match="Hash mismatch for 'README.md'"):
        check_fetched(key)
    hub.repositories[NAME].commit("main", {n: b for n, b in files_of(hub).items() if n != STATEMENT})
    with pytest.raises(SignatureError, match="is not signed: it has no verification.intoto.json"):
        check_fetched(key)


def test_a_pull_request_is_signed_once(folder: Path, key: Path, hub: Hub) -> None:
    hub.repositories[NAME] = Repository()
    hub.repositories[NAME].commit("main", {})
    first, again = (dc.push(folder, NAME, create_pr=True, sign=key) for _ in range(2))
    assert (again.revision, again.commit, again.changed) == ("refs/pr/1", first.commit, False)
    assert check_fetched(key, f"hf://{NAME}@refs/pr/1")


def test_what_is_added_to_a_repository_of_somebody_else_is_not_signed(
    folder: Path, key: Path, hub: Hub
) -> None:
    done = run("push", folder, NAME, "--add", "--sign", key)
    assert done.exit_code == 1
    assert "--add and --sign don't go together" in done.stderr
    assert hub.asked == []


def test_a_key_that_can_not_sign_is_refused_before_the_hub_is_asked(
    folder: Path, key: Path, hub: Hub
) -> None:
    with pytest.raises(SignatureError, match="is a public key"):
        dc.push(folder, NAME, sign=key.with_suffix(".pub"))
    assert hub.asked == []
