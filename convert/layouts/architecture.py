"""Which network the tensors are, by their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from densenet_convert.densenet import ARCHITECTURES, DenseNetConfig, infer_config
from densenet_convert.densenet.config import architecture_label, size_of

from ..errors import ArchitectureError, first_few

Shape = tuple[int, ...]


def choose_config(
    shapes: Mapping[str, Shape],
    *,
    implied: Mapping[str, Any] | None = None,
    architecture: str | None = None,
    source_names: Mapping[str, str] | None = None,
) -> DenseNetConfig:
    """Returns the config whose tensors are exactly these, by name and shape.

    Args:
        shapes: of every tensor, by its canonical name.
        implied: fields of the config that shapes don't tell.
        architecture: the one that it must be, such as ``"densenet169"``.
        source_names: the source's name of each canonical one, for messages.

    Raises:
        ArchitectureError: a tensor is missing, unexpected or of another shape, or the
            network is another one than ``architecture``.
    """
    known = dict(implied or {})
    try:
        found = replace(infer_config(shapes), **known)
    except ValueError as error:
        if architecture is None:
            raise ArchitectureError(f"These are not the tensors of a whole DenseNet: {error}.") from error
        found = None
    if architecture is not None and (found is None or size_of(found) != architecture):
        if found is not None and found.tensor_shapes() == shapes:
            raise ArchitectureError(_another_network(found, architecture))
        classes = (shapes.get("classifier.weight") or (0,))[0]
        if found is not None:
            known["spatial_dims"] = found.spatial_dims
        found = replace(ARCHITECTURES[architecture], num_classes=classes, **known)
    assert found is not None  # either branch above has set it
    _check_shapes(shapes, found, source_names or {})
    return found


def _another_network(found: DenseNetConfig, architecture: str) -> str:
    named = size_of(found)
    if named:
        return f"This is a {named}, not a {architecture}. Ask for `arch={named.removeprefix('densenet')}`."
    return f"This is a {architecture_label(found)}, not a {architecture}."


def _check_shapes(
    shapes: Mapping[str, Shape], config: DenseNetConfig, source_names: Mapping[str, str]
) -> None:
    expected = config.tensor_shapes()
    problems = [f"{name} is missing" for name in expected if name not in shapes]
    problems += [
        f"{source_names.get(name, name)} is not part of it" for name in shapes if name not in expected
    ]
    for name, shape in expected.items():
        found = shapes.get(name, shape)
        if found != shape:
            label = source_names.get(name, name)
            problems.append(f"{label} has shape {list(found)}, expected {list(shape)}")
    if problems:
        raise ArchitectureError(
            f"These are not the tensors of a whole {architecture_label(config)} with {config.num_classes} "
            f"classes: {first_few(problems)}."
        )
