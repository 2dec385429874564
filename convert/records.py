"""The records that pass from step to step; each step takes one and returns the next.

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from densenet_convert.densenet import DenseNet, DenseNetConfig

    from .formats.contents import Layer
    from .layout import Layout


# Wraps what is gone through, and is told what it is.
Progress = Callable[[Sequence[Any], str], Iterable[Any]]

PUBLISHED = "IMAGENET1K_V1"
RANDOM = "random"
FILE = "file"
IMAGENET = "imagenet1k"


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, as the source holds them.

    Attributes:
        tensors: contiguous tensors on the CPU under the source's own names, in its order.
        digests: SHA-256 of each tensor's bytes, as they were when it was read.
        sha256: digest of the whole file, hexadecimal.
        size: length of the file in bytes.
        format: how the bytes were turned into tensors, such as ``"torch-legacy"``.
        container: the keys that led to the state dict, joined by dots; None for the file's own object.
        origin: ``"IMAGENET1K_V1"``, ``"random"`` or ``"file"``.
        seed: what random weights were drawn from; None for others.
        layers: what the source tells of its layers, by their paths; empty where it holds tensors alone.
        norm_eps: epsilon of its batch norms, where the source tells one that its layout does not imply.
    """

    tensors: Mapping[str, Tensor]
    digests: Mapping[str, str]
    sha256: str
    size: int
    format: str
    container: str | None = None
    origin: str = FILE
    seed: int | None = None
    layers: Mapping[str, Layer] = field(default_factory=dict)
    norm_eps: float | None = None


@dataclass(frozen=True)
class Trace:
    """Where one canonical tensor came from.

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
        layout: the table by which it was.
        tensors: the checkpoint's own tensors, in the canonical order of axes, and zeros where it has none.
        trail: one trace for each of ``tensors``.
        dropped: reason for each source name that was left out.
    """

    checkpoint: Checkpoint
    layout: Layout
    tensors: Mapping[str, Tensor]
    trail: tuple[Trace, ...]
    dropped: Mapping[str, str]

    @property
    def source_names(self) -> dict[str, str | None]:
        """The source's name of each canonical one, as the trail has it."""
        return {trace.name: trace.source_name for trace in self.trail}


@dataclass(frozen=True)
class Loaded:
    """Our network with the renamed tensors in it, in eval mode; it shares their memory."""

    renamed: Renamed
    config: DenseNetConfig
    model: DenseNet


@dataclass(frozen=True)
class Reference:
    """The source library's own network with the source's tensors, in eval mode.

    Attributes:
        network: built without the converter's renaming.
        description: how it was built, such as ``"torchvision's own loader"``.
        outputs: what the library's own network computes of images, in float64, with its description, where
            its layers are not torch's; raises ImportError where it is not installed.
    """

    network: nn.Module
    description: str
    outputs: Callable[[Tensor], tuple[Tensor, str]] | None = None


@dataclass(frozen=True)
class Coverage:
    """The share of elements whose change would change a value that was compared.

    Attributes:
        shares: share for each tensor, by canonical name, between 0 and 1.
        total: share of all elements of these tensors.
    """

    shares: Mapping[str, float]
    total: float

    @property
    def least(self) -> tuple[str, float]:
        """Name and share of the tensor that is seen least."""
        return min(self.shares.items(), key=lambda item: item[1])


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
    """What was compared, on what, and how far apart it was.

    Attributes:
        device: ``"cpu"``, or the GPU's name.
        dtype: dtype of the computation, such as ``"float32"``.
        reference: description of the reference.
        inputs: mode (``"eval"`` or ``"train"``) and shape of each input.
        compared: number of comparisons of each kind.
        largest: largest absolute difference of each kind; the proof holds only at 0.
        parameters: coverage of parameters, by all that is compared.
        statistics: coverage of running statistics, likewise.
        reaching: coverage of parameters by the logits alone.
        dead: channels that no input showed, by the tensor that has or reads them.
        environment: versions and flags that the result depends on.
        measured: errors of the logits in other settings; empty where they were not asked for.
        images: what came of images; None where there were none.
        golden: largest difference from the golden outputs, as a share of its bound; None without them.
        library: the source library's own network, whose outputs were compared in float64, and the largest
            difference, of their scale; None where it is the reference already, or is not installed.
    """

    device: str
    dtype: str
    reference: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    compared: Mapping[str, int]
    largest: Mapping[str, float]
    parameters: Coverage
    statistics: Coverage
    reaching: Coverage
    dead: Mapping[str, tuple[int, ...]]
    environment: Mapping[str, Any]
    measured: tuple[Measured, ...] = ()
    images: Agreement | None = None
    golden: float | None = None
    library: tuple[str, float] | None = None


