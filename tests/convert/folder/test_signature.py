"""A signed folder says what was verified and who vouches for it, and every changed byte of it is refused."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from schemas import validate
from signing_keys import write_key

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.errors import FolderError, SignatureError
from densenet_convert.folder.files import SIGNATURE, STATEMENT, file_sha256
from densenet_convert.folder.signature import Expected
from densenet_convert.folder.signed import check_signature

pytest.importorskip("model_signing")

FILES = ("README.md", "config.json", "conversion.json", "model.safetensors", "parity.safetensors", STATEMENT)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def made(converted_with_golden: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed folder that no test may change."""
    folder = Path(shutil.copytree(converted_with_golden, tmp_path_factory.mktemp("signed") / "chest"))
    dc.sign(folder, private_key=key)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "chest"))


@pytest.fixture
def unsigned(folder: Path) -> Path:
    (folder / SIGNATURE).unlink()
    (folder / STATEMENT).unlink()
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def model_signing(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def by_hand(folder: Path, key: Path, **options: Any) -> None:
    """Signs a folder by the library alone."""
    from model_signing import hashing, signing

    ignored = [SIGNATURE, *options.get("ignored", ())]
    config = signing.Config().use_elliptic_key_signer(private_key=key)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=ignored)).sign(
        folder, folder / SIGNATURE
    )


def change_signature(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / SIGNATURE).read_text())
    change(content)
    (folder / SIGNATURE).write_text(json.dumps(content))


