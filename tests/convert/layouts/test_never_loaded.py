"""A network that was never loaded, in whole or in part, is told by its values, and a sound one is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from checkpoints import SMALL, StateDict, checkpoint_of, in_names_of, state_dict_of
from torch import nn

from densenet_convert.claims import Remark
from densenet_convert.densenet import DenseNet
from densenet_convert.formats.raw import DTYPES, RawTensor, Storage, in_order
from densenet_convert.layouts import BUILT_IN
from densenet_convert.layouts.checkup import check_up, check_up_file
from densenet_convert.layouts.identify import identify_layout
from densenet_convert.records import ORIGIN_RANDOM
from densenet_convert.tensors import dtype_name, tensor_bytes

WIDER = replace(SMALL, growth_rate=8, bn_size=4, num_classes=40)
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def fresh(seed: int = 0) -> StateDict:
    """A network that nothing was loaded into."""
    torch.manual_seed(seed)
    return dict(DenseNet(WIDER).state_dict())


def loaded_in_part(left_out: str, *, batches: int = 0) -> StateDict:
    """A network that was loaded but for the layers whose names hold ``left_out``, and trained a little."""
    state = fresh()
    for name, tensor in state_dict_of(WIDER).items():
        if left_out not in name:
            state[name] = torch.tensor(5000 + batches) if name.endswith("tracked") else tensor
        elif batches and name.endswith("tracked"):
            state[name] = torch.tensor(batches)
        elif batches:
            state[name] = state[name] + 0.001 * torch.randn(state[name].shape)
    return state


def cast(state: StateDict, dtype: torch.dtype) -> StateDict:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}


def in_memory(state: StateDict) -> tuple[Remark, ...]:
    return check_up(checkpoint_of(state), identify_layout(state, BUILT_IN))


def in_a_file(state: StateDict) -> tuple[Remark, ...]:
    raw = {}
    for name, tensor in state.items():
        data = bytes(tensor_bytes(tensor))
        dtype = dtype_name(tensor)
        assert len(data) == tensor.numel() * DTYPES[dtype].size
        raw[name] = in_order(dtype, tuple(tensor.shape), Storage(name, dtype, len(data), data))
    return check_up_file(raw, identify_layout(state, BUILT_IN))


BOTH = pytest.mark.parametrize("checked", [in_memory, in_a_file])
Checked = Callable[[StateDict], tuple[Remark, ...]]


@BOTH
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_network_that_nothing_was_loaded_into_is_found(checked: Checked, dtype: torch.dtype) -> None:
    features, head = checked(cast(fresh(), dtype))
    assert features.kind == head.kind == "never-loaded"
    assert features.text.startswith(
        "20 of 20 convolutions are as drawn at random (He's normal), and 21 of 21 batch norms count no "
        "batch: the weights of this file were probably never loaded into the network that saved it. The "
        "usual cause is a prefix, such as module. or backbone.,"
    )
    assert {"features.conv0.weight", "features.norm5.weight"} <= set(features.names)
    assert head.names == ("classifier.weight",)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_weights_are_left_as_they_are(dtype: torch.dtype) -> None:
    state = cast(fresh(), dtype)
    before = {name: tensor.clone() for name, tensor in state.items()}
    assert in_memory(state)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


@BOTH
def test_dense_layers_that_were_left_out_are_found_with_the_names_that_did_it(checked: Checked) -> None:
    (remark,) = checked(loaded_in_part("denselayer"))
    assert remark.text.startswith("16 of 20 convolutions are as drawn at random")
    assert (
        "here features.denseblock1.denselayer1.norm1.weight, where others say denselayer1.norm.1"
        in remark.text
    )
    assert all("denselayer" in name for name in remark.names)


@BOTH
def test_names_in_a_remark_are_the_sources_own(checked: Checked) -> None:
    (remark,) = checked(in_names_of("torchvision-dotted", loaded_in_part("denselayer")))
    assert "features.denseblock1.denselayer1.norm.1.weight" in remark.names
    assert "denselayer1.norm.1.weight, where others say denselayer1.norm1;" in remark.text


@BOTH
def test_kernels_whose_axes_lie_otherwise_are_judged_by_their_own_fan(checked: Checked) -> None:
    state = fresh()
    for tensor in state.values():
        if tensor.ndim == 4:
            nn.init.xavier_uniform_(tensor)
    features, _ = checked(in_names_of("keras-applications", state))
    assert "as drawn at random (Glorot's uniform)" in features.text


@BOTH
def test_dense_layers_that_count_fewer_batches_are_found_however_long_they_were_trained(
    checked: Checked,
) -> None:
    state = loaded_in_part("denselayer", batches=200)
    state |= {name: torch.randn(t.shape) for name, t in state.items() if name.endswith("conv1.weight")}
    (remark,) = checked(state)
    assert "trained less than the rest (they count 200 batches, and all others 5,200)" in remark.text


@BOTH
def test_without_counts_dense_layers_that_hardly_moved_are_found(checked: Checked) -> None:
    state = loaded_in_part("denselayer", batches=200)
    state = {name: tensor for name, tensor in state.items() if not name.endswith("tracked")}
    (remark,) = checked(state)
    assert "trained less than the rest (the other layers are far from random values)" in remark.text


@BOTH
def test_a_head_that_was_left_out_is_found_until_it_is_trained(checked: Checked) -> None:
    state = loaded_in_part("classifier")
    (remark,) = checked(state)
    assert remark.text.startswith("The head, classifier.weight, is as drawn at random")
    state["classifier.bias"] = state["classifier.bias"] + 0.001
    assert checked(state) == ()


@BOTH
def test_features_that_were_left_out_beside_a_loaded_head_are_found(checked: Checked) -> None:
    (remark,) = checked(loaded_in_part("features"))
    assert "a prefix before the names of the features, such as module. or backbone." in remark.text


@BOTH
def test_features_that_hardly_moved_beside_a_head_that_did_are_found(checked: Checked) -> None:
    state = loaded_in_part("features", batches=200)
    state["classifier.weight"] = torch.randn(state["classifier.weight"].shape)
    (remark,) = checked(state)
    assert "20 of 20 convolutions are nearly as drawn at random" in remark.text
    assert "a prefix before the names of the features" in remark.text


@BOTH
def test_a_norm_alone_that_was_never_loaded_is_found(checked: Checked) -> None:
    (remark,) = checked(loaded_in_part("norm5"))
    assert remark.text.startswith("1 of 21 batch norms are as torch makes them")
    assert remark.names == ("features.norm5.weight",)


@BOTH
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_said_of_a_sound_network(checked: Checked, dtype: torch.dtype, seed: int) -> None:
    assert checked(cast(state_dict_of(seed=seed), dtype)) == ()


@BOTH
def test_a_network_that_was_trained_from_scratch_for_a_step_is_not_found(checked: Checked) -> None:
    state = fresh()
    for name, tensor in state.items():
        state[name] = (
            torch.tensor(1) if name.endswith("tracked") else tensor + 0.001 * torch.randn(tensor.shape)
        )
    assert checked(state) == ()


def test_weights_that_are_random_on_purpose_are_not_found() -> None:
    state = fresh()
    checkpoint = replace(checkpoint_of(state), origin=ORIGIN_RANDOM)
    assert check_up(checkpoint, identify_layout(state, BUILT_IN)) == ()


@BOTH
def test_channels_that_are_dead_are_counted_and_named(checked: Checked) -> None:
    state = state_dict_of(WIDER)
    state["features.norm0.weight"][:3] = 0
    state["features.transition1.conv.weight"][:] = 0
    (remark,) = checked(state)
    assert remark.kind == "dead-channels"
    assert remark.names == ("features.norm0.weight", "features.transition1.conv.weight")
    assert remark.text.startswith(
        f"{3 + len(state['features.transition1.conv.weight'])} channels have no weight but 0"
    )


def test_equal_kernels_in_two_places_are_named() -> None:
    state = state_dict_of(WIDER)
    one, other = (f"features.denseblock2.denselayer{i}.conv2.weight" for i in (1, 3))
    state[other] = state[one].clone()
    (remark,) = in_a_file(state)
    assert remark.kind == "equal-kernels"
    assert remark.names == (one, other)
    state[other].view(-1)[-1] += 1
    assert in_a_file(state) == ()


def test_values_that_no_sum_holds_are_judged_without_an_error() -> None:
    state = fresh()
    for value in (float("nan"), float("inf"), 3e38):
        state["features.conv0.weight"].view(-1)[:2] = torch.tensor([value, -value])
        assert in_a_file(state)[0].text.startswith("19 of 20 convolutions")


def test_a_file_of_the_other_byte_order_is_judged_alike() -> None:
    state = fresh()
    raw = {}
    for name, tensor in state.items():
        data = tensor.numpy().byteswap().tobytes()
        storage = Storage(name, dtype_name(tensor), len(data), data, big_endian=True)
        raw[name] = RawTensor(dtype_name(tensor), tuple(tensor.shape), tensor.stride(), storage)
    assert check_up_file(raw, identify_layout(state, BUILT_IN)) == in_a_file(state)
