"""The diagnosis measures both networks over their depth, of a proof that holds and of one that failed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from math import inf, isfinite

import pytest
import torch
from checkpoints import SMALL, checkpoint_of, in_2017_names, state_dict_of
from torch import nn

from densenet_convert.errors import ParityError
from densenet_convert.layouts import BUILT_IN
from densenet_convert.layouts.identify import identify_layout
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.proof.load import load_model
from densenet_convert.proof.references.reference import load_reference
from densenet_convert.proof.report.diagnosis import diagnose, require_within_bounds
from densenet_convert.proof.verification import verify_model
from densenet_convert.results import Measured, Proof

CPU = torch.device("cpu")
FAULT = ParityError("It differs.", where="features.denseblock2.denselayer1.norm2", largest=1.0)


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Module, nn.Module, Proof]:
    checkpoint = checkpoint_of(in_2017_names(state_dict_of()))
    reading = identify_layout(checkpoint.tensors, BUILT_IN)
    loaded = load_model(rename_tensors(checkpoint, reading), SMALL)
    reference = load_reference(checkpoint, reading, SMALL)
    return loaded.model, reference.network, verify_model(loaded, reference, CPU)


def test_networks_that_are_the_same_have_the_same_errors(
    networks: tuple[nn.Module, nn.Module, Proof],
) -> None:
    ours, theirs, proof = networks
    found = diagnose(ours, theirs, SMALL, CPU, proof)
    assert found.ours == found.theirs
    assert set(found.apart) == {0.0}
    assert list(found.ours) == ["float32", "bfloat16", "float16"]
    assert found.layers[0] == "features.conv0"
    assert found.layers[-2:] == ("classifier", "the output")
    for errors in found.ours.values():
        assert len(errors) == len(found.layers)
        assert all(0 <= error < 1 for error in errors)
    assert max(found.ours["float32"]) < min(found.ours["bfloat16"][5:])
    assert found.logits[0] == found.logits[1]
    assert (found.coverage, found.dead) == ({}, {})  # both are equal for every input
    assert all(one.holds for one in found.measured)
    assert (found.first, found.problem) == (None, None)
    require_within_bounds(found.measured)


def test_a_fault_shows_from_the_layer_on_where_it_is(networks: tuple[nn.Module, nn.Module, Proof]) -> None:
    ours, theirs, _ = networks
    faulty = deepcopy(ours)
    with torch.no_grad():
        norm = faulty.get_submodule(FAULT.where)
        norm.bias.copy_(norm.bias.flip(0))
    found = diagnose(faulty, theirs, SMALL, CPU, FAULT)
    at = found.layers.index(FAULT.where)
    assert found.ours["float32"][:at] == found.theirs["float32"][:at]
    assert all(
        a > 100 * b
        for a, b in list(zip(found.ours["float32"], found.theirs["float32"], strict=True))[at : at + 2]
    )
    assert set(found.apart[:at]) == {0.0}
    assert found.apart[at] > 0.01
    assert (found.first, found.problem) == (FAULT.where, str(FAULT))
    assert set(found.coverage) == {name for name, _ in ours.named_parameters()}
    with pytest.raises(ParityError, match="In the setting 'float32' the error of our logits"):
        require_within_bounds(found.measured)


def test_networks_of_other_layers_are_compared_as_far_as_they_go(
    networks: tuple[nn.Module, nn.Module, Proof],
) -> None:
    ours, theirs, _ = networks
    faulty = deepcopy(ours)
    faulty.get_submodule("features.denseblock4").denselayer2.norm1 = nn.Identity()
    found = diagnose(faulty, theirs, SMALL, CPU, FAULT)
    assert len(found.ours["float32"]) == len(found.layers)
    assert not all(map(isfinite, found.ours["float32"]))
    assert not all(map(isfinite, found.apart))


def test_a_reference_that_overflows_in_half_precision_sets_no_bound(
    networks: tuple[nn.Module, nn.Module, Proof],
) -> None:
    ours, theirs, proof = networks
    loud, louder = deepcopy(ours), deepcopy(theirs)
    with torch.no_grad():
        for network in (loud, louder):
            network.get_submodule("classifier").weight.mul_(1e7)
    found = {one.setting: one for one in diagnose(loud, louder, SMALL, CPU, proof).measured}
    assert found["float16"] == Measured("float16", inf, inf, inf, spread=found["float32"].spread)
    assert not found["float16"].tells
    assert isfinite(found["bfloat16"].bound)


def test_a_head_of_one_class_is_measured_on_many_images(networks: tuple[nn.Module, nn.Module, Proof]) -> None:
    ours, theirs, proof = (deepcopy(part) for part in networks)
    config = replace(SMALL, num_classes=1)
    for network in (ours, theirs):
        head = network.get_submodule("classifier")
        head.weight, head.bias = nn.Parameter(head.weight[:1]), nn.Parameter(head.bias[:1])
    assert len(diagnose(ours, theirs, config, CPU, proof).logits[0]) == 24
