"""Composes the proof with what may be asked for beside it: images, golden outputs and the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from densenet_convert.densenet.config import dimensions_text
from densenet_convert.densenet.config_file import config_json

from ..claims import Claims
from ..errors import ImageError, ParityError, ReportError
from ..folder.records import Verified
from ..records import AnyPath, Loaded, Options, Progress, Renamed
from ..results import Agreement, Measured, OwnParity, Proof
from ..source.file import map_whole, parse_checkpoint
from .load import load_model

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from densenet_convert.densenet import DenseNetConfig

    from .references.reference import Reference

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise ReportError(f"{path} can't be followed: {error}. Name another place.") from error


@dataclass(frozen=True)
class ProofExtras:
    """The extra work that the user asked for beside the proof.

    Attributes:
        golden: take the reference's outputs, to be written beside the weights.
        report: where a page about the proof is written, also where it fails.
        images: a folder of images on which both networks must agree as well.
        outputs: a file of outputs that the source network gave elsewhere.
        reference: the owner's own network, ``"module:function"``, or ``"memory"`` for ``network``.
        reference_output: which of its outputs is compared.
        reference_input_size: height and width of what it takes.
        network: the owner's own at hand; it is run.
        folder: the conversion's own, which the report names.
        progress: wraps images, and the settings of the report, as they are gone through.
    """

    golden: bool = False
    report: AnyPath | None = None
    images: AnyPath | None = None
    outputs: AnyPath | None = None
    reference: str | None = None
    reference_output: str | None = None
    reference_input_size: str | None = None
    network: nn.Module | None = None
    folder: AnyPath = ""
    progress: Progress | None = None

    def of(self, options: Options, folder: Path) -> ProofExtras:
        """The same with what the options ask for, of a conversion to ``folder``."""
        return replace(
            self,
            folder=folder,
            golden=options.golden,
            reference=options.reference,
            reference_output=options.reference_output,
            reference_input_size=options.reference_input_size,
        )

    def check(self) -> None:
        """Refuses at once what could not be made in the end.

        Raises:
            ImageError: there are no images.
            ReadError: the file of outputs can't be read.
            ReportError: the report can't be written there.
        """
        if self.images is not None:
            from .image_files import find_images

            find_images(Path(self.images))
        if self.outputs is not None:
            parse_checkpoint(map_whole(Path(self.outputs)), Path(self.outputs))
        if self.report is None:
            return
        from .report.page import check_report

        report = Path(self.report)
        check_report(report)
        if _resolved(Path(self.folder)) in _resolved(report).parents:
            raise ReportError(
                f"{report} is in the folder {self.folder}, whose files are counted. Name another place."
            )


def prove_parity(
    renamed: Renamed,
    config: DenseNetConfig,
    device: torch.device,
    extras: ProofExtras,
    claims: Claims,
    golden: Mapping[str, Tensor] | None = None,
) -> Verified:
    """Loads both networks, proves that they are one function, and writes the report whatever comes of it.

    Args:
        renamed: the source's tensors under canonical names.
        config: the network's hyperparameters.
        device: where both networks run.
        extras: what is to be made or compared beside the proof.
        claims: what is said of the network; nothing is proven of it.
        golden: outputs that the network must compute, where the folder has them.

    Raises:
        ParityError: they are not.
        ImageError: images were named for a network that takes none.
    """
    if extras.images is not None and config.spatial_dims != 2:
        raise ImageError(
            f"This network takes inputs{dimensions_text(config)}, and no images: leave `images=...` out. "
            "It can be compared with outputs that you recorded, by `outputs=...`."
        )
    phases.info("loading torchvision and both networks")
    from .references.reference import load_reference

    loaded = load_model(renamed, config)
    reference = load_reference(renamed.checkpoint, renamed.reading, config)
    phases.info("comparing on %s with %s", device, reference.description)
    try:
        verified = prove_networks(loaded, reference, device, extras, claims, golden)
    except ParityError as error:
        _report_failure(loaded, reference, device, error, extras, claims)
        raise
    measured = _report(loaded, reference, device, verified.proof, extras, claims)
    return replace(verified, proof=replace(verified.proof, measured=measured))


def prove_networks(
    loaded: Loaded,
    reference: Reference,
    device: torch.device,
    extras: ProofExtras,
    claims: Claims,
    golden: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> Verified:
    """Proves that two networks are one function; nothing else makes a ``Verified``.

    Args:
        loaded: our network.
        reference: the source's own.
        device, extras, claims, golden: see ``prove_parity``.
        seed: what the inputs are drawn from.

    Raises:
        ParityError: they are not.
    """
    from .verification import verify_model

    proof = verify_model(loaded, reference, device, seed=seed)
    if reference.outputs is not None:
        from .references.library_outputs import compare_with_library

        library = compare_with_library(loaded.model, loaded.config.in_channels, reference.outputs)
        proof = replace(proof, library=library)
    if extras.reference is not None:
        proof = replace(proof, own=_compare_own(loaded, device, extras))
    if extras.outputs is not None:
        from .recorded_outputs import compare_recorded_outputs

        found = compare_recorded_outputs(loaded, Path(extras.outputs), device)
        proof = replace(proof, outputs=found)
    if extras.images is not None:
        agreement = _compare_images(loaded, reference, device, claims, extras)
        proof = replace(proof, images=agreement)
    if extras.golden or golden is not None:
        from .golden import compare_golden, take_golden

        if golden is None:
            golden = take_golden(reference.network, loaded.config, device)
        share = compare_golden(loaded.model, golden, loaded.config, device)
        proof = replace(proof, golden=share)
    return Verified(loaded, proof, golden, claims)


def _compare_own(loaded: Loaded, device: torch.device, extras: ProofExtras) -> OwnParity:
    from .own_parity import compare_own
    from .references.own_network import load_own, own_at_hand

    checkpoint = loaded.renamed.checkpoint
    if extras.network is None:
        dropped = loaded.renamed.reading.explanation.dropped
        own = load_own(extras.reference or "", checkpoint, dropped)
    else:
        own = own_at_hand(extras.network, checkpoint)
    phases.info("comparing with the network of %s", own.name)
    asked = {"output": extras.reference_output, "input_size": extras.reference_input_size}
    return compare_own(loaded, own, device, **asked)


def _compare_images(
    loaded: Loaded, reference: Reference, device: torch.device, claims: Claims, extras: ProofExtras
) -> Agreement:
    from .images import compare_images

    content = config_json(loaded.config, preprocessing=claims.preprocessing)
    networks, folder = (loaded.model, reference.network), Path(extras.images or "")
    usual = not claims.preprocessing
    return compare_images(*networks, content, folder, device, extras.progress, as_torchvision=usual)


def _report_failure(
    loaded: Loaded,
    reference: Reference,
    device: torch.device,
    error: ParityError,
    extras: ProofExtras,
    claims: Claims,
) -> None:
    """Writes the page of a proof that failed, if one was asked for; the failed proof matters more."""
    try:
        _report(loaded, reference, device, error, extras, claims)
    except ReportError as another:
        log.warning("%s", another)


def _report(
    loaded: Loaded,
    reference: Reference,
    device: torch.device,
    shown: Proof | ParityError,
    extras: ProofExtras,
    claims: Claims,
) -> tuple[Measured, ...]:
    """Writes the page, and returns what was measured for it; nothing where none was asked for.

    Raises:
        ParityError: an error is beyond its bound, where nothing else failed.
        ReportError: the page can't be written.
    """
    if extras.report is None:
        return ()
    from .report.diagnosis import require_within_bounds
    from .report.make import make_report

    asked = {"own network": extras.reference, "outputs": extras.outputs, "images": extras.images}
    measured = make_report(
        loaded,
        reference,
        device,
        shown,
        claims,
        page=Path(extras.report),
        folder=extras.folder,
        asked={name: str(value) for name, value in asked.items() if value is not None},
        progress=extras.progress,
    )
    log.info("wrote %s", extras.report)
    if not isinstance(shown, ParityError):
        require_within_bounds(measured)
    return measured
