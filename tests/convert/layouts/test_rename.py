"""Renaming moves tensors, changes none, and accounts for each."""

from __future__ import annotations

import pytest
import torch
from checkpoints import SMALL, checkpoint_of, in_2017_names, renamed_as, state_dict_of

from densenet_convert.errors import LayoutError
from densenet_convert.layouts import TORCHVISION, TORCHVISION_DOTTED


def test_the_very_tensors_of_the_source_arrive_under_canonical_names() -> None:
    state = state_dict_of()
    renamed = renamed_as(TORCHVISION_DOTTED, checkpoint_of(in_2017_names(state, counted=True)))
    assert renamed.tensors.keys() == state.keys()
    assert all(renamed.tensors[name] is state[name] for name in state)


def test_the_trail_names_the_source_of_every_tensor() -> None:
    sources = in_2017_names(state_dict_of())
    renamed = renamed_as(TORCHVISION_DOTTED, checkpoint_of(sources))
    assert {t.source_name for t in renamed.trail if t.source_name} == set(sources)
    name = "features.denseblock2.denselayer3.norm2.running_var"
    assert renamed.source_names[name] == "features.denseblock2.denselayer3.norm.2.running_var"


def test_absent_counters_become_zeros_without_a_source() -> None:
    renamed = renamed_as(TORCHVISION_DOTTED, checkpoint_of(in_2017_names(state_dict_of())))
    counters = [name for name in SMALL.tensor_shapes() if name.endswith("num_batches_tracked")]
    assert all(torch.equal(renamed.tensors[name], torch.tensor(0)) for name in counters)
    assert all(renamed.source_names[name] is None for name in counters)


def test_counters_that_are_there_are_kept() -> None:
    state = state_dict_of()
    state["features.norm0.num_batches_tracked"] = torch.tensor(7)
    del state["features.norm5.num_batches_tracked"]
    renamed = renamed_as(TORCHVISION, checkpoint_of(state))
    assert renamed.tensors["features.norm0.num_batches_tracked"] == 7
    assert renamed.source_names["features.norm5.num_batches_tracked"] is None


def test_a_name_that_the_layout_does_not_know_is_refused() -> None:
    state = {**state_dict_of(), "op_threshs": torch.zeros(3)}
    with pytest.raises(LayoutError, match="op_threshs is explained by no rule"):
        renamed_as(TORCHVISION, checkpoint_of(state))