def test_verify_says_who_signed(folder: Path, key: Path) -> None:
    done = run("verify", folder, "--public-key", key.with_suffix(".pub"), "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert f"signed      by the key with SHA-256 {file_sha256(key.with_suffix('.pub'))}" in done.stdout
    assert done.stderr == ""


def test_the_packages_own_command_takes_the_folder(folder: Path, key: Path) -> None:
    asked = (
        "verify",
        "key",
        folder,
        "--signature",
        folder / SIGNATURE,
        "--public_key",
        key.with_suffix(".pub"),
    )
    assert model_signing(*asked).stdout == "Verification succeeded\n"
    (folder / "notes.txt").touch()
    assert model_signing(*asked, "--ignore_unsigned_files").returncode == 0


def test_the_statement_is_of_in_toto_s_form_and_names_files_source_converter_and_proof(made: Path) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2

    text = (made / STATEMENT).read_text()
    statement = json_format.Parse(text, statement_pb2.Statement())
    predicate = json_format.ParseDict(json.loads(text)["predicate"], test_result_pb2.TestResult())
    receipt = json.loads((made / "conversion.json").read_text())
    assert statement.type == "https://in-toto.io/Statement/v1"
    assert statement.predicate_type == "https://in-toto.io/attestation/test-result/v0.1"
    digests = {one.name: dict(one.digest)["sha256"] for one in statement.subject}
    assert digests == {name: file_sha256(made / name) for name in FILES if name != STATEMENT}
    assert (predicate.result, predicate.failed_tests) == ("PASSED", [])
    assert set(predicate.passed_tests) == receipt["verification"]["compared"].keys()
    source, converter, proof = predicate.configuration
    assert dict(source.digest) == {"sha256": receipt["source"]["sha256"]}
    assert converter.uri == f"pkg:pypi/densenet-convert@{dc.__version__}"
    assert proof.annotations["reference"] == receipt["verification"]["reference"]
    assert proof.annotations["every_input"]["logits"] == "equal"


def test_the_same_again_keeps_the_signature_and_another_key_replaces_it(
    folder: Path, key: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert dc.sign(folder, private_key=key).skipped
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    other = write_key(tmp_path, "other", "SECP521R1")
    assert not dc.sign(folder, private_key=other).skipped
    assert (folder / STATEMENT).read_bytes() == before[STATEMENT]
    assert check_signature(folder, Expected(other.with_suffix(".pub")))


@pytest.mark.parametrize("name", [*FILES, SIGNATURE])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_every_changed_byte_of_every_file_is_refused(name: str, where: str, folder: Path, key: Path) -> None:
    data = bytearray((folder / name).read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[where]] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(SignatureError, match="is not what was signed by the key with") as error:
        dc.verify(folder, public_key=key.with_suffix(".pub"))
    found = SIGNATURE if name == SIGNATURE else f": Hash mismatch for '{name}'. Get the folder again"
    assert found in str(error.value)


def test_a_changed_byte_of_the_signature_is_refused_or_says_the_same(folder: Path, key: Path) -> None:
    """Some bytes of it stand for nothing, such as the last bits of base64."""
    before = (folder / SIGNATURE).read_bytes()
    signed = json.loads(before)["dsseEnvelope"]["payload"]
    refused = 0
    for place in range(0, len(before), 41):
        (folder / SIGNATURE).write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        try:
            check_signature(folder, Expected(key.with_suffix(".pub")))
        except SignatureError:
            refused += 1
        else:
            assert json.loads((folder / SIGNATURE).read_bytes())["dsseEnvelope"]["payload"] == signed
    assert refused > len(before) // 41 * 0.9


@pytest.mark.parametrize("name", [SIGNATURE, STATEMENT])
def test_a_signature_of_any_length_is_not_read(name: str, folder: Path, key: Path) -> None:
    with (folder / name).open("ab") as file:
        file.truncate(1 << 21)
    with pytest.raises(SignatureError, match=f"{name} is longer than any signature"):
        dc.verify(folder, public_key=key.with_suffix(".pub"))


@pytest.mark.parametrize("name", ["README.md", "parity.safetensors", "model.safetensors"])
def test_a_file_that_went_is_named(name: str, folder: Path, key: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(SignatureError, match=f"Missing files in model 'chest': {name}"):
        dc.verify(folder, public_key=key.with_suffix(".pub"))


def test_a_card_that_was_added_is_not_signed(unsigned: Path, key: Path) -> None:
    card = (unsigned / "README.md").read_bytes()
    (unsigned / "README.md").unlink()
    dc.sign(unsigned, private_key=key)
    (unsigned / "README.md").write_bytes(card)
    with pytest.raises(SignatureError, match="Extra files found in model 'chest': README.md"):
        dc.verify(unsigned, public_key=key.with_suffix(".pub"))


def test_an_edited_card_is_only_named_where_nobody_asks_who_signed(
    folder: Path, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "README.md").write_text("# Mine\n")
    assert dc.verify(folder, device="cpu").signed_by is None
    assert "was edited: nothing in it is proven" in caplog.text
    assert not dc.sign(folder, private_key=key).skipped
    assert check_signature(folder, Expected(key.with_suffix(".pub")))


@pytest.mark.parametrize("gone", [[SIGNATURE], [STATEMENT], [SIGNATURE, STATEMENT]])
def test_a_signature_that_is_asked_for_and_missing_is_refused(
    gone: list[str], folder: Path, key: Path
) -> None:
    for name in gone:
        (folder / name).unlink()
    done = run("verify", folder, "--public-key", key.with_suffix(".pub"), "--json")
    assert done.exit_code == 1
    assert f"is not signed: it has no {gone[-1]}" in json.loads(done.stdout)["error"]["message"]


def test_another_key_is_refused_whatever_the_signature_says_of_its_key(
    folder: Path, key: Path, tmp_path: Path
) -> None:
    other = write_key(tmp_path, "other").with_suffix(".pub")
    for hint in (None, file_sha256(other), file_sha256(key.with_suffix(".pub"))):
        change_signature(folder, lambda one: one["verificationMaterial"]["publicKey"].update(hint=hint))  # noqa: B023
        done = run("verify", folder, "--public-key", other, "--json")
        assert done.exit_code == 1
        assert "model.sig is not of this key" in json.loads(done.stdout)["error"]["message"]


def test_a_signature_of_another_folder_by_the_same_key_is_refused(
    folder: Path, converted: Path, key: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(converted, tmp_path / "other"))
    dc.sign(other, private_key=key)
    for name in (SIGNATURE, STATEMENT):
        shutil.copy(other / name, folder / name)
    with pytest.raises(SignatureError, match="Extra files found .*parity.safetensors"):
        dc.verify(folder, public_key=key.with_suffix(".pub"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda one: one.update(_type="https://in-toto.io/Statement/v0.1"), "_type"),
        (lambda one: one["predicate"].update(result="FAILED"), "result"),
        (lambda one: one["subject"].pop(), "subject"),
        (lambda one: one["predicate"]["configuration"][0]["digest"].update(sha256="0" * 64), "source"),
        (lambda one: one.pop("predicate"), "form"),
    ],
)
def test_a_statement_that_is_signed_and_of_something_else_is_refused(
    change: Callable[[dict[str, Any]], None], named: str, folder: Path, key: Path
) -> None:
    content = json.loads((folder / STATEMENT).read_text())
    change(content)
    (folder / STATEMENT).write_text(json.dumps(content))
    by_hand(folder, key)
    with pytest.raises(SignatureError, match=f"is not about these files: it has another {named}"):
        dc.verify(folder, public_key=key.with_suffix(".pub"))


def test_a_file_that_the_library_was_asked_to_leave_out_is_not_signed(folder: Path, key: Path) -> None:
    by_hand(folder, key, ignored=["README.md"])
    with pytest.raises(SignatureError, match="Extra files found in model 'chest': README.md"):
        dc.verify(folder, public_key=key.with_suffix(".pub"))


def test_other_files_may_lie_beside_signed_ones_and_count_where_they_are_signed(
    folder: Path, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "notes.txt").write_text("mine")
    public = key.with_suffix(".pub")
    assert check_signature(folder, Expected(public))
    dc.sign(folder, private_key=key)
    assert "notes.txt is not covered by conversion.json. It is not signed." in caplog.text
    by_hand(folder, key)
    assert check_signature(folder, Expected(public))
    (folder / "notes.txt").write_text("yours")
    with pytest.raises(SignatureError, match=r"Hash mismatch for 'notes.txt'"):
        check_signature(folder, Expected(public))


def test_a_folder_of_links_is_verified_and_not_signed(folder: Path, key: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    assert check_signature(links, Expected(key.with_suffix(".pub")))
    with pytest.raises(FolderError, match="holds links, .*sign the copy"):
        dc.sign(links, private_key=key)


def test_what_can_not_sign_is_named_with_what_can_and_nothing_is_written(
    unsigned: Path, key: Path, tmp_path: Path
) -> None:
    before = sorted(path.name for path in unsigned.iterdir())
    (tmp_path / "junk.pem").write_text("junk")
    refused = {
        tmp_path / "none.pem": "can't be read: No such file",
        tmp_path / "junk.pem": "is no private key in PEM",
        key.with_suffix(".pub"): "is a public key, which checks a signature. Name the private one",
        write_key(
            tmp_path, "hidden", password="x"
        ): "is encrypted, and no password is asked for.*openssl pkey",
        write_key(tmp_path, "rsa", "RSA"): "another kind, expected an elliptic curve.*openssl ecparam",
        write_key(tmp_path, "ed25519", "ED25519"): "another kind, expected an elliptic curve",
        write_key(tmp_path, "bitcoin", "SECP256K1"): "the curve secp256k1, expected",
    }
    for path, message in refused.items():
        with pytest.raises(SignatureError, match=message):
            dc.sign(unsigned, private_key=path)
    with pytest.raises(SignatureError, match="Name either a key"):
        dc.sign(unsigned)
    with pytest.raises(SignatureError, match="is a private key, which nobody else may have.*openssl pkey"):
        dc.verify(unsigned, public_key=key)
    assert sorted(path.name for path in unsigned.iterdir()) == before


def test_who_must_have_signed_is_named_in_one_way(folder: Path, key: Path) -> None:
    for options, message in (
        ({"identity": "a@b.c"}, "go together: name both"),
        ({"identity_provider": "https://b.c"}, "go together: name both"),
        ({"identity": "a", "identity_provider": "b", "public_key": key}, "two ways to sign: name one"),
    ):
        with pytest.raises(SignatureError, match=message):
            dc.verify(folder, **options)  # type: ignore[arg-type]


def test_without_the_extra_the_message_names_it(
    folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    monkeypatch.setitem(sys.modules, "model_signing.signing", None)
    advice = r'not installed: pip install "densenet-convert\[sign\]"'
    with pytest.raises(SignatureError, match=advice):
        dc.sign(folder, private_key=key)
    with pytest.raises(SignatureError, match=advice):
        dc.verify(folder, public_key=key.with_suffix(".pub"))


def test_what_was_signed_before_stays_where_signing_fails(
    folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_signing import signing

    dc.describe(folder, license="mit")
    dc.sign(folder, private_key=key)
    (folder / "README.md").write_text("# Mine\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(signing.Config, "sign", fail)
    with pytest.raises(SignatureError, match="was not signed: no network"):
        dc.sign(folder, private_key=key)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_disagrees_with_its_receipt_is_not_signed(unsigned: Path, key: Path) -> None:
    (unsigned / "config.json").write_text("{}")
    with pytest.raises(FolderError, match="config.json was changed"):
        dc.sign(unsigned, private_key=key)
    assert not (unsigned / STATEMENT).exists()


def test_describe_takes_the_signature_away_and_says_so(
    folder: Path, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dc.describe(folder, license="mit")
    both = "verification.intoto.json and model.sig"
    assert f"{folder}: {both} signed what it said before, and went. Sign it again." in caplog.text
    assert not {SIGNATURE, STATEMENT} & {path.name for path in folder.iterdir()}
    dc.sign(folder, private_key=key)
    assert check_signature(folder, Expected(key.with_suffix(".pub")))


def test_the_same_conversion_again_keeps_a_signature_and_force_replaces_the_folder(
    converted: Path, key: Path, tmp_path: Path
) -> None:
    folder, source = Path(shutil.copytree(converted, tmp_path / "out")), converted.with_name("source.pth")
    dc.sign(folder, private_key=key)
    assert dc.convert(source, folder, device="cpu").skipped
    assert check_signature(folder, Expected(key.with_suffix(".pub")))
    dc.convert(source, folder, device="cpu", force=True)
    assert not {SIGNATURE, STATEMENT} & {path.name for path in folder.iterdir()}


def test_neither_file_of_a_signature_is_called_uncovered_and_one_alone_is(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dc.DenseNet.from_pretrained(folder)
    dc.verify(folder, device="cpu")
    assert "not covered" not in caplog.text
    (folder / STATEMENT).unlink()
    dc.verify(folder, device="cpu")
    assert "model.sig is not covered by conversion.json" in caplog.text


def test_the_command_prints_one_document_and_its_message_is_in_its_own_words(
    unsigned: Path, key: Path
) -> None:
    for status in ("signed", "skipped"):
        document = json.loads(run("sign", unsigned, "--private-key", key, "--json").stdout)
        validate(document, "signature")
        assert (document["status"], document["files"]) == (status, list(FILES))
    verified = run("verify", unsigned, "--public-key", key.with_suffix(".pub"), "--device", "cpu", "--json")
    validate(json.loads(verified.stdout), "conversion")
    assert json.loads(verified.stdout)["signed_by"] == document["signed_by"]
    assert "Name either a key, --private-key, or --sigstore." in run("sign", unsigned).stderr


@pytest.fixture
def sigstore(key: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for the public service: a key signs in its place. What the library was asked is listed."""
    from model_signing import signing, verifying

    asked: list[dict[str, Any]] = []

    def sign(config: signing.Config, **options: Any) -> signing.Config:
        asked.append(options)
        return config.use_elliptic_key_signer(private_key=key)

    def check(config: verifying.Config, **options: Any) -> verifying.Config:
        asked.append(options)
        return config.use_elliptic_key_verifier(public_key=key.with_suffix(".pub"))

    monkeypatch.setattr(signing.Config, "use_sigstore_signer", sign)
    monkeypatch.setattr(verifying.Config, "use_sigstore_verifier", check)
    return asked


def test_an_identity_is_passed_on_to_the_library(unsigned: Path, sigstore: list[dict[str, Any]]) -> None:
    assert run("sign", unsigned, "--sigstore").stdout.splitlines()[1].split() == ["signed", "by", "Sigstore"]
    asked = ("--identity", "a@b.c", "--identity-provider", "https://b.c", "--device", "cpu")
    done = run("verify", unsigned, *asked)
    assert done.exit_code == 0, done.output
    assert "by a@b.c, as https://b.c says" in done.stdout
    assert sigstore == [
        {"use_ambient_credentials": True},
        {"identity": "a@b.c", "oidc_issuer": "https://b.c"},
    ]


def test_a_signature_made_by_a_key_is_none_of_an_identity(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own reader of Sigstore's bundles refuses it, before anything is asked of a network."""
    from model_signing import verifying

    def check(config: verifying.Config, **_: Any) -> verifying.Config:
        config._uses_sigstore, config._verifier = True, object()
        return config

    monkeypatch.setattr(verifying.Config, "use_sigstore_verifier", check)
    with pytest.raises(SignatureError, match="is not what was signed by a@b.c, as https://b.c says"):
        dc.verify(folder, identity="a@b.c", identity_provider="https://b.c")


def test_the_statement_is_the_same_on_every_run_and_names_no_place(
    converted_with_golden: Path, made: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(converted_with_golden, tmp_path / "other"))
    dc.sign(other, private_key=write_key(tmp_path))
    assert (other / STATEMENT).read_bytes() == (made / STATEMENT).read_bytes()
    payload = base64.b64decode(json.loads((made / SIGNATURE).read_text())["dsseEnvelope"]["payload"])
    assert str(made.parent).encode() not in payload + (made / STATEMENT).read_bytes()
