"""References are built without the converter's renaming, agree with each other, and run nothing."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from checkpoints import SMALL, StateDict, checkpoint_of, in_2017_names, in_names_of, read_as, state_dict_of
from torch import Tensor, nn

from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.errors import ParityError
from densenet_convert.layout import Layout
from densenet_convert.layouts import BUILT_IN, TORCHVISION, TORCHVISION_DOTTED
from densenet_convert.layouts.identify import named_layout
from densenet_convert.proof.references import reference
from densenet_convert.proof.references.reference import load_reference
from densenet_convert.records import Checkpoint
from densenet_convert.torchvision_weights import weights_digits, weights_url

D121 = ARCHITECTURES["densenet121"]
DIGITS = {
    "densenet121": "a639ec97",
    "densenet161": "8d451a50",
    "densenet169": "b2777c0a",
    "densenet201": "c1103571",
}


@pytest.fixture(scope="module")
def imagenet() -> Checkpoint:
    """A checkpoint of DenseNet-121 as torchvision publishes them, but for the values."""
    return checkpoint_of(in_2017_names(state_dict_of(D121)))


def without_public_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_own_loader_takes", lambda *_: False)


def test_torchvisions_loader_and_the_tree_of_2017_agree_to_the_bit(
    imagenet: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = load_reference(imagenet, read_as(TORCHVISION_DOTTED, imagenet.tensors), D121)
    without_public_loader(monkeypatch)
    tree = load_reference(imagenet, read_as(TORCHVISION_DOTTED, imagenet.tensors), D121)
    assert ours.description.startswith("torchvision's own loader")
    assert tree.description.startswith("torchvision's modules in a tree")
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    today = in_2017_names(_results(ours.network, x), counted=True)
    dotted = _results(tree.network, x)
    assert set(today) == set(dotted)
    assert all(torch.equal(today[name], dotted[name]) for name in today)


def _results(network: nn.Module, x: Tensor) -> StateDict:
    """Outputs in eval and in training, every gradient, and the buffers after the step."""
    with torch.no_grad():
        evaluated = network(x)
    trained = network.train()(x)
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(trained.sum(), parameters)
    return {
        "eval": evaluated,
        "training": trained,
        **dict(zip(names, gradients, strict=True)),
        **dict(network.named_buffers()),
    }


@pytest.mark.parametrize(
    "layout", [one for one in BUILT_IN if not one.loader], ids=lambda layout: layout.name
)
@pytest.mark.parametrize("counted", [False, True])
def test_a_tree_s_names_are_the_source_s(layout: Layout, counted: bool) -> None:
    state = {n: t for n, t in state_dict_of().items() if counted or not n.endswith("tracked")}
    expected = in_names_of(layout.name, state)
    network = reference._named(layout.reference)(SMALL)
    network.load_state_dict(expected, strict=True, assign=True)
    assert all(torch.equal(network.state_dict()[name], expected[name]) for name in expected)


@pytest.mark.parametrize("layout", [one for one in BUILT_IN if one.library], ids=lambda layout: layout.name)
def test_a_library_s_own_network_and_the_tree_compute_the_same(layout: Layout) -> None:
    try:
        theirs, how = reference._named(str(layout.library))(SMALL)
    except ImportError as error:
        pytest.skip(f"{error}")
    assert "own network" in how
    state = in_names_of(layout.name, state_dict_of())
    tree = reference._named(layout.reference)(SMALL)
    for network in (theirs, tree):
        network.load_state_dict(state, strict=True, assign=True)
        network.eval()
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(theirs(x), tree(x))


@pytest.mark.parametrize(
    ("classes", "counted", "expected"),
    [(1000, False, "own loader"), (14, False, "tree"), (1000, True, "tree")],
)
def test_torchvisions_loader_is_asked_where_it_takes_the_file(
    classes: int, counted: bool, expected: str
) -> None:
    config = type(D121)(num_classes=classes)
    state = {n: torch.zeros(s) for n, s in config.tensor_shapes().items()}
    checkpoint = checkpoint_of(in_2017_names(state, counted=counted))
    assert (
        expected
        in load_reference(checkpoint, read_as(TORCHVISION_DOTTED, checkpoint.tensors), config).description
    )


@pytest.mark.parametrize("error", [AttributeError("networks"), OSError("libcublas.so.11"), TypeError("x")])
def test_a_library_that_is_broken_is_named_and_the_tree_taken(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise error

    monkeypatch.setattr("densenet_convert.proof.references.libraries.monai_network", broken)
    checkpoint = checkpoint_of(in_names_of("monai", state_dict_of()))
    assert (
        "in a tree"
        in load_reference(
            checkpoint, read_as(named_layout("monai", BUILT_IN), checkpoint.tensors), SMALL
        ).description
    )
    assert f"monai_network can't be used, and torchvision's modules are: {error!r}" in caplog.text


def test_too_little_memory_is_no_failed_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", fail)
    checkpoint = checkpoint_of(in_2017_names(state_dict_of()))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_reference(checkpoint, read_as(TORCHVISION_DOTTED, checkpoint.tensors), SMALL)


@pytest.mark.parametrize("architecture", DIGITS)
def test_the_digits_of_the_published_files_are_known(architecture: str) -> None:
    assert weights_digits(architecture) == DIGITS[architecture]
    assert weights_url(architecture).endswith(f"/{architecture}-{DIGITS[architecture]}.pth")


@pytest.fixture
def hub_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    before, state = torch.hub._hub_dir, torch.get_rng_state()
    files = set(Path(torch.hub.get_dir()).rglob("*"))
    yield
    assert torch.hub._hub_dir == before
    assert torch.equal(torch.get_rng_state(), state)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert set(Path(torch.hub.get_dir()).rglob("*")) == files


@pytest.mark.usefixtures("hub_as_it_was")
def test_the_users_hub_folder_and_environment_are_left_alone(imagenet: Checkpoint) -> None:
    load_reference(imagenet, read_as(TORCHVISION_DOTTED, imagenet.tensors), D121)


@pytest.mark.usefixtures("hub_as_it_was")
def test_they_are_left_alone_when_the_loader_fails() -> None:
    state = {n: torch.zeros(s) for n, s in D121.tensor_shapes().items()}
    del state["classifier.bias"]
    with pytest.raises(ParityError, match="Missing key"):
        load_reference(checkpoint_of(state), read_as(TORCHVISION, state), D121)


def test_a_source_that_the_tree_does_not_take_is_no_parity() -> None:
    state = in_2017_names(state_dict_of())
    del state["features.norm5.weight"]
    with pytest.raises(ParityError, match=r"does not take the source's tensors.*features\.norm5\.weight"):
        load_reference(checkpoint_of(state), read_as(TORCHVISION_DOTTED, state), SMALL)


def test_tensors_whose_bytes_are_a_zip_that_runs_a_command_run_nothing(tmp_path: Path) -> None:
    """The last bytes of a legacy file are the last tensor's: a stranger's tensor can be a zip archive."""
    evidence = tmp_path / "ran"
    archive = BytesIO()
    with ZipFile(archive, "w") as file:
        file.writestr("w.pth", b"cposix\nsystem\n(X" + _sized(f"touch '{evidence}'") + b"tR.")
    payload = archive.getvalue()
    state = {n: torch.zeros(s) for n, s in D121.tensor_shapes().items() if not n.endswith("tracked")}
    # The end of the archive is the end of the file.
    bias = torch.frombuffer(bytearray(payload.rjust(4000, b"\0")), dtype=torch.float32)
    state["classifier.bias"] = bias
    checkpoint = checkpoint_of(in_2017_names(state))
    reference = load_reference(checkpoint, read_as(TORCHVISION_DOTTED, checkpoint.tensors), D121)
    held = reference.network.state_dict()["classifier.bias"]
    assert held.numpy().tobytes() == bias.numpy().tobytes()
    assert not evidence.exists()


def _sized(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode()
