"""Holds a graph's weights against the folder's: by their bytes, or by what folding makes of them.

A norm that follows a convolution can be folded into it: with s = weight / sqrt(variance + eps), the kernel
becomes s K and the bias beta - s mean (Jacob et al. 2018, arXiv 1712.05877, section 3.2).  In floats of
unit roundoff u each of them is computed with a few roundings, and n roundings are off by n u / (1 - n u) of
the terms at most (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, lemma 3.1).
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.padding import _ConstantPadNd

from ...errors import ParityError
from ...tensors import dtype_name, same_bits
from ..tolerance import largest_error
from .align import ADVICE
from .followed import Graph, Node, Unit

# variance + eps, root, quotient; then the product with the kernel, or with the mean and the sum with beta.
ROUNDINGS = 3 + 3


def check_weights(graph: Graph, unit: Unit) -> int:
    """Compares the constants that a unit's nodes take, and its settings, with the layers' own.

    Returns:
        The number of tensors that are equal, bit for bit.

    Raises:
        ParityError: one is not, or is not what folding makes of them.
    """
    modules = [step.module for step in unit.steps if step.module is not None]
    node = unit.nodes[0]
    if isinstance(modules[0] if modules else None, _ConstantPadNd) and node.op != "Pad":
        modules = modules[1:]
    if not modules or not list(modules[0].parameters()):
        return 0
    if isinstance(modules[0], _BatchNorm) and node.op == "Mul":
        return _check_product_and_sum(graph, unit, modules[0])
    held = [graph.constant(value) for value in node.inputs[1:] if value]
    if any(one is None for one in held):
        raise _unlike(unit, f"{node} takes weights that depend on the input", float("inf"))
    given = [torch.from_numpy(np.array(one)) for one in held]
    if isinstance(modules[0], _BatchNorm):
        return _check_norm(unit, modules[0], given)
    if isinstance(modules[0], nn.Linear):
        return _check_linear(graph, unit, modules[0], given)
    norm = next((one for one in modules[1:] if isinstance(one, _BatchNorm)), None)
    return _check_convolution(unit, cast(_ConvNd, modules[0]), norm, given)


def _check_convolution(unit: Unit, layer: _ConvNd, norm: _BatchNorm | None, given: list[Tensor]) -> int:
    if norm is not None:
        kernel, bias = folded(layer, norm)
        _require_near(unit, f"{layer_name(unit)}.weight, folded,", given[0], *kernel)
        _require_near(unit, f"{layer_name(unit)}.bias, folded,", _second(given, bias[0]), *bias)
        return 0
    _require_equal(unit, "weight", given[0], layer.weight)
    if layer.bias is not None:
        _require_equal(unit, "bias", _second(given, layer.bias), layer.bias)
        return 2
    if len(given) > 1 and given[1].any():
        raise _unlike(unit, f"{unit.nodes[0]} has a bias, and the network none", given[1].abs().max().item())
    return 1


def _second(given: list[Tensor], like: Tensor) -> Tensor:
    return given[1] if len(given) > 1 else torch.zeros_like(like, dtype=given[0].dtype)


def folded(layer: _ConvNd, norm: _BatchNorm) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns kernel and bias as folding makes them, in float64, each with the size of its terms."""
    scale, shift, terms = scale_and_shift(norm)
    kernel = layer.weight.detach().double() * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.detach().double() * scale
    return (kernel, kernel.abs()), (shift + bias, terms + bias.abs())


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what a norm multiplies by, what it adds, and the size of the terms of that, in float64."""
    weight, beta = norm.weight.detach().double(), norm.bias.detach().double()
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    scale = weight / (variance + norm.eps).sqrt()
    return scale, beta - scale * mean, beta.abs() + (scale * mean).abs()


def _check_product_and_sum(graph: Graph, unit: Unit, norm: _BatchNorm) -> int:
    scale, shift, terms = scale_and_shift(norm)
    factor, *added = (_factor(graph, unit, node).flatten() for node in unit.nodes)
    _require_near(unit, f"The scale of {unit.layer}", factor, scale, scale.abs())
    _require_near(unit, f"The shift of {unit.layer}", (*added, torch.zeros_like(shift))[0], shift, terms)
    return 0


def _check_norm(unit: Unit, norm: _BatchNorm, given: list[Tensor]) -> int:
    names = ("weight", "bias", "running_mean", "running_var")
    for name, tensor in zip(names, given, strict=True):
        _require_equal(unit, name, tensor, cast(Tensor, getattr(norm, name)))
    return len(names)


def _check_linear(graph: Graph, unit: Unit, layer: nn.Linear, given: list[Tensor]) -> int:
    node = unit.nodes[0]
    across = node.op == "MatMul" or not node.attributes.get("transB", 0)
    _, *added = unit.nodes
    bias = _factor(graph, unit, added[0]).flatten() if added else _second(given, layer.bias)
    _require_equal(unit, "weight", given[0].T if across else given[0], layer.weight)
    _require_equal(unit, "bias", bias, layer.bias)
    return 2


def _factor(graph: Graph, unit: Unit, node: Node) -> Tensor:
    """Returns the constant of a product or a sum, on whichever side it stands."""
    found = [one for one in map(graph.constant, node.inputs) if one is not None]
    if not found:
        raise _unlike(unit, f"{node} takes weights that depend on the input", float("inf"))
    return torch.from_numpy(np.array(found[0]))


def layer_name(unit: Unit) -> str:
    return next(step.layer for step in unit.steps if step.kind == "Conv")


def _require_equal(unit: Unit, name: str, found: Tensor, expected: Tensor) -> None:
    tensor = f"{unit.layer}.{name}"
    expected = expected.detach()
    # Weights that are kept in less than what is computed in were rounded before.
    if torch.equal(narrowed := expected.to(found.dtype), expected):
        expected = narrowed
    if found.dtype != expected.dtype or found.shape != expected.shape:
        raise _unlike(
            unit,
            f"{tensor} is {_described(found)} in the graph, expected {_described(expected)}",
            float("inf"),
        )
    if not same_bits(found, expected):
        largest = largest_error(found, expected.double())
        raise _unlike(
            unit, f"{tensor} is not the folder's, bit for bit: it is off by up to {largest:.3g}", largest
        )


def _require_near(unit: Unit, what: str, found: Tensor, exact: Tensor, terms: Tensor) -> None:
    if found.shape != exact.shape:
        raise _unlike(
            unit, f"{what} is {_described(found)} in the graph, expected {tuple(exact.shape)}", float("inf")
        )
    unit_roundoff = torch.finfo(found.dtype).eps / 2
    allowed = ROUNDINGS * unit_roundoff / (1 - ROUNDINGS * unit_roundoff) * terms
    error = (found.double() - exact).abs()
    if not bool((error <= allowed + torch.finfo(found.dtype).tiny).all()):
        raise _unlike(
            unit,
            f"{what} is not what the folder's tensors make: it is off by up to {error.max().item():.3g}",
            error.max().item(),
        )


def _described(tensor: Tensor) -> str:
    return f"{dtype_name(tensor)} {list(tensor.shape)}"


def _unlike(unit: Unit, what: str, largest: float) -> ParityError:
    return ParityError(f"{what}.", where=unit.layer, largest=largest, advice=ADVICE)
