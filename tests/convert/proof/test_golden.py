"""Golden outputs hold on any machine, and for no other function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL, in_2017_names, save, state_dict_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from densenet_convert.api.convert import convert
from densenet_convert.api.verify import verify
from densenet_convert.densenet import DenseNetConfig
from densenet_convert.errors import ConvertError, FolderError, ParityError
from densenet_convert.folder import receipt
from densenet_convert.folder.files import CARD, GOLDEN, file_sha256
from densenet_convert.folder.open import open_folder
from densenet_convert.folder.records import Written
from densenet_convert.proof.golden import compare_golden, take_golden
from densenet_convert.source.random_weights import random_network

CPU = torch.device("cpu")
NETWORK: nn.Module = random_network(SMALL, 0).eval()
TAKEN: Mapping[str, Tensor] = take_golden(NETWORK, SMALL, CPU)
NORM = "features.denseblock2.denselayer1.norm2"


def compare(
    network: nn.Module, golden: Mapping[str, Tensor] = TAKEN, config: DenseNetConfig = SMALL
) -> float:
    return compare_golden(network, golden, config, CPU)


def test_the_same_network_uses_a_small_share_of_its_bounds() -> None:
    # The reference's own error is a 1 / factor of the bound, and the factor is above 4.
    assert 0 < compare(NETWORK) < 1 / 4


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, num_classes=0),
        replace(SMALL, num_classes=1, in_channels=1),
        DenseNetConfig(growth_rate=3, block_config=(1,), num_init_features=5, bn_size=1, num_classes=2),
    ],
)
def test_other_heads_inputs_and_depths_have_golden_outputs(config: DenseNetConfig) -> None:
    network = random_network(config, 0).eval()
    assert compare(network, take_golden(network, config, CPU), config) < 1 / 4


def test_every_layer_has_four_statistics_and_a_bound() -> None:
    layers = {name.removeprefix("statistics.") for name in TAKEN if name.startswith("statistics.")}
    assert {"features.conv0", NORM, "features.transition1.pool", "classifier"} <= layers
    assert set(TAKEN) == {
        "input",
        "logits",
        "bounds.logits",
        *(f"{kind}.{layer}" for kind in ("statistics", "bounds") for layer in layers),
    }
    low, high, mean, deviation = TAKEN[f"statistics.{NORM}"].tolist()
    assert low < mean < high
    assert deviation > 0


def test_no_statistic_moves_more_than_the_largest_difference_of_an_element() -> None:
    from densenet_convert.proof.golden import _statistics

    generator = torch.Generator().manual_seed(0)
    for scale in (1e-3, 1.0, 1e3):
        a, b = torch.randn(2, 50, generator=generator, dtype=torch.float64) * scale
        assert (_statistics(a) - _statistics(b)).abs().max() <= (a - b).abs().max()


@pytest.mark.parametrize("name", ["features.conv0", NORM, "features.transition2.norm", "classifier"])
def test_another_function_is_found_at_its_layer(name: str) -> None:
    faulty = deepcopy(NETWORK)
    with torch.no_grad():
        faulty.get_submodule(name).weight.mul_(1.001)
    with pytest.raises(ParityError, match="does not compute its golden outputs here") as error:
        compare(faulty)
    assert error.value.where == name
    assert error.value.largest > 0


@pytest.mark.parametrize("classes", [1, 2])
def test_a_small_head_has_no_looser_bound(classes: int) -> None:
    config = replace(SMALL, num_classes=classes)
    network = random_network(config, 0).eval()
    golden = take_golden(network, config, CPU)
    with torch.no_grad():
        network.get_submodule("classifier").weight.mul_(1.001)
    with pytest.raises(ParityError):
        compare(network, golden, config)


def test_two_classes_exchanged_are_found_in_the_logits_though_no_statistic_differs() -> None:
    faulty = deepcopy(NETWORK)
    with torch.no_grad():
        for tensor in (faulty.classifier.weight, faulty.classifier.bias):
            tensor.copy_(tensor[[1, 0, 2, 3, 4]])
    with pytest.raises(ParityError) as error:
        compare(faulty)
    assert error.value.where == "the output"


def test_a_network_that_computes_nan_is_found() -> None:
    faulty = deepcopy(NETWORK)
    with torch.no_grad():
        faulty.classifier.bias.fill_(float("nan"))
    with pytest.raises(ParityError):
        compare(faulty)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": None}, "logits is missing"),
        ({"surplus": torch.zeros(1)}, "surplus is not part of it"),
        ({"input": torch.zeros(2, 3, 32, 32)}, r"is float32 \[2, 3, 32, 32\], expected float32 \[5, 3, 91"),
        ({"logits": torch.zeros(2, 5)}, "logits is float32"),
        ({f"bounds.{NORM}": torch.tensor(torch.inf, dtype=torch.float64)}, "what no network computes"),
        ({"bounds.logits": torch.tensor(-1.0, dtype=torch.float64)}, "what no network computes"),
    ],
)
def test_what_is_no_golden_output_of_this_network_is_refused(
    change: Mapping[str, Tensor | None], message: str
) -> None:
    golden = {name: tensor for name, tensor in {**TAKEN, **change}.items() if tensor is not None}
    with pytest.raises(FolderError, match=message):
        compare(NETWORK, golden)


@pytest.fixture(scope="module")
def written(converted_with_golden: Path) -> Written:
    return open_folder(converted_with_golden)


def test_the_file_is_small_and_read_by_safetensors(written: Written) -> None:
    golden = load_file(written.folder / GOLDEN)
    assert golden.keys() == TAKEN.keys()
    assert (written.folder / GOLDEN).stat().st_size < 800_000


def test_its_digest_is_kept_apart_from_what_is_the_same_on_every_machine(written: Written) -> None:
    assert GOLDEN not in written.receipt["files"]
    digests = {name: file_sha256(written.folder / name) for name in (GOLDEN, CARD)}
    assert written.receipt["verification"]["files"] == digests


def test_a_folder_is_verified_by_it_without_the_source(written: Written) -> None:
    share = verify(written.folder).proof.golden
    assert share is not None
    assert 0 < share < 1 / 4


def test_a_folder_without_it_says_nothing_of_it(tmp_path: Path) -> None:
    source = save(in_2017_names(state_dict_of()), tmp_path / "old.pth")
    folder = convert(source, tmp_path / "new").folder
    assert verify(folder).proof.golden is None
    assert not (folder / GOLDEN).exists()


def reseal(folder: Path, written: Written, files: object = None) -> None:
    """Makes the receipt agree with the golden file that is there, or name ``files``."""
    content = json.loads(json.dumps(written.receipt))
    content["verification"]["files"] = files or {GOLDEN: file_sha256(folder / GOLDEN)}
    (folder / receipt.FILE_NAME).write_text(receipt.seal(content))


def copied(written: Written, folder: Path, **tensors: Any) -> Path:
    """A copy with other golden outputs, to which its receipt was made to agree."""
    folder.mkdir()
    for path in written.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    golden = {**load_file(written.folder / GOLDEN), **tensors}
    save_file(golden, folder / GOLDEN, metadata={"format": "pt"})
    reseal(folder, written)
    return folder


def test_a_machine_that_computes_something_else_is_reported(written: Written, tmp_path: Path) -> None:
    folder = copied(written, tmp_path / "copy", logits=TAKEN["logits"] + 1e-3)
    with pytest.raises(ParityError, match="differs is at the output.* This machine computes something else"):
        verify(folder)


def test_a_golden_file_of_another_network_is_refused(written: Written, tmp_path: Path) -> None:
    folder = copied(written, tmp_path / "copy", logits=torch.zeros(5, 7, dtype=torch.float64))
    with pytest.raises(FolderError, match=r"logits is float64 \[5, 7\], expected float64 \[5, 5\]"):
        verify(folder)


def test_a_golden_file_that_was_changed_lost_or_damaged_is_refused(written: Written, tmp_path: Path) -> None:
    folder = copied(written, tmp_path / "copy")
    data = (folder / GOLDEN).read_bytes()
    (folder / GOLDEN).write_bytes(data[:-1] + b"x")
    with pytest.raises(FolderError, match=f"{GOLDEN} was changed"):
        verify(folder)
    (folder / GOLDEN).unlink()
    with pytest.raises(FolderError, match=f"{GOLDEN} is missing"):
        verify(folder)
    (folder / GOLDEN).write_bytes(b"no safetensors")
    reseal(folder, written)
    with pytest.raises(FolderError, match=f"{GOLDEN} is no sound safetensors file"):
        verify(folder)


def test_a_golden_file_that_holds_nothing_is_refused(written: Written, tmp_path: Path) -> None:
    folder = copied(written, tmp_path / "copy")
    save_file({}, folder / GOLDEN, metadata={"format": "pt"})
    reseal(folder, written)
    with pytest.raises(FolderError, match="The golden outputs are not of this network: .* is missing"):
        verify(folder)


@pytest.mark.parametrize(
    "files", ["no mapping", {"other.txt": "0"}, {GOLDEN: None}, {"model.safetensors": "0"}]
)
def test_a_receipt_that_counts_other_files_is_refused(
    written: Written, tmp_path: Path, files: object
) -> None:
    folder = copied(written, tmp_path / "copy")
    reseal(folder, written, files)
    with pytest.raises(ConvertError):
        verify(folder)


@pytest.mark.parametrize(
    "machine",
    [{"OMP_NUM_THREADS": "2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}],
    ids=["2 threads", "AVX2"],
)
def test_on_another_machine_there_is_no_false_alarm(written: Written, machine: dict[str, str]) -> None:
    """Another number of threads and other instructions stand for it."""
    code = "from densenet_convert.cli import run; run()"
    command = [sys.executable, "-c", code, "verify", str(written.folder), "--json"]
    done = subprocess.run(command, env={**os.environ, **machine}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["verification"]["golden"]["share_of_bound"] < 1
