"""What the legacy writer writes, torch reads back bit for bit."""

from __future__ import annotations

from io import BytesIO

import torch
from hypothesis import given
from hypothesis import strategies as st

from densenet_convert.formats.torch_legacy import Elements, write_legacy
from densenet_convert.tensors import dtype_name, tensor_bytes

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.int64])


def written(tensors: dict[str, torch.Tensor]) -> bytes:
    file = BytesIO()
    raw = {n: Elements(dtype_name(t), tuple(t.shape), tensor_bytes(t)) for n, t in tensors.items()}
    write_legacy(raw, file)
    return file.getvalue()


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.tuples(SHAPES, DTYPES), max_size=4))
def test_torch_loads_what_was_written(described: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
    tensors = {
        name: torch.arange(torch.Size(shape).numel(), dtype=dtype).reshape(shape) - 1
        for name, (shape, dtype) in described.items()
    }
    file = BytesIO(written(tensors))
    loaded = torch.load(file, weights_only=True)
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name], tensor)
    assert file.read() == b""


def test_the_bytes_depend_on_the_tensors_alone() -> None:
    assert written({"a": torch.ones(3)}) == written({"a": torch.ones(6)[::2]})
