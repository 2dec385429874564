"""How far two networks are apart over their depth, in every precision: what the report shows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from densenet_convert.densenet import DenseNetConfig

from ...errors import ParityError
from ...records import Progress
from ...results import Measured, Proof
from ..comparisons import half_the_threads
from ..coverage import CoverageMeter
from ..determinism import deterministic
from ..inputs import draw, measured_shape
from ..layers import OUTPUT, outputs, watching
from ..tolerance import Setting, largest_error, logits_of, measure, measured, orders, precisions

phases = logging.getLogger("densenet_convert.phases")
# A small head needs many images for its logits to tell something; a layer has enough values of few.
LAYER_IMAGES = 2


@dataclass(frozen=True)
class _Run:
    """Error of each layer by its name, and last of the output, divided by the largest value there."""

    errors: Mapping[str, float]
    logits: Tensor


def diagnose(
    ours: nn.Module,
    theirs: nn.Module,
    config: DenseNetConfig,
    device: torch.device,
    shown: Proof | ParityError,
    progress: Progress | None = None,
) -> Diagnosis:
    """Runs both networks in float64, in each precision and in other orders of summation.

    Args:
        ours: our network; it is left as it was.
        theirs: the reference, likewise.
        config: what both are.
        device: where they run.
        shown: what the proof came to.
        progress: wraps the settings, and is told what they are.
    """
    phases.info("measuring in float64")
    with deterministic(device), half_the_threads():
        ours, theirs = (deepcopy(network).to(device, torch.float32) for network in (ours, theirs))
        x = draw(measured_shape(config), seed=0).to(device)
        double, layered = deepcopy(theirs).double(), precisions(device, config.spatial_dims)
        exact = _values(double, x.double())
        apart = _run(layered[0], ours, x, _values(theirs, x)).errors  # The first setting is float32.
        runs: dict[str, tuple[_Run, _Run]] = {}
        found, every = [], (*layered, *orders(config.spatial_dims))
        for setting in every if progress is None else progress(every, "settings"):
            if setting not in layered:
                found.append(measure(setting, ours, theirs, x, exact[-1]))
                continue
            a, b = (_run(setting, network, x, exact) for network in (ours, theirs))
            runs[setting.name] = a, b
            found.append(measured(setting, a.logits, b.logits, exact[-1]))
        seen, dead = _seen(ours, x, shown)
    return Diagnosis(
        layers=tuple(apart),
        apart=tuple(apart.values()),
        ours={name: tuple(a.errors.values()) for name, (a, _) in runs.items()},
        theirs={name: tuple(b.errors.values()) for name, (_, b) in runs.items()},
        logits=tuple(_numbers(run.logits) for run in runs[layered[0].name]),
        coverage=seen,
        dead=dead,
        measured=tuple(found),
        first=shown.where if isinstance(shown, ParityError) else None,
        problem=str(shown) if isinstance(shown, ParityError) else None,
    )


def require_within_bounds(measured: Iterable[Measured]) -> None:
    """Raises ParityError for the first setting in which our error is beyond its bound."""
    for one in measured:
        if not one.holds:
            raise ParityError(
                f"In the setting {one.setting!r} the error of our logits against float64 is {one.ours:.3g}, "
                f"expected at most {one.bound:.3g}, for the reference's own is {one.theirs:.3g}.",
                where="the output",
                largest=one.ours,
            )


def _values(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Output of each layer for ``LAYER_IMAGES``, and at the end the logits of all images."""
    return [value for _, value in outputs(network, lambda: logits_of(network, x), LAYER_IMAGES)]


def _run(setting: Setting, network: nn.Module, x: Tensor, exact: Sequence[Tensor]) -> _Run:
    """Compares each layer as it runs, and the logits, with ``_values`` of another network."""
    network = deepcopy(network)
    names = {module: name for name, module in network.named_modules()}
    errors: dict[str, float] = {}
    # If our layers are not the reference's, the first ones are compared, as far as both go.
    left = iter(exact[:-1])

    def compare(layer: nn.Module, output: Tensor) -> None:
        if (value := next(left, None)) is not None:
            errors[names[layer]] = _error(output[:LAYER_IMAGES], value)

    with watching(network, compare):
        logits = setting.run(network, x)
    return _Run({**errors, OUTPUT: _error(logits, exact[-1])}, logits)


def _error(output: Tensor, exact: Tensor) -> float:
    return largest_error(output, exact) / (exact.abs().max().item() or 1.0)


def _numbers(logits: Tensor) -> tuple[float, ...]:
    return tuple(logits.flatten().tolist())


def _seen(
    ours: nn.Module, x: Tensor, shown: Proof | ParityError
) -> tuple[Mapping[str, float], Mapping[str, tuple[int, ...]]]:
    """Coverage by the logits, and dead channels; empty of networks that are equal for every input."""
    if isinstance(shown, Proof):
        return ({}, {}) if shown.reaching is None else (shown.reaching.shares, shown.dead)
    meter = CoverageMeter(ours)  # the proof failed before it was measured
    with meter.watching():
        logits = ours(x)
    meter.backward(logits)
    return meter.reaching().shares, meter.dead_channels()


@dataclass(frozen=True)
class Diagnosis:
    """How far two networks are apart over their depth; what the report shows.

    Attributes:
        layers: canonical names in the order in which they ran; the last is ``"the output"``.
        apart: for each layer the largest difference between ours and the reference's in float32, divided by
            the largest value of the reference's.
        ours: for each precision, such as ``"bfloat16"``, the error of each layer: the largest difference
            from the reference's float64 run, divided by the largest value of that run.
        theirs: the same of the reference.
        logits: of both networks in float32, ours and theirs, image by image.
        coverage: share of each tensor's elements that the logits depend on, by canonical name; empty where
            both networks are equal for every input.
        dead: channels whose values can't pass on, by the canonical name of the tensor that would read them.
        measured: errors of the logits in every setting.
        first: name of the first layer or tensor that differs; None where nothing does.
        problem: the message of the proof that failed; None where it did not.
    """

    layers: tuple[str, ...]
    apart: tuple[float, ...]
    ours: Mapping[str, tuple[float, ...]]
    theirs: Mapping[str, tuple[float, ...]]
    logits: tuple[tuple[float, ...], ...]
    coverage: Mapping[str, float]
    dead: Mapping[str, tuple[int, ...]]
    measured: tuple[Measured, ...]
    first: str | None = None
    problem: str | None = None
