"""Pickles of Paddle: arrays in pairs with names of its own, and a table of these names beside them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from densenet_convert.formats.recognise import read_content
from densenet_convert.formats.untrusted import FormatError

ARRAYS = {"a.weight": np.arange(6, dtype="f4").reshape(2, 3), "a._mean": np.ones(2, "f2")}
NAMES = {name: f"parameter_{i}" for i, name in enumerate(ARRAYS)}


class Called:
    """Is pickled as a call of ``tuple``, as Paddle pickles a parameter."""

    def __init__(self, name: str, array: Any) -> None:
        self.pair = (name, array)

    def __reduce__(self) -> Any:
        return tuple, (self.pair,)


WRITTEN = {
    "a table beside them": {**ARRAYS, "StructuredToParameterName@@": NAMES},
    "pairs": {name: (NAMES[name], array) for name, array in ARRAYS.items()},
    "pairs by a call": {name: Called(NAMES[name], array) for name, array in ARRAYS.items()},
}


@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_paddle_writes_is_read(content: dict[str, Any], protocol: int) -> None:
    found = read_content(pickle.dumps(content, protocol))
    assert found.calls == ()
    assert found.tensors.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found.tensors[name].dtype == array.dtype.name
        assert bytes(found.tensors[name].row_major()) == array.tobytes()


@pytest.mark.parametrize(
    "other",
    [("a", "b"), (ARRAYS["a.weight"], "a"), ("a", ARRAYS["a.weight"], 1), ("a", ("b", ARRAYS["a.weight"]))],
)
def test_what_is_no_pair_of_a_name_and_an_array_is_no_tensor(other: Any) -> None:
    with pytest.raises(FormatError, match="it holds a tuple as 'b.weight', expected a plain tensor"):
        read_content(pickle.dumps({**ARRAYS, "b.weight": other}))
