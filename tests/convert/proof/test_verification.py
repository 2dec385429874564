"""The proof holds for the same function and fails, at the right place, for any other.

Each fault is put where it would happen.  A fault of the map leaves every byte as it was,
so it must be found by what the network computes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from checkpoints import (
    SMALL,
    StateDict,
    checkpoint_of,
    in_2017_names,
    in_names_of,
    read_as,
    renamed_as,
    state_dict_of,
)
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet, DenseNetConfig
from densenet_convert.errors import ArchitectureError, ParityError, ValueRangeError
from densenet_convert.layout import Layout, Rule
from densenet_convert.layouts import BUILT_IN, TORCHVISION, TORCHVISION_DOTTED
from densenet_convert.layouts.identify import identify_layout
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.proof import verification
from densenet_convert.proof.coverage import CoverageMeter
from densenet_convert.proof.load import load_model
from densenet_convert.proof.references.reference import load_reference
from densenet_convert.proof.verification import verify_model
from densenet_convert.records import Checkpoint, Loaded, Trace
from densenet_convert.results import EveryInput, Proof

CPU = torch.device("cpu")
LAYER = "features.denseblock2.denselayer2"


def loaded_from(
    checkpoint: Checkpoint, layout: Layout | None = None, config: DenseNetConfig = SMALL
) -> Loaded:
    if layout is not None:
        return load_model(renamed_as(layout, checkpoint), config)
    return load_model(rename_tensors(checkpoint, identify_layout(checkpoint.tensors, BUILT_IN)), config)


def proven(tensors: StateDict, config: DenseNetConfig = SMALL) -> Proof:
    checkpoint = checkpoint_of(tensors)
    loaded = loaded_from(checkpoint, config=config)
    return verify_model(loaded, load_reference(checkpoint, loaded.renamed.reading, config), CPU)


def refused(loaded: Loaded, checkpoint: Checkpoint, layout: Layout = TORCHVISION) -> ParityError:
    with pytest.raises(ParityError) as error:
        verify_model(loaded, load_reference(checkpoint, read_as(layout, checkpoint.tensors), SMALL), CPU)
    return error.value


@pytest.mark.parametrize("blind", [False, True])
def test_a_training_step_may_be_taken_on_another_device(blind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU in three dimensions; both devices are the CPU here, under two names."""
    checkpoint = checkpoint_of(state_dict_of())
    loaded = loaded_from(checkpoint)
    reference = load_reference(checkpoint, loaded.renamed.reading, SMALL)
    both = verification._Both(loaded, reference, CPU, 0)
    moves: list[torch.device] = []
    move = both._move
    monkeypatch.setattr(both, "_move", lambda device: (moves.append(device), move(device)))
    both.trains_on = torch.device("cpu", 0)
    evaluated, trained, _ = inputs = verification.proof_inputs(SMALL)
    if blind:
        both.measure(inputs)
        assert both.tally.compared["gradients"] > 0
    else:
        assert both.compare_recorded(evaluated, trained).holds
    assert moves == [both.trains_on, CPU]
    assert both.device == CPU


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("names", [dict, in_2017_names])
def test_the_same_function_is_proven_to_the_bit(
    names: Callable[[StateDict], StateDict], dtype: torch.dtype
) -> None:
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state_dict_of().items()}
    proof = proven(names(state))
    assert set(proof.largest.values()) == {0.0}
    layers = sum(SMALL.block_config)
    assert proof.compared == {
        "tensors": len(state),
        # stem: conv, norm, pool; a layer: 2 norms, 2 convs; a transition: norm, conv, pool; norm5; classifier
        "activations": 2 * (3 + 4 * layers + 3 * 3 + 1 + 1),
        "logits": 2,
        "gradients": sum(1 for n in state if n.endswith(("weight", "bias"))),
        "running statistics": sum(1 for n in state if n.endswith(("mean", "var", "tracked"))),
    }


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, num_classes=0),
        replace(SMALL, num_classes=1),
        replace(SMALL, in_channels=1),
        DenseNetConfig(growth_rate=3, block_config=(1,), num_init_features=5, bn_size=1, num_classes=2),
    ],
)
def test_other_heads_inputs_and_depths_are_proven(config: DenseNetConfig) -> None:
    assert proven(in_2017_names(state_dict_of(config)), config).compared["activations"]


