"""Golden outputs: what the reference computed, with bounds, for machines that don't have it.

Of every layer four statistics are kept: the smallest and the largest value, the mean and the
standard deviation (of the population).  None of them moves by more than the largest difference
of an element: for the first three that is plain; the standard deviation is a seminorm, so
|std(a) - std(b)| <= std(a - b) <= max |a - b|.  So one bound on the elements, which ``tolerance``
derives from the reference's own error in float32, holds for all four.

On another machine the values differ by rounding, and stay within; those of another
function do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet, DenseNetConfig
from densenet_convert.densenet.blank import SkipInit

from ..errors import FolderError, ParityError, first_few
from ..tensors import dtype_name
from .determinism import deterministic
from .inputs import draw, measured_shape
from .layers import OUTPUT, outputs
from .tolerance import bound, largest_error, logits_of

Golden = Mapping[str, Tensor]


def take_golden(theirs: nn.Module, config: DenseNetConfig, device: torch.device) -> dict[str, Tensor]:
    """Runs the reference in float64 and in float32; it is left as it was.

    Args:
        theirs: the reference, of which it was proven that it runs our layers in their order.
        config: what it is.
        device: where it runs.

    Returns:
        ``input``, float32 ``[N, C, H, W]``; and in float64 ``logits``, ``[N, classes]``, for each layer
        ``statistics.NAME``, ``[4]`` (minimum, maximum, mean, standard deviation), and for each layer and
        the logits ``bounds.NAME``, ``[]``.
    """
    x = draw(measured_shape(config), seed=0)
    with deterministic(device):
        theirs = deepcopy(theirs).to(device, torch.float32)
        single = outputs(theirs, lambda: logits_of(theirs, x.to(device)))
        exact = outputs(theirs.double(), lambda: logits_of(theirs, x.to(device, torch.float64)))
    golden = {"input": x, "logits": exact[-1][1].cpu()}
    for name, (_, rounded), (_, value) in zip(_layers(config), single, exact, strict=True):
        if name != OUTPUT:
            golden[f"statistics.{name}"] = _statistics(value)
        limit = bound(largest_error(rounded, value), value, torch.float32)
        golden[_bound_of(name)] = torch.tensor(limit, dtype=torch.float64)
    return golden


def compare_golden(model: nn.Module, golden: Golden, config: DenseNetConfig, device: torch.device) -> float:
    """Runs our network in float32 on the golden input, and compares every layer and the logits.

    Returns:
        The largest difference, as a share of its bound.

    Raises:
        ParityError: a difference is beyond its bound.
        FolderError: ``golden`` is not of such a network.
    """
    _check(golden, config)
    with deterministic(device):
        model = deepcopy(model).to(device, torch.float32)
        ran = outputs(model, lambda: logits_of(model, golden["input"].to(device)))
    largest = 0.0
    for name, output in ran:
        value = output.double().cpu() if name == OUTPUT else _statistics(output)
        difference = largest_error(value, golden["logits" if name == OUTPUT else f"statistics.{name}"])
        limit = golden[_bound_of(name)].item()
        if not difference <= limit:
            raise ParityError(
                f"The network does not compute its golden outputs here: the first that differs is at {name}, "
                f"by {difference:.3g}, expected at most {limit:.3g}.",
                where=name,
                largest=difference,
                advice="This machine computes something else than the one that converted, or the golden "
                "outputs were taken of another network.",
            )
        largest = max(largest, difference / limit if limit else 0.0)
    return largest


def _check(golden: Golden, config: DenseNetConfig) -> None:
    """Every tensor is there, of its dtype and shape, finite, and no bound is negative."""
    layers = _layers(config)[:-1]
    classes = config.num_classes or config.num_features
    shapes: dict[str, tuple[int, ...]] = {"input": measured_shape(config)}
    shapes["logits"] = (shapes["input"][0], classes)
    shapes |= {f"statistics.{name}": (4,) for name in layers}
    shapes |= {_bound_of(name): () for name in (*layers, OUTPUT)}
    problems = [f"{name} is missing" for name in shapes if name not in golden]
    problems += [f"{name} is not part of it" for name in golden if name not in shapes]
    for name in shapes.keys() & golden.keys():
        tensor = golden[name]
        expected = "float32" if name == "input" else "float64"
        if (dtype_name(tensor), tuple(tensor.shape)) != (expected, shapes[name]):
            found = f"{dtype_name(tensor)} {list(tensor.shape)}"
            problems.append(f"{name} is {found}, expected {expected} {list(shapes[name])}")
        elif not tensor.isfinite().all() or (name.startswith("bounds.") and tensor.item() < 0):
            problems.append(f"{name} holds what no network computes")
    if problems:
        raise FolderError(
            f"The golden outputs are not of this network: {first_few(sorted(problems))}. "
            "Convert again, or get the folder again from where it came from."
        )


def _layers(config: DenseNetConfig) -> list[str]:
    """Canonical names of the layers in running order, ``OUTPUT`` last."""
    with torch.device("meta"), SkipInit():
        network = DenseNet(config).eval()
        x = torch.empty(measured_shape(config))
    return [name for name, _ in outputs(network, lambda: logits_of(network, x))]


def _bound_of(name: str) -> str:
    return "bounds.logits" if name == OUTPUT else f"bounds.{name}"


def _statistics(value: Tensor) -> Tensor:
    value = value.double()
    found = (*torch.aminmax(value), value.mean(), value.std(correction=0))
    return torch.stack(found).cpu()
