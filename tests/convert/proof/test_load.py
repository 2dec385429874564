"""Only the tensors of one whole network, with values that a trained one can have, are loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from checkpoints import SMALL, StateDict, checkpoint_of, in_2017_names, state_dict_of

from densenet_convert.densenet import ARCHITECTURES, DenseNetConfig
from densenet_convert.errors import ArchitectureError, ValueRangeError
from densenet_convert.layouts import BUILT_IN
from densenet_convert.layouts.identify import identify_layout
from densenet_convert.layouts.network import identify_network
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.proof.load import check_values, load_model
from densenet_convert.records import Options, Renamed

LAYER = "features.denseblock2.denselayer1"


def renamed_from(tensors: StateDict) -> Renamed:
    checkpoint = checkpoint_of(tensors)
    return rename_tensors(checkpoint, identify_layout(tensors, BUILT_IN))


def config_of(tensors: StateDict, arch: str | None = None) -> DenseNetConfig:
    return identify_network(checkpoint_of(tensors), Options(arch=arch)).config


def of_shapes(architecture: str, **changes: int) -> StateDict:
    config = replace(ARCHITECTURES[architecture], **changes)
    return {name: torch.empty(shape, device="meta") for name, shape in config.tensor_shapes().items()}


def test_the_config_is_read_off_the_shapes() -> None:
    assert config_of(state_dict_of()) == SMALL


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_number_of_classes_is_the_architecture_still(architecture: str) -> None:
    config = config_of(of_shapes(architecture, num_classes=14), architecture)
    assert config == replace(ARCHITECTURES[architecture], num_classes=14)


def test_another_architecture_is_named_with_the_option_that_fits() -> None:
    with pytest.raises(ArchitectureError, match=r"This is a densenet121, not a densenet169.*`arch=121`"):
        config_of(of_shapes("densenet121"), "densenet169")


def test_a_network_without_a_name_is_described() -> None:
    with pytest.raises(ArchitectureError, match=r"blocks \(2, 3, 1, 2\), growth rate 4.*not a densenet121"):
        config_of(state_dict_of(), "densenet121")


@pytest.mark.parametrize("architecture", [None, "densenet121"])
@pytest.mark.parametrize(
    "name",
    [
        "features.conv0.weight",
        "features.norm5.bias",
        f"{LAYER}.norm2.running_mean",
        f"{LAYER}.conv1.weight",
        "features.denseblock1.denselayer1.conv2.weight",
        "features.transition1.conv.weight",
    ],
)
def test_a_missing_tensor_is_named(name: str, architecture: str | None) -> None:
    tensors = of_shapes("densenet121")
    del tensors[name]
    with pytest.raises(ArchitectureError, match=f"{name} is missing"):
        config_of(tensors, architecture)


def test_a_missing_last_layer_is_named_where_the_architecture_is_known() -> None:
    tensors = {n: t for n, t in of_shapes("densenet121").items() if "denseblock4.denselayer16" not in n}
    with pytest.raises(ArchitectureError, match="denseblock4.denselayer16.norm1.weight is missing"):
        config_of(tensors, "densenet121")


def test_a_layer_too_many_is_named() -> None:
    tensors = of_shapes("densenet121")
    tensors["features.transition4.conv.weight"] = torch.empty(1, device="meta")
    with pytest.raises(ArchitectureError, match=r"features.transition4.conv.weight is not part of it"):
        config_of(tensors, "densenet121")


def test_a_wrong_shape_is_named_by_the_sources_name_with_both_shapes() -> None:
    tensors = in_2017_names(of_shapes("densenet121"))
    name = "features.denseblock2.denselayer1.norm.2.weight"
    tensors[name] = torch.empty(64, device="meta")
    with pytest.raises(ArchitectureError, match=rf"{name} has shape \[64\], expected \[128\]"):
        config_of(tensors, "densenet121")


def test_the_network_holds_the_sources_tensors_uncopied_and_in_eval_mode() -> None:
    state = state_dict_of()
    model = load_model(renamed_from(state), SMALL).model
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == state[name].data_ptr()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "features.conv0.weight",
            float("nan"),
            r"features.conv0.weight has 1 of 1,176 elements that are NaN",
        ),
        (f"{LAYER}.norm1.weight", float("inf"), "NaN or infinite"),
        ("classifier.bias", -float("inf"), "NaN or infinite"),
        (f"{LAYER}.norm2.running_var", -1e-3, r"holds -0.001, expected no variance below 0"),
    ],
)
def test_impossible_values_are_refused_by_name(name: str, value: float, message: str) -> None:
    state = state_dict_of()
    state[name].view(-1)[-1] = value
    with pytest.raises(ValueRangeError, match=message) as error:
        load_model(renamed_from(state), SMALL)
    assert name in str(error.value)


def test_a_refusal_uses_the_sources_name() -> None:
    state = in_2017_names(state_dict_of())
    state[f"{LAYER}.norm.1.weight"][0] = float("nan")
    with pytest.raises(ValueRangeError, match=f"{LAYER}.norm.1.weight"):
        load_model(renamed_from(state), SMALL)


@pytest.mark.parametrize("count", [torch.tensor(-1), torch.tensor(1e30), torch.tensor(1, dtype=torch.int32)])
def test_a_count_that_counts_nothing_is_refused(count: torch.Tensor) -> None:
    state = {**state_dict_of(), "features.norm0.num_batches_tracked": count}
    with pytest.raises(ValueRangeError, match=r"features\.norm0\.num_batches_tracked.*expected a count"):
        load_model(renamed_from(state), SMALL)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.complex64, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_no_floats_are_refused_by_name(dtype: torch.dtype) -> None:
    state = state_dict_of()
    state[f"{LAYER}.conv1.weight"] = state[f"{LAYER}.conv1.weight"].to(dtype)
    with pytest.raises(ValueRangeError, match=rf"{LAYER}\.conv1\.weight is of {dtype}"):
        load_model(renamed_from(state), SMALL)


def test_several_dtypes_in_one_network_are_refused() -> None:
    state = state_dict_of()
    state["classifier.bias"] = state["classifier.bias"].half()
    with pytest.raises(ValueRangeError, match=r"several dtypes.*torch.float16 \(classifier.bias\)"):
        load_model(renamed_from(state), SMALL)


DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def with_flipped_bit(tensor: torch.Tensor, index: int) -> torch.Tensor:
    """The tensor with the highest bit of an element's exponent exchanged."""
    integers = {torch.float64: torch.int64, torch.float32: torch.int32}.get(tensor.dtype, torch.int16)
    bits = tensor.clone().flatten().view(integers)
    bits[index] ^= 1 << (8 * tensor.element_size() - 2)
    return bits.view(tensor.dtype).reshape(tensor.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [f"{LAYER}.conv1.weight", "classifier.weight", "features.conv0.weight"])
def test_an_element_whose_exponent_was_damaged_is_remarked_on_with_its_place(
    name: str, dtype: torch.dtype
) -> None:
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state_dict_of().items()}
    sizes = state[name].abs().flatten().float()
    index = int(torch.where(sizes < 1, sizes, 0).argmax())
    state[name] = with_flipped_bit(state[name], index)
    place = [int(i) for i in torch.unravel_index(torch.tensor(index), state[name].shape)]
    (remark,) = check_values(renamed_from(state))
    assert remark.kind == "impossible-value"
    assert f"{name} holds " in remark.text
    assert f" at {place}, " in remark.text
    assert remark.names == (name,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(5))
def test_no_value_of_a_sound_network_is_remarked_on(dtype: torch.dtype, seed: int) -> None:
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state_dict_of(seed=seed).items()}
    # Trained statistics reach from nothing to thousands, and a bias may have one class apart.
    state["features.norm5.running_var"] = torch.logspace(-12, 3, SMALL.num_features).to(dtype)
    state["classifier.bias"] = torch.tensor([0.0, 1e-8, 1e-4, 2e-4, 900.0]).to(dtype)
    assert check_values(renamed_from(state)) == ()