def test_the_proof_leaves_the_source_as_it_was() -> None:
    state = state_dict_of()
    before = {name: tensor.clone() for name, tensor in state.items()}
    checkpoint = checkpoint_of(state)
    loaded = loaded_from(checkpoint)
    verify_model(loaded, load_reference(checkpoint, loaded.renamed.reading, SMALL), CPU)
    assert all(torch.equal(state[name], before[name]) for name in state)
    assert not loaded.model.training
    held = loaded.model.state_dict()
    assert all(torch.equal(held[name], before[name]) for name in state)


def swapped(a: str, b: str) -> Layout:
    """The dotted table with the targets ``a`` and ``b`` exchanged."""
    state = in_2017_names(state_dict_of(), counted=True)
    targets = read_as(TORCHVISION_DOTTED, state).explanation.targets
    exchanged = {a: b, b: a}
    rules = tuple(Rule(source.replace(".", r"\."), exchanged.get(t, t)) for source, t in targets.items())
    return replace(TORCHVISION_DOTTED, name="faulty", rules=rules)


def pairs_of_one_shape() -> list[tuple[str, str]]:
    shapes = {n: s for n, s in SMALL.tensor_shapes().items() if s}
    return [(a, b) for a, b in combinations(shapes, 2) if shapes[a] == shapes[b]]


def test_two_tensors_that_the_table_exchanges_are_found_without_the_bytes() -> None:
    """The bytes agree through a wrong map, and are no help here: each pair is located."""
    state = state_dict_of()
    for tensor in state.values():
        if tensor.ndim == 1:
            tensor.abs_()  # or the check of values would refuse some of them as variances
    checkpoint = checkpoint_of(in_2017_names(state, counted=True))
    pairs = pairs_of_one_shape()
    assert len(pairs) > 1000
    order = list(SMALL.tensor_shapes())
    # A few of them, through the whole proof; names alone judge each (selftest/test_exchanges.py).
    for a, b in pairs[::200]:
        error = refused(loaded_from(checkpoint, swapped(a, b)), checkpoint, TORCHVISION_DOTTED)
        first = min(a, b, key=order.index)
        assert error.where == first.rpartition(".")[0]
        assert error.exit_code == 3
        assert f"at {error.where}" in str(error)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("weight", "running_var"),
        ("bias", "running_mean"),
        ("weight", "bias"),
        ("running_mean", "running_var"),
    ],
)
def test_exchanged_fields_of_a_norm_are_found(one: str, other: str) -> None:
    checkpoint = checkpoint_of(in_2017_names(state_dict_of(), counted=True))
    layout = swapped(f"{LAYER}.norm1.{one}", f"{LAYER}.norm1.{other}")
    # A variance may not be negative: the value check must not stand in for the proof.
    checkpoint.tensors[f"{LAYER}.norm.1.bias"].abs_()
    checkpoint.tensors[f"{LAYER}.norm.1.running_mean"].abs_()
    error = refused(loaded_from(checkpoint, layout), checkpoint, TORCHVISION_DOTTED)
    assert error.where == f"{LAYER}.norm1"


def with_pools(pool: Callable[[], nn.Module]) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        for i in (1, 2, 3):
            model.get_submodule(f"features.transition{i}").pool = pool()

    return change


def change_eps(model: DenseNet) -> None:
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 1.001e-5


