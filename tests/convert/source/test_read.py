"""Reading gives the source's tensors in one order, their digests and where they were found.

What must be read, and what must be refused, is in tests/corpus.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from checkpoints import in_2017_names, save, state_dict_of

from densenet_convert.errors import ReadError
from densenet_convert.source.read import read_checkpoint


@pytest.mark.parametrize(("legacy", "format_name"), [(True, "torch-legacy"), (False, "torch-zip")])
def test_the_tensors_the_digest_and_the_format_are_those_of_the_file(
    tmp_path: Path, legacy: bool, format_name: str
) -> None:
    state = in_2017_names(state_dict_of())
    path = save(state, tmp_path / "c.pth", legacy=legacy)
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.tensors) == list(state)
    assert all(torch.equal(checkpoint.tensors[name], state[name]) for name in state)
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.size == path.stat().st_size
    assert checkpoint.format == format_name


def test_parameters_are_read_as_plain_tensors(tmp_path: Path) -> None:
    path = save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "c.pth")
    assert not read_checkpoint(path).tensors["a"].requires_grad


def test_elements_are_read_in_one_order_whatever_theirs_was(tmp_path: Path) -> None:
    """torchvision's loader copies into that order, and kernels sum in the order of the elements."""
    kernel = torch.rand(2, 3, 4, 5)
    state = {"a": kernel.to(memory_format=torch.channels_last), "b": kernel.transpose(0, 3)}
    checkpoint = read_checkpoint(save(state, tmp_path / "c.pth", legacy=False))
    for name, tensor in state.items():
        assert checkpoint.tensors[name].is_contiguous()
        assert torch.equal(checkpoint.tensors[name], tensor)
        assert checkpoint.digests[name] == hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def test_a_digest_that_is_known_is_checked_before_anything_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    path.write_bytes(b"not a pickle")
    with pytest.raises(ReadError, match=r"is corrupt: its SHA-256 should begin with b2777c0a.*Delete it"):
        read_checkpoint(path, digits="b2777c0a")