@dataclass(frozen=True)
class Diagnosis:
    """How far two networks are apart over their depth; what the report shows.

    Attributes:
        layers: canonical names in the order in which they ran; the last is ``"the output"``.
        ours: for each precision, such as ``"bfloat16"``, the error of each layer: the largest difference
            from the reference's float64 run, divided by the largest value of that run.
        theirs: the same of the reference.
        logits: of both networks in float32, ours and theirs, image by image.
        coverage: share of each tensor's elements that the logits depend on, by canonical name.
        dead: channels whose values can't pass on, by the canonical name of the tensor that would read them.
        measured: errors of the logits in every setting.
        first: name of the first layer or tensor that differs; None where nothing does.
        problem: the message of the proof that failed; None where it did not.
    """

    layers: tuple[str, ...]
    ours: Mapping[str, tuple[float, ...]]
    theirs: Mapping[str, tuple[float, ...]]
    logits: tuple[tuple[float, ...], tuple[float, ...]]
    coverage: Mapping[str, float]
    dead: Mapping[str, tuple[int, ...]]
    measured: tuple[Measured, ...]
    first: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Labels:
    """What the classes of a network are called.

    Attributes:
        names: one for each class; None where none are claimed.
        origin: ``"imagenet1k"`` or ``"file"``; None without names.
        problem_type: transformers' word for a head that is not read by a softmax; None for others.
    """

    names: tuple[str, ...] | None = None
    origin: str | None = None
    problem_type: str | None = None


@dataclass(frozen=True)
class Verified:
    """A network that was shown to be the reference's function.  Only this can be written.

    Attributes:
        loaded: the network.
        proof: how it was shown.
        golden: the reference's outputs, as parity.safetensors holds them; None where they were not asked for.
        labels: of its classes.
    """

    loaded: Loaded
    proof: Proof
    golden: Mapping[str, Tensor] | None = None
    labels: Labels = Labels()


