"""An error is held against the reference's own, by a factor that follows from a model."""

from __future__ import annotations

import shutil
import sysconfig
from copy import deepcopy
from dataclasses import replace
from math import inf, pi, sqrt
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL
from torch import Tensor, nn

from densenet_convert.proof.inputs import FEWEST_LOGITS, draw, measured_shape
from densenet_convert.proof.tolerance import (
    ORDER,
    RARE,
    Setting,
    bound,
    exceeding,
    factor,
    largest_error,
    logits_of,
    measure,
    measured,
    orders,
    precisions,
)
from densenet_convert.source.random_weights import random_network

CPU = torch.device("cpu")
SETTINGS = (*precisions(CPU), *orders(2))


@pytest.mark.parametrize("count", [24, 1000])
def test_the_factor_is_what_drawing_errors_gives(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = 20_000
    ours, theirs = torch.randn(2, draws, count, generator=generator).abs().amax(2)
    for f in (1.1, 1.3, 1.5):
        share, expected = (ours > f * theirs).double().mean().item(), exceeding(f, count)
        # Four standard deviations of a share of so many draws.
        assert share == pytest.approx(expected, abs=4 * sqrt(expected / draws))


def test_the_ratio_of_two_single_errors_has_the_tail_of_a_cauchy_distribution() -> None:
    """The ratio of two Gaussians is Cauchy's, whose two tails beyond f hold 2 / (pi f)."""
    assert exceeding(1e4, 1) == pytest.approx(2 / (pi * 1e4), rel=0.01)


def test_the_factor_is_the_smallest_that_is_rare_enough() -> None:
    for count in (2, 24, 1000, 10**6):
        f = factor(count) / ORDER
        assert exceeding(f, count) <= RARE < exceeding(f / 1.01, count)


def test_the_more_is_compared_the_smaller_the_factor() -> None:
    factors = [factor(count) for count in (1, 2, 10, 100, 1000, 10**6)]
    assert factors == sorted(factors, reverse=True)
    assert factor(1000) == pytest.approx(4 * 2.0, rel=0.01)
    assert factor(FEWEST_LOGITS) == pytest.approx(4 * 4.0, rel=0.01)


@pytest.mark.parametrize("classes", [0, 1, 5, 1000])
def test_errors_are_measured_on_enough_logits(classes: int) -> None:
    shape = measured_shape(replace(SMALL, num_classes=classes))
    assert shape[1:] == (3, 91, 123)
    assert shape[0] * (classes or SMALL.num_features) >= FEWEST_LOGITS


def test_without_an_error_of_the_references_rounding_is_allowed() -> None:
    exact = torch.tensor([[1.0, -4.0]], dtype=torch.float64)
    assert bound(0.0, exact, torch.bfloat16) == factor(2) * 4 * 2**-8
    assert bound(1.0, exact, torch.bfloat16) == factor(2)


@pytest.mark.parametrize("value", [float("nan"), inf])
def test_what_is_not_finite_is_infinitely_wrong(value: float) -> None:
    exact = torch.zeros(2, 2, dtype=torch.float64)
    assert largest_error(torch.full((2, 2), value), exact) == inf
    assert largest_error(torch.zeros(2, 3), exact) == inf


def test_an_overflow_of_ours_alone_is_beyond_any_bound() -> None:
    exact = torch.ones(24, 1, dtype=torch.float64)
    good, bad = exact.half(), torch.full((24, 1), inf).half()
    assert not measured(SETTINGS[0], bad, good, exact).holds
    assert measured(SETTINGS[0], good, bad, exact).holds
    assert measured(SETTINGS[0], bad, bad, exact).holds


class Case:
    """A small network, its copy under another library's hands, and an input."""

    ours: nn.Module = random_network(SMALL, 0).eval()
    theirs: nn.Module = deepcopy(ours)
    x: Tensor = draw(measured_shape(SMALL), seed=0)
    exact: Tensor = logits_of(deepcopy(ours).double(), x.double())


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_same_function_is_within_its_bound_in_every_setting(setting: Setting) -> None:
    found = measure(setting, Case.ours, Case.theirs, Case.x, Case.exact)
    assert found.setting == setting.name
    assert 0 < found.ours == found.theirs < found.bound


@pytest.mark.parametrize("setting", orders(2), ids=lambda setting: setting.name)
def test_in_another_order_of_summation_we_are_within_the_bound_of_the_reference_as_it_is(
    setting: Setting,
) -> None:
    logits = setting.run(deepcopy(Case.ours), Case.x)
    assert measured(setting, logits, logits_of(Case.theirs, Case.x), Case.exact).holds


@pytest.mark.parametrize("setting", [precisions(CPU)[0], *orders(2)], ids=lambda setting: setting.name)
def test_another_function_is_beyond_its_bound(setting: Setting) -> None:
    faulty = deepcopy(Case.ours)
    norm = faulty.get_submodule("features.denseblock3.denselayer1.norm1")
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias):
            tensor.copy_(tensor.flip(0))
    assert not measure(setting, faulty, Case.theirs, Case.x, Case.exact).holds


@pytest.mark.filterwarnings("default")  # the compiler warns of itself
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_network_is_within_the_bound_of_the_reference_as_it_is(backend: str) -> None:
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if backend == "inductor" and not (shutil.which("g++") and headers.exists()):
        pytest.skip("inductor needs g++ and Python's headers")
    # Shallow, for every layer is compiled.
    network: nn.Module = random_network(replace(SMALL, block_config=(1, 1)), 0).eval()
    exact = logits_of(deepcopy(network).double(), Case.x.double())
    logits = logits_of(torch.compile(network, backend=backend), Case.x)
    setting = Setting("compile", torch.float32, logits_of)
    assert measured(setting, logits, logits_of(network, Case.x), exact).holds


def test_nothing_is_changed_by_measuring() -> None:
    before = {name: tensor.clone() for name, tensor in Case.ours.state_dict().items()}
    for setting in SETTINGS:
        measure(setting, Case.ours, Case.theirs, Case.x, Case.exact)
    after = Case.ours.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not Case.ours.training
