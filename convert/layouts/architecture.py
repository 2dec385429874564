"""Which network the tensors are, by their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from densenet_convert.densenet import ARCHITECTURES, DenseNetConfig, architecture_of, infer_config

from ..errors import ArchitectureError, first_few
from ..records import Renamed

Shape = tuple[int, ...]


def choose_config(renamed: Renamed, architecture: str | None = None) -> DenseNetConfig:
    """The config whose tensors are exactly those of ``renamed``, by name and shape.

    Args:
        renamed: tensors under canonical names.
        architecture: the one that it must be, such as ``"densenet169"``.

    Raises:
        ArchitectureError: a tensor is missing, unexpected or of another shape, or the
            network is another one than ``architecture``.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in renamed.tensors.items()}
    declared = {} if renamed.checkpoint.norm_eps is None else {"norm_eps": renamed.checkpoint.norm_eps}
    implied = {**renamed.layout.overrides, **declared}
    try:
        found = replace(infer_config(shapes), **implied)
    except ValueError as error:
        if architecture is None:
            raise ArchitectureError(f"These are not the tensors of a whole DenseNet: {error}.") from error
        found = None
    if architecture is not None and (found is None or size_of(found) != architecture):
        if found is not None and found.tensor_shapes() == shapes:
            raise ArchitectureError(_another_network(found, architecture))
        classes = (shapes.get("classifier.weight") or (0,))[0]
        found = replace(ARCHITECTURES[architecture], num_classes=classes, **implied)
    assert found is not None  # either branch above has set it
    _check_shapes(shapes, found, renamed.source_names)
    return found


def size_of(config: DenseNetConfig) -> str | None:
    """The architecture, whatever a library sets beside it, such as its own epsilon."""
    usual = {
        name: getattr(DenseNetConfig(), name) for name in ("norm_eps", "stem_padding", "transition_pool")
    }
    return architecture_of(replace(config, **usual))


def _another_network(found: DenseNetConfig, architecture: str) -> str:
    named = size_of(found)
    if named:
        return f"This is a {named}, not a {architecture}. Ask for --arch {named.removeprefix('densenet')}."
    return (
        f"This is a DenseNet with blocks {found.block_config}, growth rate {found.growth_rate}, "
        f"{found.num_init_features} channels in the stem and bottlenecks {found.bn_size} times as wide, "
        f"not a {architecture}."
    )


def _check_shapes(
    shapes: Mapping[str, Shape], config: DenseNetConfig, source_names: Mapping[str, str | None]
) -> None:
    expected = config.tensor_shapes()
    problems = [f"{name} is missing" for name in expected if name not in shapes]
    problems += [f"{source_names[name]} is not part of it" for name in shapes if name not in expected]
    problems += [
        f"{source_names[name]} has shape {list(shapes[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    if problems:
        label = architecture_of(config) or f"DenseNet with blocks {config.block_config}"
        raise ArchitectureError(
            f"These are not the tensors of a whole {label} with {config.num_classes} classes: "
            f"{first_few(problems)}."
        )