@dataclass(frozen=True)
class Written:
    """A folder whose files agree with its receipt.  Only this can be published.

    Attributes:
        folder: where it is.
        receipt: the content of its conversion.json.
    """

    folder: Path
    receipt: Mapping[str, Any]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor under the source's name; ``sha256`` of its row-major bytes is None unless asked for."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str | None


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint's file holds.

    Attributes:
        path: the file.
        size: its length in bytes.
        sha256: its digest, hexadecimal.
        format: ``"torch-zip"``, ``"torch-legacy"``, ``"torch-tar"``, ``"pickle"``, ``"safetensors"``,
            ``"keras-h5"`` or ``"keras"``.
        container: the keys that lead to the state dict, joined by dots; None for the file's own object.
        layout: what the tensors' names are called as a whole; None where no layout explains them.
        prefix: what stands before these names; None likewise.
        architecture: such as ``"densenet169"``; None where it is another network.
        config: the network's hyperparameters, as far as the file tells them; None where it is no DenseNet.
        problem: why ``layout`` or ``config`` is None, in a sentence.
        dtypes: number of tensors of each dtype.
        tensors: each of them, in the file's order.
        metadata: what the file says beside them, in words and numbers.
        names: what its pickles want to import; nothing of it was.
    """

    path: Path
    size: int
    sha256: str
    format: str
    container: str | None
    layout: str | None
    prefix: str | None
    architecture: str | None
    config: DenseNetConfig | None
    problem: str | None
    dtypes: Mapping[str, int]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Any]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """All faults of one kind, counted.

    Attributes:
        name: the kind.
        injected: how many there were, those that change nothing left out.
        nothing: how many change nothing.
        caught: how many were found without comparing bytes through the map.
        located: how many of these the message pointed at.
        checks: for each check, how many it caught alone, of how many it could judge.
        peers: the same for other people's checks.
    """

    name: str
    injected: int
    nothing: int
    caught: int
    located: int
    checks: Mapping[str, tuple[int, int]]
    peers: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Proven:
    """What the catalogue came to.

    Attributes:
        network: what the faults were injected into.
        device: ``"cpu"``, or the name of the GPU.
        rows: one for each kind of fault.
        clean_runs: conversions without a fault.
        false_alarms: messages of those that failed.
        escaped: name and places of each fault that was not caught, or not located.
        environment: versions and flags.
    """

    network: str
    device: str
    rows: tuple[Row, ...]
    clean_runs: int
    false_alarms: tuple[str, ...]
    escaped: tuple[str, ...]
    environment: Mapping[str, Any]

    @property
    def holds(self) -> bool:
        """Whether everything was caught and located, and nothing else was."""
        return not self.escaped and not self.false_alarms


@dataclass(frozen=True)
class Destination:
    """A repository on the Hugging Face Hub, and how a folder gets there.

    Attributes:
        repo_id: such as ``"user/name"``.
        revision: branch; it is made where it is missing.
        message: of the commit.
        license: one of the Hub's identifiers; None for the card's own.
        private: whether the repository must be private.
        create_pr: open a pull request instead of a commit to the branch.
        token: what signs in; None for the environment's, or the login's.
    """

    repo_id: str
    revision: str
    message: str
    license: str | None = None
    private: bool = False
    create_pr: bool = False
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Sent:
    """A file of a repository.

    Attributes:
        name: its name in the repository.
        size: length in bytes; None where it is deleted.
        sha256: digest of its bytes, hexadecimal; None where it is deleted.
        action: ``"add"``, ``"change"``, ``"delete"`` or ``"keep"``.
    """

    name: str
    size: int | None
    sha256: str | None
    action: str


@dataclass(frozen=True)
class Published:
    """What a push sent, or would send.

    Attributes:
        repo_id: such as ``"user/name"``.
        revision: branch that it was sent to, such as ``"main"`` or ``"refs/pr/1"``.
        commit: the commit that was fetched back and compared; None where nothing was sent yet.
        url: where it is to be seen; None likewise.
        message: of the commit.
        files: all files of the repository, as they are after it.
        card: text of README.md.
        remarks: what the user should know.
    """

    repo_id: str
    revision: str
    commit: str | None
    url: str | None
    message: str
    files: tuple[Sent, ...]
    card: str
    remarks: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was to be sent."""
        return any(file.action != "keep" for file in self.files)


@dataclass(frozen=True)
class Outcome:
    """What came of one source.

    Attributes:
        source: its absolute path, or ``hf://...``.
        folder: absolute path; whole, and of this source, unless ``status`` is ``"failed"``.
        status: ``"converted"``, ``"skipped"`` because it was there already, or ``"failed"``.
        network: such as ``"DenseNet-169"``; None where it failed.
        receipt_sha256: the digest that conversion.json ends with; None where it failed.
        error: name of the error's class; None unless it failed.
        message: what is wrong, and what to do; None unless it failed.
        exit_code: 0 unless it failed.
    """

    source: str
    folder: str
    status: Literal["converted", "skipped", "failed"]
    network: str | None = None
    receipt_sha256: str | None = None
    error: str | None = None
    message: str | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class Device:
    """What a proof can run on: ``name`` is what ``--device`` takes."""

    name: str
    description: str


@dataclass(frozen=True)
class Package:
    """A package that is needed, always or for an extra.

    Attributes:
        name: as pip knows it.
        version: None where it is not installed.
        floor: the lowest version that will do; None for any.
        extra: that of ``pip install densenet-convert[extra]``; None where it is always needed.
        problem: what is wrong with it, and what to do; None where nothing is.
    """

    name: str
    version: str | None
    floor: str | None
    extra: str | None
    problem: str | None = None


@dataclass(frozen=True)
class Examination:
    """What an installation can do, and what it lacks.

    Attributes:
        version: that of densenet-convert.
        python: its version.
        platform: system and processor.
        devices: that torch finds, and that compute.
        packages: in the order of setup.cfg.
        layouts: names of those that are known, those of other packages among them.
        problems: whatever keeps a conversion from running; empty where it would.
    """

    version: str
    python: str
    platform: str
    devices: tuple[Device, ...]
    packages: tuple[Package, ...]
    layouts: tuple[str, ...]
    problems: tuple[str, ...]
