"""The records that pass from step to step.

Importing this module loads no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .claims import Assumption, Remark

if TYPE_CHECKING:
    from torch import Tensor, nn

    from densenet_convert.densenet import DenseNet, DenseNetConfig

    from .formats.modules import Layer
    from .layout import Reading

MULTI_LABEL = "multi_label_classification"
AnyPath = str | os.PathLike[str]
# A network at hand, or its tensors by their names.
InMemory: TypeAlias = "nn.Module | Mapping[str, Tensor]"
# Takes items and what they are, such as "images", and returns an iterable over the same items; tqdm fits.
Progress = Callable[[Sequence[Any], str], Iterable[Any]]
ORIGIN_IMAGENET = "IMAGENET1K_V1"
ORIGIN_RANDOM = "random"
ORIGIN_FILE = "file"
ORIGIN_MEMORY = "memory"
ORIGIN_BESIDE = "beside"
ORIGIN_CHECKPOINT = "checkpoint"
ORIGIN_LIST = "list"
ORIGIN_STATED = "stated"
IMAGENET = "imagenet1k"
# Names of the classes: one of the two words, a file of them, or the names themselves.
LabelSource: TypeAlias = "AnyPath | Sequence[str]"
# A number for each channel, or one for all: text, such as "0.5" or "0.485,0.456,0.406", or numbers.
Numbers: TypeAlias = "str | float | Sequence[float]"
# Height and width: "320", "320x256" or numbers.
Size: TypeAlias = "str | int | Sequence[int]"


class Rewrite(NamedTuple):
    """A step that changes how a tensor is written, and no output.

    Attributes:
        name: of the step, such as ``"weight-times-mask"``.
        sources: names of what it takes; none where it fills up what is absent.
        target: what it gives is called.
        like: name of the weight that tells the shape of what is filled up.
        transform: ``{"permute": [...]}`` or ``{"axis": ..., "order": [...]}``, where the step puts axes, or
            the entries along one, in another order.
    """

    name: str
    sources: tuple[str, ...]
    target: str
    like: str = ""
    transform: Mapping[str, Any] | None = None


class Rewritten(NamedTuple):
    """A step that was carried out.

    Attributes:
        name: of the step.
        sources: name and SHA-256 of each tensor that it took.
        target: name of what it gave.
        sha256: of that.
        transform: as ``Rewrite`` has it.
    """

    name: str
    sources: tuple[tuple[str, str], ...]
    target: str
    sha256: str
    transform: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, as the source holds them.

    Attributes:
        tensors: contiguous tensors on the CPU under the source's own names, in its order.
        digests: SHA-256 of each tensor's bytes, as they were when it was read.
        sha256: digest of the whole file, hexadecimal; of what was in memory that of a text with a line for
            each tensor: its name, dtype, shape and SHA-256.
        size: length of the file in bytes; of what was in memory that of all tensors.
        format: how the bytes were turned into tensors, such as ``"torch-legacy"``.
        container: the keys that led to the state dict, joined by dots; None for the file's own object.
        origin: ``"IMAGENET1K_V1"``, ``"random"``, ``"file"`` or ``"memory"``.
        seed: what random weights were drawn from; None for others.
        layers: what the source tells of its layers, by their paths; empty where it holds tensors alone.
        norm_eps: epsilon of its batch norms, where the source tells one that its layout does not imply.
        final_relu: whether a ReLU stands behind its last norm, where what lies beside it says so.
        calls: what its pickles would call if they were loaded the usual way, beyond what rebuilds tensors.
        rewrites: the steps that were carried out on its tensors.
        untouched: the tensors as they were before these steps; None where there were none.
        labels: names of the classes that the source holds, by the keys that lead to them.
    """

    tensors: Mapping[str, Tensor] = field(repr=False)
    digests: Mapping[str, str] = field(repr=False)
    sha256: str
    size: int
    format: str
    container: str | None = None
    origin: str = ORIGIN_FILE
    seed: int | None = None
    layers: Mapping[str, Layer] = field(default_factory=dict, repr=False)
    norm_eps: float | None = None
    final_relu: bool | None = None
    calls: tuple[str, ...] = field(default=(), repr=False)
    rewrites: tuple[Rewritten, ...] = field(default=(), repr=False)
    untouched: Mapping[str, Tensor] | None = field(default=None, repr=False)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def filled(self) -> frozenset[str]:
        """Names of the tensors that no tensor of the source was taken for."""
        return frozenset(step.target for step in self.rewrites if not step.sources)


@dataclass(frozen=True)
class Options:
    """The user's options of a conversion; ``convert`` explains each.

    It travels as one value from the command line and the public functions to the steps, and to workers in
    other processes.  Of a network at hand ``reference`` is ``"memory"``.
    """

    arch: str | int | None = None
    layout: str | None = None
    prefix: str | None = None
    only: str | None = None
    head: str | None = None
    final_relu: bool | None = None
    key: str | None = None
    reference: str | None = None
    reference_output: str | None = None
    reference_input_size: str | None = None
    ignore_config: bool = False
    device: str = "auto"
    force: bool = False
    golden: bool = False
    labels: LabelSource | None = None
    multi_label: bool = False
    mean: Numbers | None = None
    std: Numbers | None = None
    input_size: Size | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    datasets: Sequence[str] = ()
    base_model: str | None = None
    metrics: Sequence[str] = ()
    card_sections: Sequence[AnyPath] = ()


def options_from(arguments: Mapping[str, Any]) -> Options:
    """Returns the options that are among the arguments of a function; others have their defaults."""
    return Options(**{one.name: arguments[one.name] for one in fields(Options) if one.name in arguments})


@dataclass(frozen=True)
class Identified:
    """Which network a source holds.

    Attributes:
        reading: how its names are read, with the explanation of each.
        config: the network's hyperparameters.
        problem_type: how the logits are to be read, where the source or its layout says; see ``Labels``.
        norm_eps: epsilon of its batch norms, where the source tells one that its layout does not imply.
        assumptions: what neither the source nor the user tells of the network's function.
        rewrites: the steps between reading and layout, in their order.
    """

    reading: Reading
    config: DenseNetConfig
    problem_type: str | None = None
    norm_eps: float | None = None
    assumptions: tuple[Assumption, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()


@dataclass(frozen=True)
class Trace:
    """The origin of one canonical tensor.

    Attributes:
        name: the canonical one.
        source_name: None where it was written as zero.
        axes: the source's axes in canonical order, as ``torch.Tensor.permute`` takes them; None where they
            are in it.
    """

    name: str
    source_name: str | None
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Renamed:
    """The same tensors under canonical names, and the trail that led there.

    Attributes:
        checkpoint: what was renamed.
        reading: how its names were read.
        tensors: the checkpoint's own tensors, in the canonical order of axes, and zeros where it has none.
        trail: one trace for each of ``tensors``.
    """

    checkpoint: Checkpoint
    reading: Reading = field(repr=False)
    tensors: Mapping[str, Tensor] = field(repr=False)
    trail: tuple[Trace, ...] = field(repr=False)

    @property
    def source_names(self) -> dict[str, str | None]:
        """The source's name of each canonical one, as the trail has it."""
        return {trace.name: trace.source_name for trace in self.trail}


@dataclass(frozen=True)
class Loaded:
    """Our network with the renamed tensors in it, in eval mode; it shares their memory.

    Attributes:
        remarks: what was noticed in the tensors' values.
    """

    renamed: Renamed = field(repr=False)
    config: DenseNetConfig
    model: DenseNet = field(repr=False)
    remarks: tuple[Remark, ...] = field(default=(), repr=False)
