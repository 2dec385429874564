"""Step 4: which network the tensors are, and a strict load into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from densenet_convert.densenet import ARCHITECTURES, DenseNetConfig, architecture_of, infer_config

from .errors import ArchitectureError, ValueRangeError, some
from .records import Loaded, Renamed

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]

# A thousand batches a second, for thirty years.
MOST_BATCHES = 10**12


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
    told = {} if renamed.checkpoint.norm_eps is None else {"norm_eps": renamed.checkpoint.norm_eps}
    implied = {**renamed.layout.overrides, **told}
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


def load_model(renamed: Renamed, config: DenseNetConfig) -> Loaded:
    """Puts the tensors, uncopied, into a network in eval mode; nothing is initialised.

    Raises:
        ValueRangeError: a tensor has values or a dtype that no trained network has.
    """
    import torch

    from densenet_convert.densenet import DenseNet
    from densenet_convert.densenet.blank import NothingDrawn

    check_values(renamed)
    with torch.device("meta"), NothingDrawn():
        model = DenseNet(config)
    model.load_state_dict(dict(renamed.tensors), strict=True, assign=True)
    return Loaded(renamed, config, model.eval())


def check_values(renamed: Renamed) -> None:
    """Refuses NaN, infinity, negative variances and counts, and dtypes that are not one float type."""
    floats: dict[torch.dtype, str] = {}
    for name, tensor in renamed.tensors.items():
        label = some([renamed.source_names[name] or name])
        if name.endswith(".num_batches_tracked"):
            _check_count(label, tensor)
        else:
            _check_floats(label, tensor, lowest_allowed=0 if name.endswith(".running_var") else None)
            floats.setdefault(tensor.dtype, label)
    if len(floats) > 1:
        found = ", ".join(f"{dtype} ({label})" for dtype, label in floats.items())
        raise ValueRangeError(
            f"The weights are of several dtypes, expected one: {found}. Save them in the widest of these, "
            "into which the others go exactly."
        )


def _check_count(label: str, tensor: torch.Tensor) -> None:
    import torch

    if tensor.dtype != torch.int64 or tensor.numel() != 1 or not 0 <= tensor.item() <= MOST_BATCHES:
        raise ValueRangeError(
            f"{label} is {' '.join(str(tensor).split())[:99]}, expected a count of batches: "
            f"int64, 0 to {MOST_BATCHES:,}. The file is damaged, or the count was made up: set it to 0."
        )


def _check_floats(label: str, tensor: torch.Tensor, lowest_allowed: int | None) -> None:
    import torch

    if tensor.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        raise ValueRangeError(
            f"{label} is of {tensor.dtype}, expected float32, float64, float16 or bfloat16. "
            "No network can compute with other weights, which this one could be held against."
        )
    if not tensor.numel():
        return
    lowest, highest = torch.aminmax(tensor)  # a NaN anywhere makes both NaN
    if not torch.isfinite(lowest) or not torch.isfinite(highest):
        bad = int(torch.count_nonzero(~torch.isfinite(tensor)))
        raise ValueRangeError(
            f"{label} has {bad:,} of {tensor.numel():,} elements that are NaN or infinite. "
            "The training diverged or the file is damaged: use an earlier checkpoint."
        )
    if lowest_allowed is not None and lowest < lowest_allowed:
        raise ValueRangeError(f"{label} holds {lowest.item():.4g}, expected no variance below 0.")


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
            f"{some(problems)}."
        )
