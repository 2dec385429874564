"""Tensors are put where they belong all at once, and a receipt's steps can't ask for what is not there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from densenet_convert.errors import LayoutError
from densenet_convert.layouts.rearrange import rearrange_tensors, recorded_steps
from densenet_convert.records import Checkpoint, Rewrite
from densenet_convert.tensors import tensor_sha256

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.arange(6.0, 12.0).reshape(2, 3),
    "c": torch.ones(1),
}
CHECKPOINT = Checkpoint(TENSORS, {n: tensor_sha256(t) for n, t in TENSORS.items()}, "", 0, "made")


def test_an_exchange_is_done_at_once_and_recorded() -> None:
    steps = [Rewrite("exchanged", ("a",), "b"), Rewrite("exchanged", ("b",), "a")]
    done = rearrange_tensors(CHECKPOINT, steps)
    assert torch.equal(done.tensors["a"], TENSORS["b"])
    assert torch.equal(done.tensors["b"], TENSORS["a"])
    assert done.digests == {n: tensor_sha256(t) for n, t in done.tensors.items()}
    assert done.untouched is TENSORS
    assert [(one.sources[0][0], one.target) for one in done.rewrites] == [("a", "b"), ("b", "a")]


def test_axes_and_entries_are_put_in_order() -> None:
    steps = [
        Rewrite("axes-permuted", ("a",), "a", transform={"permute": [1, 0]}),
        Rewrite("entries-reordered", ("b",), "b", transform={"axis": 1, "order": [2, 0, 1]}),
    ]
    done = rearrange_tensors(CHECKPOINT, steps)
    assert torch.equal(done.tensors["a"], TENSORS["a"].T)
    assert torch.equal(done.tensors["b"], TENSORS["b"][:, [2, 0, 1]])
    assert rearrange_tensors(CHECKPOINT, []) is CHECKPOINT


@pytest.mark.parametrize(
    "entry",
    [
        {"sources": ["x"]},
        {"sources": []},
        {"sources": ["a", "b"]},
        *(
            {"transform": {"permute": order}}
            for order in ([0], [0, 0], [0, 2], "01", ["0", 1], [0.0, 1.0], None)
        ),
        *({"transform": {"axis": axis, "order": [0, 1]}} for axis in (2, -1, [], "0")),
    ],
)
def test_a_step_that_can_t_be_taken_is_refused(entry: dict[str, Any]) -> None:
    sources = [{"source_name": name, "sha256": ""} for name in entry.get("sources", ["a"])]
    steps = recorded_steps({"rewrites": [{"step": "exchanged", "name": "a", **entry, "sources": sources}]})
    with pytest.raises(LayoutError):
        rearrange_tensors(CHECKPOINT, steps)
