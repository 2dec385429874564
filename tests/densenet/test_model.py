"""The network against torchvision's: the same values, to the bit, on the same machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from densenet_convert import densenet as package
from densenet_convert.densenet import ARCHITECTURES, DenseNet, DenseNetConfig

SMALL: dict[str, Any] = {
    "growth_rate": 4,
    "block_config": (2, 3),
    "num_init_features": 8,
    "bn_size": 2,
    "num_classes": 10,
}
LOPSIDED: dict[str, Any] = {
    "growth_rate": 5,
    "block_config": (3, 1, 2),
    "num_init_features": 7,
    "bn_size": 3,
    "num_classes": 3,
}
# 33x52 meets both kinds of pooling at a side where ceil_mode would show.
SHAPES = [(2, 3, 64, 64), (3, 3, 33, 52), (2, 3, 75, 107)]


def seeded(build: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    return build()


def twins(ours: dict[str, Any], theirs: dict[str, Any] | None = None) -> tuple[DenseNet, nn.Module]:
    """Our network, its tensors stirred, and torchvision's, made of ``theirs`` where that is given."""
    network = stirred(seeded(lambda: DenseNet(DenseNetConfig(**ours))))
    return network, torchvision.models.DenseNet(**(ours if theirs is None else theirs))


def loaded_twins(values: dict[str, Any]) -> tuple[DenseNet, nn.Module]:
    ours, theirs = twins(values)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def stirred(network: DenseNet) -> DenseNet:
    """Norms that are neither 1 nor 0, so that no two channels or tensors can stand for each other."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for tensor, lowest in (
                    (norm.weight, 0.5),
                    (norm.bias, -0.5),
                    (norm.running_mean, -0.5),
                    (norm.running_var, 0.5),
                ):
                    assert tensor is not None
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + lowest)
    return network


def drawn(shape: tuple[int, ...], seed: int = 2) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 4 - 2


def one_step(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """All that a training step yields: output, gradients, and buffers afterwards."""
    network.train().zero_grad()
    torch.manual_seed(3)
    x = x.clone().requires_grad_()
    output = network(x)
    (output * drawn(tuple(output.shape), seed=4)).sum().backward()
    result = {"output": output.detach(), "input's gradient": x.grad}
    result |= {f"{name}'s gradient": parameter.grad for name, parameter in network.named_parameters()}
    result |= {name: buffer.clone() for name, buffer in network.named_buffers()}
    return {name: present(tensor, name) for name, tensor in result.items()}


def present(tensor: Tensor | None, name: str) -> Tensor:
    assert tensor is not None, name
    assert torch.isfinite(tensor).all(), name
    return tensor


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert list(ours) == list(theirs)
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


def assert_same_function(ours: nn.Module, theirs: nn.Module, shape: tuple[int, ...]) -> None:
    """Equal in eval mode and in one training step, to the bit."""
    theirs.load_state_dict(ours.state_dict())
    x = drawn(shape)
    with torch.no_grad():
        output = ours.eval()(x)
        assert torch.equal(output, theirs.eval()(x))
    assert output.std() > 0
    assert_same(one_step(ours, x), one_step(theirs, x))


# Names and initial values


@pytest.mark.parametrize("values", [SMALL, LOPSIDED], ids=("small", "lopsided"))
def test_the_same_seed_gives_torchvision_s_initial_values(values: dict[str, Any]) -> None:
    ours = seeded(lambda: DenseNet(DenseNetConfig(**values)))
    theirs = seeded(lambda: torchvision.models.DenseNet(**values))
    assert_same(ours.state_dict(), theirs.state_dict())


def test_building_leaves_the_random_state_where_torchvision_leaves_it() -> None:
    seeded(lambda: DenseNet(DenseNetConfig(**SMALL)))
    ours = torch.get_rng_state()
    seeded(lambda: torchvision.models.DenseNet(**SMALL))
    assert torch.equal(ours, torch.get_rng_state())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_full_size_network_starts_and_computes_as_torchvision_s(name: str) -> None:
    ours = seeded(getattr(package, name)).eval()
    theirs = seeded(getattr(torchvision.models, name)).eval()
    assert_same(ours.state_dict(), theirs.state_dict())
    x = drawn((1, 3, 64, 64))
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(
    "change", [{}, {"num_classes": 0}, {"in_channels": 1}, {"stem_padding": (2, 3)}], ids=str
)
def test_the_state_dict_is_what_the_config_predicts(change: dict[str, Any]) -> None:
    config = dataclasses.replace(DenseNetConfig(**LOPSIDED), **change)
    with torch.device("meta"):
        state = DenseNet(config).state_dict()
    assert [(name, tuple(t.shape)) for name, t in state.items()] == list(config.tensor_shapes().items())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_builder_takes_torchvision_s_arguments_and_overrides(name: str) -> None:
    build = getattr(package, name)
    with torch.device("meta"):
        plain, changed = build(), build(7, drop_rate=0.5, memory_efficient=True, bn_size=1, in_channels=1)
    assert plain.config == ARCHITECTURES[name]
    assert changed.config == dataclasses.replace(
        ARCHITECTURES[name], num_classes=7, drop_rate=0.5, memory_efficient=True, bn_size=1, in_channels=1
    )


def test_a_builder_refuses_what_is_no_hyperparameter() -> None:
    with pytest.raises(TypeError, match="pretrained"):
        package.densenet121(pretrained=True)


def test_without_a_config_the_network_is_densenet121() -> None:
    with torch.device("meta"):
        assert DenseNet().config == ARCHITECTURES["densenet121"]


# The function


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("values", [SMALL, LOPSIDED], ids=("small", "lopsided"))
def test_eval_and_a_training_step_equal_torchvision_s(values: dict[str, Any], shape: tuple[int, ...]) -> None:
    assert_same_function(*twins(values), shape)


@pytest.mark.parametrize("memory_efficient", [False, True], ids=("kept", "recomputed"))
def test_dropout_equals_torchvision_s_under_one_random_state(memory_efficient: bool) -> None:
    ours, theirs = twins({**SMALL, "drop_rate": 0.5, "memory_efficient": memory_efficient})
    assert_same_function(ours, theirs, SHAPES[1])


def test_dropout_changes_a_training_step_and_nothing_in_eval() -> None:
    dropping, _ = twins({**SMALL, "drop_rate": 0.5})
    keeping, _ = twins(SMALL)
    x = drawn(SHAPES[0])
    assert torch.equal(dropping.eval()(x), keeping.eval()(x))
    assert not torch.equal(dropping.train()(x), keeping.train()(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_output_has_the_dtype_of_the_weights_and_equals_torchvision_s(dtype: torch.dtype) -> None:
    ours, theirs = loaded_twins(SMALL)
    x = drawn(SHAPES[1]).to(dtype)
    with torch.no_grad():
        output = ours.to(dtype).eval()(x)
        assert output.dtype == dtype
        assert torch.equal(output, theirs.to(dtype).eval()(x))


def test_four_blocks_take_29_pixels_a_side_and_no_fewer() -> None:
    with torch.device("meta"):
        network = package.densenet121().eval()
        assert network(torch.empty(1, 3, 29, 29)).shape == (1, 1000)
        with pytest.raises(RuntimeError, match="Output size is too small"):
            network(torch.empty(1, 3, 28, 29))


# memory_efficient


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_memory_efficient_equals_torchvision_s_own(shape: tuple[int, ...]) -> None:
    assert_same_function(*twins({**LOPSIDED, "memory_efficient": True}), shape)


def test_memory_efficient_changes_neither_outputs_nor_gradients() -> None:
    x = drawn(SHAPES[1])
    kept, recomputed = (one_step(twins({**SMALL, "memory_efficient": on})[0], x) for on in (False, True))
    gradients = [name for name in kept if "gradient" in name or name == "output"]
    assert_same({name: recomputed[name] for name in gradients}, {name: kept[name] for name in gradients})


def test_memory_efficient_runs_the_bottleneck_twice_in_training_as_torchvision_does() -> None:
    ours, _ = twins({**SMALL, "memory_efficient": True})
    counts = {
        name: int(count)
        for name, count in one_step(ours, drawn(SHAPES[0])).items()
        if name.endswith("tracked")
    }
    assert {name for name, count in counts.items() if count == 2} == {n for n in counts if ".norm1." in n}


def test_memory_efficient_keeps_fewer_bytes_for_the_backward_pass() -> None:
    def bytes_kept(memory_efficient: bool) -> int:
        network = twins({**SMALL, "memory_efficient": memory_efficient})[0].train()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.nbytes) or tensor,  # type: ignore[func-returns-value]
            lambda tensor: tensor,
        ):
            network(drawn(SHAPES[0]))
        return sum(sizes)

    assert bytes_kept(True) < bytes_kept(False)


def test_memory_efficient_works_under_autograd_grad() -> None:
    """Reentrant checkpointing raises here, for it can't tell which gradients are asked for."""
    ours, theirs = loaded_twins({**SMALL, "memory_efficient": True})
    expected = one_step(theirs, drawn(SHAPES[1]))
    output = ours.train()(drawn(SHAPES[1]))
    loss = (output * drawn(tuple(output.shape), seed=4)).sum()
    names, parameters = zip(*ours.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    assert_same(
        dict(zip(names, gradients, strict=True)), {name: expected[f"{name}'s gradient"] for name in names}
    )


def test_memory_efficient_trains_above_a_frozen_stem_on_an_input_without_gradient() -> None:
    results = []
    for network in loaded_twins({**SMALL, "memory_efficient": True}):
        for name, parameter in network.named_parameters():
            parameter.requires_grad_("denseblock" in name)
        network.train()(drawn(SHAPES[1])).square().sum().backward()
        gradients = {n: present(p.grad, n) for n, p in network.named_parameters() if p.requires_grad}
        assert all(gradient.any() for gradient in gradients.values())
        results.append({**gradients, **dict(network.named_buffers())})
    assert_same(*results)


# What torchvision's network hasn't: compared with its modules, altered by hand


def test_without_classes_the_output_is_the_pooled_features() -> None:
    ours, theirs = twins({**SMALL, "num_classes": 0}, SMALL)
    theirs.classifier = nn.Identity()
    assert ours.eval()(drawn(SHAPES[0])).shape == (2, ours.config.num_features)
    assert_same_function(ours, theirs, SHAPES[1])


def test_transitions_pool_by_the_maximum_on_request() -> None:
    ours, theirs = twins({**LOPSIDED, "transition_pool": "max"}, LOPSIDED)
    for number in (1, 2):
        theirs.get_submodule(f"features.transition{number}").pool = nn.MaxPool2d(2, 2)
    assert_same_function(ours, theirs, SHAPES[1])


def test_every_norm_takes_the_epsilon() -> None:
    ours, theirs = twins({**SMALL, "norm_eps": 0.01}, SMALL)
    norms = [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.eps = 0.01
    assert [m.eps for m in ours.modules() if isinstance(m, nn.BatchNorm2d)] == [0.01] * len(norms)
    assert_same_function(ours, theirs, SHAPES[1])


@pytest.mark.parametrize("channels", [1, 5])
def test_the_input_may_have_any_number_of_channels(channels: int) -> None:
    ours, theirs = twins({**SMALL, "in_channels": channels}, SMALL)
    theirs.get_submodule("features").conv0 = nn.Conv2d(
        channels, 8, kernel_size=7, stride=2, padding=3, bias=False
    )
    assert_same_function(ours, theirs, (3, channels, 33, 52))


def first_convolution(network: nn.Module) -> nn.Conv2d:
    convolution = network.get_submodule("features.conv0")
    assert isinstance(convolution, nn.Conv2d)
    return convolution


@pytest.mark.parametrize("padding", [(2, 3), (3, 2), (0, 4)], ids=str)
def test_an_uneven_stem_padding_equals_a_pad_before_torchvision_s_modules(padding: tuple[int, int]) -> None:
    ours, theirs = twins({**SMALL, "stem_padding": padding}, SMALL)
    first_convolution(theirs).padding = (0, 0)
    theirs.register_forward_pre_hook(lambda _module, inputs: (F.pad(inputs[0], padding * 2),))
    assert_same_function(ours, theirs, SHAPES[1])


@pytest.mark.parametrize("padding", [0, 4])
def test_an_even_stem_padding_is_that_of_the_first_convolution(padding: int) -> None:
    ours, theirs = twins({**SMALL, "stem_padding": (padding, padding)}, SMALL)
    first_convolution(theirs).padding = (padding, padding)
    assert_same_function(ours, theirs, SHAPES[1])