def pad_asymmetrically(model: DenseNet) -> None:
    stem = model.get_submodule("features.conv0")
    stem.padding = (0, 0)
    stem.register_forward_pre_hook(lambda _, x: F.pad(x[0], (2, 3, 2, 3)))


def reverse_concatenation(model: DenseNet) -> None:
    block = model.get_submodule("features.denseblock2")

    def forward(x: Tensor) -> Tensor:
        features = [x]
        for layer in block.children():
            features.append(layer(features))
        return torch.cat(features[::-1], 1)

    block.forward = forward


def drop_relu(name: str) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        model.get_submodule(LAYER).register_module(name, nn.Identity())

    return change


def drop_last_relu(model: DenseNet) -> None:
    def forward(x: Tensor) -> Tensor:
        return model.classifier(F.adaptive_avg_pool2d(model.features(x), 1).flatten(1))

    model.forward = forward


def use_dropout(model: DenseNet) -> None:
    model.get_submodule(LAYER).drop_rate = 0.2


def train_one_norm(model: DenseNet) -> None:
    model.get_submodule(f"{LAYER}.norm2").train()


def change_momentum(model: DenseNet) -> None:
    model.get_submodule(f"{LAYER}.norm2").momentum = 0.2


def nudge(model: DenseNet) -> None:
    weight = model.get_submodule(f"{LAYER}.conv2").weight
    with torch.no_grad():
        weight.view(-1)[5] = torch.nextafter(weight.view(-1)[5], torch.tensor(9.0))


NETWORK_FAULTS: dict[str, tuple[Callable[[DenseNet], None], str]] = {
    "epsilon": (change_eps, r"features\..*norm\d?"),
    "max for average pooling": (with_pools(lambda: nn.MaxPool2d(2)), "features.transition1.pool"),
    "ceil_mode": (with_pools(lambda: nn.AvgPool2d(2, ceil_mode=True)), "features.transition1.pool"),
    "asymmetric padding": (pad_asymmetrically, "features.conv0"),
    "reversed concatenation": (reverse_concatenation, "features.transition2.norm"),
    "a missing first ReLU": (drop_relu("relu1"), f"{LAYER}.conv1"),
    "a missing second ReLU": (drop_relu("relu2"), f"{LAYER}.conv2"),
    "a missing last ReLU": (drop_last_relu, "classifier"),
    "a norm left in training": (train_one_norm, f"{LAYER}.norm2"),
    "another momentum": (change_momentum, f"{LAYER}.norm2.running_mean"),
    "dropout": (use_dropout, "features.denseblock2.denselayer3.norm1"),
    "an element moved by one ulp": (nudge, f"{LAYER}.conv2.weight"),
}


@pytest.mark.parametrize("fault", NETWORK_FAULTS)
def test_a_fault_of_the_network_is_found_where_it_first_shows(fault: str) -> None:
    inject, where = NETWORK_FAULTS[fault]
    checkpoint = checkpoint_of(state_dict_of())
    separate = checkpoint_of({name: tensor.clone() for name, tensor in checkpoint.tensors.items()})
    loaded = loaded_from(checkpoint)
    inject(loaded.model)
    if fault == "an element moved by one ulp":
        loaded = replace(loaded, renamed=replace(loaded.renamed, checkpoint=separate))
    error = refused(loaded, separate)
    # Which norm first shows another epsilon is a matter of rounding.
    assert re.fullmatch(where, error.where)


def test_a_missing_layer_is_found() -> None:
    checkpoint = checkpoint_of(state_dict_of())
    loaded = loaded_from(checkpoint)
    loaded.model.get_submodule("features.transition2").pool = nn.Identity()
    error = refused(loaded, checkpoint)
    assert error.where == "features.denseblock3.denselayer1.norm1"
    assert "it runs norm, expected average pooling" in str(error)


