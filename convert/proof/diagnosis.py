"""How far two networks are apart over their depth, in every precision: what the report shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from densenet_convert.densenet import DenseNetConfig

from ..errors import ParityError
from ..records import Diagnosis, Measured, Proof
from .coverage import Sight
from .determinism import deterministic
from .inputs import draw, measured_shape
from .layers import outputs
from .tolerance import Setting, largest_error, logits_of, measure, measured, orders, precisions

# Name and output of each layer, the logits last.
Ran = list[tuple[str, Tensor]]


def diagnose(
    ours: nn.Module,
    theirs: nn.Module,
    config: DenseNetConfig,
    device: torch.device,
    shown: Proof | ParityError,
) -> Diagnosis:
    """Runs both networks in float64, in each precision and in other orders of summation.

    Args:
        ours: our network; it is left as it was.
        theirs: the reference, likewise.
        config: what both are.
        device: where they run.
        shown: what the proof came to.
    """
    with deterministic(device):
        ours, theirs = (deepcopy(network).to(device, torch.float32) for network in (ours, theirs))
        x = draw(measured_shape(config), seed=0).to(device)
        double = deepcopy(theirs).double()
        exact = outputs(double, lambda: logits_of(double, x.double()))
        settings = precisions(device)
        sides = [[_run(setting, network, x) for setting in settings] for network in (ours, theirs)]
        found = [
            measured(setting, a[-1][1], b[-1][1], exact[-1][1])
            for setting, a, b in zip(settings, *sides, strict=True)
        ]
        found += [measure(setting, ours, theirs, x, exact[-1][1]) for setting in orders()]
        if isinstance(shown, ParityError):
            seen, dead = _seen(ours, x)
        else:
            seen, dead = shown.reaching.shares, shown.dead
    names = [setting.name for setting in settings]
    return Diagnosis(
        layers=tuple(name for name, _ in sides[0][0]),
        ours=dict(zip(names, _errors(sides[0], exact), strict=True)),
        theirs=dict(zip(names, _errors(sides[1], exact), strict=True)),
        # The first setting is float32.
        logits=(_numbers(sides[0][0]), _numbers(sides[1][0])),
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


def _run(setting: Setting, network: nn.Module, x: Tensor) -> Ran:
    network = deepcopy(network)
    return outputs(network, lambda: setting.run(network, x))


def _errors(runs: Iterable[Ran], exact: Ran) -> Iterator[tuple[float, ...]]:
    """Error of each layer in each run, divided by the layer's largest value."""
    scales = [value.abs().max().item() or 1.0 for _, value in exact]
    for ran in runs:
        # Of other layers than the reference's the first ones are compared, up to an end.
        yield tuple(
            largest_error(output, value) / scale
            for (_, output), (_, value), scale in zip(ran, exact, scales, strict=False)
        )


def _numbers(ran: Ran) -> tuple[float, ...]:
    return tuple(ran[-1][1].flatten().tolist())


def _seen(ours: nn.Module, x: Tensor) -> tuple[Mapping[str, float], Mapping[str, tuple[int, ...]]]:
    """Coverage by the logits, and dead channels, of a network whose proof failed before that."""
    sight = Sight(ours)
    with sight.watching():
        logits = ours(x)
    sight.backward(logits)
    return sight.reaching().shares, sight.dead_channels()
