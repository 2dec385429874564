"""The results of a proof.

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The verdicts for every input.
EQUAL, DIFFERS, UNKNOWN = "equal", "differs", "unknown"


@dataclass(frozen=True)
class Coverage:
    """The share of elements whose change would change a value that was compared.

    Attributes:
        shares: share for each tensor, by canonical name, between 0 and 1.
        total: share of all elements of these tensors.
    """

    shares: Mapping[str, float] = field(repr=False)
    total: float

    @property
    def least(self) -> tuple[str, float]:
        """Name and share of the tensor that is seen least."""
        return min(self.shares.items(), key=lambda item: item[1])


@dataclass(frozen=True)
class EveryInput:
    """The verdicts about both networks for every input of the shapes that were run.

    Attributes:
        logits, gradients, buffers: ``"equal"``, if both compute them by the same operations from the same
            tensors; ``"unknown"``, if the numbers alone were compared; ``"differs"`` is said of an owner's
            own network in training alone, and fails the proof everywhere else.
        because: why something is unknown; None where nothing is.
    """

    logits: str
    gradients: str
    buffers: str
    because: str | None = None

    @property
    def holds(self) -> bool:
        """Whether all of it is equal."""
        return {self.logits, self.gradients, self.buffers} == {EQUAL}


@dataclass(frozen=True)
class OwnParity:
    """The converted network beside the owner's own.

    Attributes:
        name: ``"module:function"``, which built it, or ``"memory"`` for a network that was at hand.
        sha256: of the file that has the function; None for a network at hand.
        output: which output was compared, or which module's; None where there is one alone.
        around: operators that the owner's network runs around what was compared.
        inputs: mode and shape of each input that was compared on.
        refused: the inputs that the owner's network does not take, with what it raises.
        every_input: what is known for every input of these shapes; what differs in training is said, and is
            no error.
        largest: largest difference of an output in eval mode, absolute.
        bound: what that may not exceed; 0 where both are equal for every input.
    """

    name: str
    sha256: str | None
    output: str | None
    around: tuple[str, ...]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    refused: tuple[str, ...]
    every_input: EveryInput
    largest: float
    bound: float


@dataclass(frozen=True)
class OutputsParity:
    """The converted network beside outputs that were recorded elsewhere; it shows these inputs alone.

    Attributes:
        sha256: of the file that holds them.
        images: number of inputs.
        largest: largest error of a recorded output against our network in float64, absolute.
        bound: what that may not exceed.
    """

    sha256: str
    images: int
    largest: float
    bound: float


@dataclass(frozen=True)
class Agreement:
    """Two networks on images, each prepared as its own side tells.

    Attributes:
        images: number of images.
        agreed: for how many both name the same class.
        largest: largest absolute difference of a logit.
    """

    images: int
    agreed: int
    largest: float


@dataclass(frozen=True)
class Measured:
    """How far two networks are from the exact function, in one setting, and how far that may be.

    Attributes:
        setting: such as ``"bfloat16"`` or ``"channels_last"``.
        ours: largest error of our logits against a float64 run, absolute.
        theirs: that of the reference, in the same setting.
        bound: what ``ours`` may not exceed.
        spread: standard deviation of the exact logits.
    """

    setting: str
    ours: float
    theirs: float
    bound: float
    spread: float

    @property
    def tells(self) -> bool:
        """Whether the bound leaves less room than logits that have nothing to do with each other."""
        return self.bound < self.spread

    @property
    def holds(self) -> bool:
        """Whether our error is within its bound."""
        return self.ours <= self.bound


@dataclass(frozen=True)
class Proof:
    """A proof that held: what was compared, on what, and how far apart it was.

    Attributes:
        device: ``"cpu"``, or the GPU's name.
        dtype: dtype of the computation, such as ``"float32"``.
        reference: description of the reference.
        inputs: mode (``"eval"`` or ``"train"``) and shape of each input.
        compared: number of comparisons of each kind.
        largest: largest absolute difference of each kind; the proof holds only at 0.
        every_input: what is known for every input of these shapes.
        parameters: coverage of parameters, by all that is compared; None where all is equal for every input.
        statistics: coverage of running statistics, likewise.
        reaching: coverage of parameters by the logits alone, likewise.
        dead: channels that no input showed, by the tensor that has or reads them.
        environment: versions and flags that the result depends on.
        measured: errors of the logits in other settings; empty where they were not asked for.
        images: what came of images; None where there were none.
        golden: largest difference from the golden outputs, as a share of its bound; None without them.
        library: the source library's own network, whose outputs were compared in float64, and the largest
            difference, of their scale; None where it is the reference already, or is not installed.
        own: what came of the owner's own network; None where there was none.
        outputs: what came of outputs that were recorded elsewhere; None where there were none.
    """

    device: str
    dtype: str
    reference: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    compared: Mapping[str, int]
    largest: Mapping[str, float]
    every_input: EveryInput
    parameters: Coverage | None
    statistics: Coverage | None
    reaching: Coverage | None
    dead: Mapping[str, tuple[int, ...]] = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    measured: tuple[Measured, ...] = ()
    images: Agreement | None = None
    golden: float | None = None
    library: tuple[str, float] | None = None
    own: OwnParity | None = None
    outputs: OutputsParity | None = None


@dataclass(frozen=True)
class LayerError:
    """How far one layer of an exported network is from float64.

    Attributes:
        layer: its name.
        operator: what computes it.
        error: root mean square of the elements' errors, on the reference's own input; of a layer that rounds
            nothing the largest.
        bound: what that may not exceed; 0 where nothing is rounded.
    """

    layer: str
    operator: str
    error: float
    bound: float

    @property
    def share(self) -> float:
        """The error as a share of its bound; of a layer that must be exact 0."""
        return self.error / self.bound if self.bound else 0.0


@dataclass(frozen=True)
class ExportProof:
    """A proof that held: an exported network beside the converted folder.

    Attributes:
        runtime: what ran it, with its version.
        format: version of the format, such as ``"opset 18"``.
        dtype: dtype of the weights, such as ``"float32"``.
        tensors: number of the folder's tensors that it holds bit for bit.
        layers: number of layers that were run alone.
        changes: layers that the exporter changed, by what it did to them.
        nearest: the layer that is nearest to its bound; None where none was run alone.
        inputs: shape of each input that it ran on, end to end.
        measured: errors of the logits, for each input, provider and level of optimisation.
        environment: versions and flags that the result depends on.
    """

    runtime: str
    format: str
    dtype: str
    tensors: int
    layers: int
    changes: Mapping[str, tuple[str, ...]]
    nearest: LayerError | None
    inputs: tuple[tuple[int, ...], ...]
    measured: tuple[Measured, ...]
    environment: Mapping[str, Any] = field(repr=False)
