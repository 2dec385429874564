"""A conversion is proposed to the repository that holds its original: at most three files are added."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL, in_2017_names, save, state_dict_of
from click.testing import CliRunner
from hub_server import Hub, Repository
from huggingface_hub import ModelCard

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES, DenseNet, DenseNetConfig
from densenet_convert.densenet.config_file import config_json
from densenet_convert.errors import FolderError, HubError, PublishError
from densenet_convert.folder import receipt
from densenet_convert.hub.their_config import contradictions

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "somebody/chest"
ADDED = {"model.safetensors", "conversion.json", "config.json"}
CARD = b"---\nlicense: mit\n---\n# By hand\n"
OURS = json.dumps(config_json(SMALL)).encode()
# What the repository holds beside the original, and how many files are added to it.
SHAPES: dict[str, tuple[dict[str, bytes], int]] = {
    "with a card": ({"README.md": CARD, "LICENSE": b"mit"}, 3),
    "without a card": ({}, 3),
    "with a foreign config": ({"config.json": b'{"lr": 0.1, "epochs": 3}'}, 2),
    "with a config that says the same": ({"config.json": OURS, "README.md": CARD}, 2),
    "with transformers' config": (
        {
            "config.json": json.dumps(
                {"model_type": "densenet", "id2label": dict.fromkeys("01234", "x")}
            ).encode()
        },
        2,
    ),
    "with several checkpoints": ({"other.pth": b"another", "pytorch_model.bin": b"a third"}, 3),
    "with pictures and code": ({"images/one.png": b"png", "train.py": b"import torch"}, 3),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("propose")
    source = save(in_2017_names(state_dict_of()), folder / "chest.pth")
    return dc.convert(source, folder / "chest", labels=list("abcde"), device="cpu").folder


@pytest.fixture
def original(converted: Path) -> bytes:
    return (converted.parent / "chest.pth").read_bytes()


def publish(hub: Hub, files: dict[str, bytes]) -> Repository:
    made = hub.repositories[NAME] = Repository()
    made.commit("main", {**files, ".gitattributes": b""})
    return made


def files_of(repository: Repository, branch: str = "main") -> dict[str, bytes]:
    return repository.commits[repository.refs[branch]]


@pytest.mark.parametrize(("shape", "large"), [*((shape, False) for shape in SHAPES), ("with a card", True)])
def test_three_files_are_added_none_is_deleted_and_a_second_run_adds_nothing(
    shape: str, large: bool, converted: Path, original: bytes, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:  # so that the original goes through LFS, as large files do
        monkeypatch.setattr("hub_server.LARGE", 1 << 12)
    others, added = SHAPES[shape]
    repository = publish(hub, {**others, "chest.pth": original})
    before = dict(files_of(repository))
    sent = dc.push(converted, NAME, add=True)
    assert (sent.revision, sent.url) == ("refs/pr/1", f"{hub.url}/{NAME}/discussions/1")
    proposed = files_of(repository, "refs/pr/1")
    assert files_of(repository) == before
    assert proposed.items() >= before.items()
    assert len(proposed.keys() - before.keys()) == added
    assert proposed.keys() - before.keys() <= ADDED
    again = dc.push(converted, NAME, add=True)
    assert (again.revision, again.changed, len(repository.pull_requests)) == ("refs/pr/1", False, 1)
    repository.merge(1)
    merged = dc.push(converted, NAME, add=True)
    assert (merged.revision, merged.changed, len(repository.pull_requests)) == ("main", False, 1)
    assert files_of(repository) == proposed


def test_to_weights_that_are_there_already_a_receipt_is_added(
    converted: Path, original: bytes, hub: Hub
) -> None:
    weights = (converted / "model.safetensors").read_bytes()
    repository = publish(hub, {"model.safetensors": weights, "config.json": OURS, "chest.pth": original})
    sent = dc.push(converted, NAME, add=True)
    assert {file.name: file.action for file in sent.files} == {
        "conversion.json": "add",
        "model.safetensors": "keep",
    }
    assert files_of(repository, "refs/pr/1").keys() - files_of(repository).keys() == {"conversion.json"}
    assert dc.verify(f"hf://{NAME}@refs/pr/1", device="cpu")


def test_timm_loads_what_was_added_by_the_config_that_was_there(hub: Hub, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    config = DenseNetConfig(**{**ARCHITECTURES["densenet121"].__dict__, "num_classes": 3})
    source = save(in_2017_names(state_dict_of(config)), tmp_path / "chest.pth")
    folder = dc.convert(source, tmp_path / "chest", device="cpu").folder
    theirs = {
        "architecture": "densenet121",
        "num_classes": 3,
        "pretrained_cfg": {"input_size": [3, 224, 224]},
    }
    files = {"pytorch_model.bin": source.read_bytes(), "config.json": json.dumps(theirs).encode()}
    repository = publish(hub, files)
    dc.push(folder, NAME, add=True)
    (tmp_path / "there").mkdir()
    for name, data in files_of(repository, "refs/pr/1").items():
        (tmp_path / "there" / name).write_bytes(data)
    network = timm.create_model(f"local-dir:{tmp_path / 'there'}", pretrained=True).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(x), DenseNet.from_pretrained(tmp_path / "there")(x))


def test_what_was_proposed_and_what_was_merged_verifies_and_loads(
    converted: Path, original: bytes, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = b'{"architectures": ["DenseNetForChest"]}'
    repository = publish(hub, {"config.json": theirs, "README.md": CARD, "chest.pth": original})
    dc.push(converted, NAME, add=True)
    for name in (f"hf://{NAME}@refs/pr/1", f"hf://{NAME}"):
        assert dc.verify(name, source=f"hf://{NAME}/chest.pth", device="cpu")
        assert f"{name}: README.md, chest.pth, config.json are not covered by conversion.json." in caplog.text
        revision = "refs/pr/1" if "@" in name else None
        network = DenseNet.from_pretrained(NAME, revision=revision)
        assert network.config == SMALL
        assert (
            f"{NAME}: not covered by conversion.json: 'README.md', 'chest.pth', 'config.json'" in caplog.text
        )
        if revision:
            repository.merge(1)
    assert "was edited" not in caplog.text
    assert ModelCard(files_of(repository)["README.md"].decode()).data.license == "mit"


def test_the_receipt_lists_what_is_added_alone(converted: Path, original: bytes, hub: Hub) -> None:
    repository = publish(hub, {"config.json": b"{}", "chest.pth": original})
    dc.push(converted, NAME, add=True)
    content = receipt.unseal(files_of(repository, "refs/pr/1")["conversion.json"].decode())
    assert set(content["files"]) == {"model.safetensors"}
    assert content["verification"]["files"] == {}
    assert content["added_to"] == {"repository": NAME, "file": "chest.pth"}
    assert content["labels"]["sha256"] is None


def test_the_network_is_that_of_the_receipt_where_their_config_says_less(
    original: bytes, hub: Hub, tmp_path: Path
) -> None:
    """Epsilon is in no shape: a config.json that says nothing of it would give another network."""
    (tmp_path / "chest.pth").write_bytes(original)
    (tmp_path / "in").mkdir()
    model = DenseNet(DenseNetConfig(**{**SMALL.__dict__, "norm_eps": 1e-3}))
    model.load_state_dict(state_dict_of())
    model.save_pretrained(tmp_path / "in")
    weights = tmp_path / "in" / "model.safetensors"
    folder = dc.convert(weights, tmp_path / "new", device="cpu").folder
    publish(hub, {"config.json": b"{}", "net/weights.safetensors": weights.read_bytes()})
    dc.push(folder, NAME, add=True)
    assert DenseNet.from_pretrained(NAME, revision="refs/pr/1").config.norm_eps == 1e-3


def test_the_description_says_from_which_file_how_it_was_proven_and_how_it_is_checked(
    converted: Path, original: bytes, hub: Hub
) -> None:
    repository = publish(hub, {"README.md": CARD, "chest.pth": original})
    planned = dc.push(converted, NAME, add=True, dry_run=True)
    assert repository.pull_requests == []
    assert f"densenet-convert verify hf://{NAME}@refs/pr/N --source" in planned.description
    dc.push(converted, NAME, add=True)
    assert repository.pull_requests == [
        "Add model.safetensors: DenseNet, converted from chest.pth by densenet-convert"
    ]
    text = repository.descriptions[1]
    digest = json.loads((converted / "conversion.json").read_text())["source"]["sha256"]
    for said in (
        f"converted from `chest.pth` of this repository, SHA-256 `{digest}`",
        "logits, gradients and buffers are equal for every input of these shapes",
        "the largest difference is 0",
        "left as they are: README.md, chest.pth.",
        "Nothing is deleted or replaced",
    ):
        assert said in text
    (command,) = [line for line in text.splitlines() if line.startswith("densenet-convert verify")]
    assert command == f"densenet-convert verify hf://{NAME}@refs/pr/1 --source hf://{NAME}/chest.pth"
    done = CliRunner().invoke(main, [*command.split()[1:], "--device", "cpu"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        ({"chest.pth": b"another"}, PublishError, "does not hold what .* was converted from: no file"),
        (
            {"model.safetensors": b"theirs"},
            PublishError,
            "holds another model.safetensors, and nothing is rep",
        ),
        ({"conversion.json": b"{}"}, PublishError, "holds another conversion.json"),
        (
            {"model.safetensors.index.json": b"{}"},
            FolderError,
            "holds model.safetensors.index.json: other load",
        ),
        ({"model-00001-of-00002.safetensors": b""}, FolderError, "holds model-00001-of-00002"),
        (
            {"config.json": b'{"auto_map": {"AutoModel": "net.Net"}}', "net.py": b""},
            FolderError,
            "holds net.py, which auto_map in config.json names: other loaders",
        ),
        (
            {"config.json": b'{"architecture": "densenet169", "num_classes": 14}'},
            PublishError,
            "architecture is densenet169, expected none.*; num_classes is 14, expected 5",
        ),
        ({"config.json": b'{"model_type": "bert"}'}, PublishError, "model_type is bert"),
    ],
)
def test_what_could_not_be_added_or_would_not_be_taken_is_refused(
    files: dict[str, bytes], kind: type[Exception], message: str, converted: Path, original: bytes, hub: Hub
) -> None:
    repository = publish(hub, {"chest.pth": original, **files})
    with pytest.raises(kind, match=message):
        dc.push(converted, NAME, add=True)
    assert (repository.pull_requests, len(repository.commits)) == ([], 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"architecture": "densenet121", "num_classes": 5}, ""),
        ({"architecture": "tv_densenet121.in1k", "pretrained_cfg": {"num_classes": 5}}, ""),
        ({"architectures": ["TimmWrapperForImageClassification"], "model_type": "timm_wrapper"}, ""),
        ({"growth_rate": 32, "block_config": [6, 12, 24, 16], "norm_eps": 1e-5}, ""),
        ({"architecture": "densenet169"}, "architecture is densenet169, expected densenet121"),
        ({"architecture": "resnet50"}, "architecture is resnet50, expected densenet121"),
        ({"architectures": ["BertModel"]}, "architectures has BertModel"),
        ({"norm_eps": 1e-3}, "norm_eps is 0.001, expected 1e-05"),
        ({"final_relu": False}, "final_relu is False, expected True"),
        ({"id2label": {"0": "a"}}, "the number of id2label is 1, expected 5"),
        (
            {"pretrained_cfg": {"input_size": [1, 224, 224]}},
            r"pretrained_cfg.input_size\[0\] is 1, expected 3",
        ),
        (
            {"architecture": "densenet121", "model_args": {"in_chans": 1}},
            "model_args.in_chans is 1, expected 3",
        ),
        ([], "it holds no object"),
    ],
)
def test_a_config_is_held_against_the_network(content: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    config = DenseNetConfig(**{**ARCHITECTURES["densenet121"].__dict__, "num_classes": 5})
    found = "; ".join(contradictions(tmp_path / "config.json", config))
    assert (pytest.importorskip("re").search(said, found) is not None) == bool(said or not found)
    assert bool(found) == bool(said)


def test_an_open_pull_request_of_the_same_kind_is_not_opened_twice(
    converted: Path, original: bytes, hub: Hub
) -> None:
    repository = publish(hub, {"chest.pth": original})
    dc.push(converted, NAME, add=True)
    repository.authors[1] = "somebody else"
    assert not dc.push(converted, NAME, add=True).changed
    # One of this title that has other files, of somebody else's, is none of ours.
    repository.commit("refs/pr/1", dict(files_of(repository)))
    assert dc.push(converted, NAME, add=True).revision == "refs/pr/2"
    # One of our own is gone on with.
    repository.commit("refs/pr/2", dict(files_of(repository)))
    assert dc.push(converted, NAME, add=True).revision == "refs/pr/2"
    assert len(repository.pull_requests) == 2


def test_of_a_gated_repository_the_owner_must_let_one_in(converted: Path, original: bytes, hub: Hub) -> None:
    repository = publish(hub, {"chest.pth": original})
    repository.gated = True
    with pytest.raises(HubError, match="its owner must let you in"):
        dc.push(converted, NAME, add=True)
    assert repository.pull_requests == []


def test_a_repository_that_is_not_there_or_options_that_do_not_fit_are_refused(
    converted: Path, hub: Hub
) -> None:
    with pytest.raises(HubError, match="it is not there, or private"):
        dc.push(converted, NAME, add=True)
    for options in ({"license": "mit"}, {"private": True}, {"revision": "dev"}, {"create_pr": True}):
        with pytest.raises(PublishError, match="What is added is a pull request"):
            dc.push(converted, NAME, add=True, **options)  # type: ignore[arg-type]
    assert NAME not in hub.repositories


def test_a_config_that_is_not_the_conversion_s_is_not_replaced_by_a_push(
    converted: Path, original: bytes, hub: Hub
) -> None:
    repository = publish(hub, {"config.json": b"{}", "chest.pth": original})
    dc.push(converted, NAME, add=True)
    repository.merge(1)
    hub.repositories["user/chest"] = hub.repositories[NAME]
    with pytest.raises(PublishError, match="config.json of user/chest is not the conversion's"):
        dc.push(converted, "user/chest", license="mit")


def test_what_was_added_is_no_folder_to_push_or_to_describe(
    converted: Path, original: bytes, hub: Hub, tmp_path: Path
) -> None:
    repository = publish(hub, {"chest.pth": original})
    dc.push(converted, NAME, add=True)
    folder = tmp_path / "there"
    folder.mkdir()
    for name in ADDED:
        (folder / name).write_bytes(files_of(repository, "refs/pr/1")[name])
    with pytest.raises(PublishError, match="is what was added to a repository"):
        dc.push(folder, "user/mine", license="mit")
    with pytest.raises(FolderError, match="is what was added"):
        dc.describe(folder, mean=0.5)
    shutil.rmtree(folder)
