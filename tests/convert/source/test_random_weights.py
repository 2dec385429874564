"""Random weights stand in for a download: torchvision's form of 2017, the same on every machine."""

from __future__ import annotations

import hashlib
import os
import pickletools
import subprocess
import sys
from collections import defaultdict
from io import BytesIO

import pytest
import torch
from checkpoints import SMALL, in_2017_names

from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.source.random_weights import random_checkpoint, random_network

# SHA-256 of the file that seed 0 gives.
SEED_0 = {
    "densenet121": "de41976ff8b29559d4a359c4d6f2b96c55a2743909e7cdd5632af59b064a13c0",
    "densenet161": "a7a9423bafd448b2eebb8d43f558dacb530304001609d6526427752fec1863ae",
    "densenet169": "6bd3295f2b2baeb4cee72f83f38042fe1ce3b0a1ec4c9a726c4398ef68d77a0c",
    "densenet201": "75da007b0c7c04b27688be6f43fd998aaa4d9deace236d97dc260eace47af70b",
}


@pytest.fixture(scope="module")
def file_of_121() -> bytes:
    return random_checkpoint(ARCHITECTURES["densenet121"], 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_seed_0_gives_the_recorded_file(architecture: str) -> None:
    file = random_checkpoint(ARCHITECTURES[architecture], 0)
    assert hashlib.sha256(file).hexdigest() == SEED_0[architecture]


def test_one_thread_and_plain_instructions_give_the_same_file() -> None:
    code = (
        "import hashlib; from densenet_convert.densenet import ARCHITECTURES; "
        "from densenet_convert.source.random_weights import random_checkpoint; "
        "print(hashlib.sha256(random_checkpoint(ARCHITECTURES['densenet121'], 0)).hexdigest())"
    )
    plain = {**os.environ, "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == SEED_0["densenet121"]


def test_another_seed_gives_another_network() -> None:
    a, b = (random_network(SMALL, seed).state_dict() for seed in (0, 1))
    assert not any(torch.equal(a[name], b[name]) for name in a if not name.endswith("tracked"))


def test_the_names_are_those_of_2017(file_of_121: bytes) -> None:
    state = torch.load(BytesIO(file_of_121), weights_only=True)
    shapes = ARCHITECTURES["densenet121"].tensor_shapes()
    expected = in_2017_names({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert [(n, t.shape) for n, t in state.items()] == [(n, t.shape) for n, t in expected.items()]
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def test_the_format_is_the_legacy_one(file_of_121: bytes) -> None:
    first = next(pickletools.genops(file_of_121))
    assert (first[0].name, first[1]) == ("PROTO", 2)
    assert file_of_121[:14] == b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"


def test_no_two_tensors_of_a_shape_are_equal(file_of_121: bytes) -> None:
    by_shape = defaultdict(list)
    for tensor in torch.load(BytesIO(file_of_121), weights_only=True).values():
        by_shape[tensor.shape].append(tensor.numpy().tobytes())
    assert all(len(set(same)) == len(same) for same in by_shape.values())
