"""The Python interface works whatever the caller's code has set up, and leaves that as it was."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL, save, state_dict_of
from safetensors.torch import load_file, save_file

import densenet_convert
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import (
    ArchitectureError,
    DeviceError,
    FolderError,
    ParityError,
    WeightsUnavailableError,
)
from densenet_convert.tensors import same_bits


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def nothing() -> Iterator[None]:
    yield


MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "none": nothing,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another default dtype": default_dtype,
    "another default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_callers_mode_changes_nothing(mode: str, source: Path, tmp_path: Path) -> None:
    with MODES[mode]():
        densenet_convert.convert(source, tmp_path / "out", device="cpu")
        verified = densenet_convert.verify(tmp_path / "out", device="cpu")
    plain = densenet_convert.convert(source, tmp_path / "plain", device="cpu")
    assert verified.proof.dtype == "float32"
    for name in ("model.safetensors", "conversion.json"):
        assert (tmp_path / "out" / name).read_bytes() == (plain.folder / name).read_bytes()


@pytest.mark.parametrize("fails", [False, True])
def test_random_state_and_threads_are_left_as_they_were(source: Path, tmp_path: Path, fails: bool) -> None:
    (tmp_path / "out").mkdir() if fails else None
    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    try:
        densenet_convert.convert(source, tmp_path / "out", device="cpu")
    except FolderError:
        assert fails
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before[1:]


def test_an_architecture_is_named_in_any_of_three_ways(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for arch in (121, "121", "densenet121"):
        with pytest.raises(FolderError, match="exists"):
            densenet_convert.convert_torchvision(arch, weights="random", output=tmp_path / "out")


def test_what_there_is_not_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="no densenet122, expected one of densenet121"):
        densenet_convert.convert_torchvision(122)
    with pytest.raises(WeightsUnavailableError, match="no weights 'V2'.*IMAGENET1K_V1 or random"):
        densenet_convert.convert_torchvision(121, weights="V2", output=tmp_path / "out", device="cpu")


@pytest.mark.parametrize("device", ["", "gpu", "cpu:1", "mps", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda or cuda:N|finds"):
        densenet_convert.convert(source, tmp_path / "out", device=device)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a" * 300, "nul\0"])
def test_names_that_no_file_can_have_are_refused(name: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(densenet_convert.ConvertError, match="can't be"):
        densenet_convert.convert(source, tmp_path / name, device="cpu")
    with pytest.raises(densenet_convert.ConvertError, match="can't be read"):
        densenet_convert.convert(tmp_path / name, tmp_path / "out", device="cpu")


def as_container(state: dict[str, torch.Tensor], path: Path) -> None:
    save({"epoch": 3, "net": {"state_dict": state}}, path, legacy=False)


def as_module(state: dict[str, torch.Tensor], path: Path) -> None:
    network = DenseNet(SMALL)
    network.load_state_dict(state)
    save(network, path)


def as_arrays(state: dict[str, torch.Tensor], path: Path) -> None:
    path.write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in state.items()}, protocol=2))


def as_safetensors(state: dict[str, torch.Tensor], path: Path) -> None:
    save_file(state, path, metadata={"epoch": "3"})


@pytest.mark.parametrize(
    ("write", "format_name", "container"),
    [
        (as_container, "torch-zip", "net.state_dict"),
        (as_module, "torch-legacy", None),
        (as_arrays, "pickle", None),
        (as_safetensors, "safetensors", None),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of torch.save, for modules
def test_the_same_weights_are_converted_and_verified_out_of_every_format(
    write: Callable[[dict[str, torch.Tensor], Path], None],
    format_name: str,
    container: str | None,
    tmp_path: Path,
) -> None:
    state, source = state_dict_of(), tmp_path / "source"
    write(state, source)
    written = densenet_convert.convert(source, tmp_path / "out", device="cpu")
    assert written.receipt["source"]["format"] == format_name
    assert written.receipt["source"]["container"] == container
    converted = load_file(tmp_path / "out" / "model.safetensors")
    assert all(same_bits(converted[name], state[name]) for name in state)
    densenet_convert.verify(tmp_path / "out", source=source, device="cpu")
    densenet_convert.verify(tmp_path / "out", device="cpu")


def test_an_error_of_parity_comes_whole_through_another_process() -> None:
    error = ParityError("It differs.", where="features.conv0", largest=0.5)
    for copied in (pickle.loads(pickle.dumps(error)), copy(error)):
        assert isinstance(copied, ParityError)
        assert (str(copied), copied.where, copied.largest) == (str(error), "features.conv0", 0.5)