def test_a_wrong_map_is_found_where_nothing_passes_through() -> None:
    """Two convolutions behind dead norms: neither outputs nor gradients can tell them apart."""
    state = state_dict_of()
    layers = [f"features.denseblock2.denselayer{i}" for i in (1, 2)]
    for layer in layers:
        state[f"{layer}.norm2.bias"].fill_(-100)
    checkpoint = checkpoint_of(in_2017_names(state, counted=True))
    layout = swapped(*(f"{layer}.conv2.weight" for layer in layers))
    error = refused(loaded_from(checkpoint, layout), checkpoint, TORCHVISION_DOTTED)
    assert error.where == f"{layers[0]}.conv2"
    assert "though no value differed" in str(error)
    assert f"aten.convolution.default of {layers[0]}.conv2.weight, and the reference" in str(error)


def test_a_network_with_too_many_blocks_for_the_inputs_is_refused() -> None:
    config = replace(SMALL, block_config=(1,) * 6)
    with pytest.raises(ArchitectureError, match="6 dense blocks"):
        proven(dict(DenseNet(config).state_dict()), config)


def test_a_trail_that_names_another_source_is_found_by_the_bytes() -> None:
    checkpoint = checkpoint_of(state_dict_of())
    loaded = loaded_from(checkpoint)
    name = "features.norm0.weight"
    trail = tuple(Trace(name, "features.norm0.bias") if t.name == name else t for t in loaded.renamed.trail)
    error = refused(replace(loaded, renamed=replace(loaded.renamed, trail=trail)), checkpoint)
    assert error.where == name


def test_what_goes_wrong_beside_the_comparisons_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter([True, False])

    def fail_at_first(*_: object) -> None:
        if next(turns):
            raise RuntimeError("no memory for gradients")

    unknown = EveryInput("unknown", "unknown", "unknown", "a test says so")
    monkeypatch.setattr(verification, "summarise", lambda *_: unknown)
    monkeypatch.setattr(CoverageMeter, "backward", fail_at_first)
    with pytest.raises(RuntimeError, match="no memory for gradients"):
        proven(state_dict_of())


def test_what_is_equal_for_every_input_needs_no_coverage() -> None:
    proof = proven(state_dict_of())
    assert proof.every_input == EveryInput("equal", "equal", "equal")
    assert (proof.parameters, proof.statistics, proof.reaching, proof.dead) == (None, None, None, {})
    assert [mode for mode, _ in proof.inputs] == ["eval", "train"]


def test_gradients_that_are_summed_in_another_order_are_measured() -> None:
    pytest.importorskip("monai", reason="MONAI is not installed")
    checkpoint = checkpoint_of(in_names_of("monai", state_dict_of()))
    reading = identify_layout(checkpoint.tensors, BUILT_IN)
    loaded = load_model(rename_tensors(checkpoint, reading), SMALL)
    proof = verify_model(loaded, load_reference(checkpoint, reading, SMALL), CPU)
    known = proof.every_input
    assert (known.logits, known.gradients, known.buffers) == ("equal", "unknown", "equal")
    assert known.because is not None
    assert "aten.add.Tensor" in known.because
    assert proof.parameters is not None
    assert proof.parameters.total > 0.99


def test_a_network_that_overflows_proves_nothing() -> None:
    state = state_dict_of()
    state["classifier.weight"].fill_(3e38)
    with pytest.raises(ValueRangeError, match="output is not finite on eval 2x3x91x123"):
        proven(state)


def test_a_message_names_the_source_the_input_and_the_largest_difference() -> None:
    checkpoint = checkpoint_of(in_2017_names(state_dict_of(), counted=True))
    layout = swapped(f"{LAYER}.norm2.weight", f"{LAYER}.norm2.bias")
    message = str(refused(loaded_from(checkpoint, layout), checkpoint, TORCHVISION_DOTTED))
    assert f"{LAYER}.norm2 (from {LAYER}.norm.2." in message
    assert "on eval 2x3x91x123: the largest difference is" in message
    assert "expected 0" in message
