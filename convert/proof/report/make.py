"""Makes the report: measures what it shows, and writes the page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet.config_file import config_json

from ...claims import Claims
from ...errors import ArchitectureError, ImageError, ParityError
from ...folder.receipt import describe_conversion, describe_proof
from ...records import MULTI_LABEL, AnyPath, Loaded, Progress
from ...results import Measured, Proof
from ...tensors import dtype_name
from ..determinism import device_name, environment
from ..inputs import proof_inputs
from .diagnosis import diagnose
from .page import write_report
from .pictures import Picture, look_at

if TYPE_CHECKING:
    import torch

    from ..references.reference import Reference


phases = logging.getLogger("densenet_convert.phases")


def make_report(
    loaded: Loaded,
    reference: Reference,
    device: torch.device,
    shown: Proof | ParityError,
    claims: Claims,
    *,
    page: Path,
    folder: AnyPath,
    asked: Mapping[str, str],
    progress: Progress | None,
) -> tuple[Measured, ...]:
    """Measures both networks in other settings, and writes the page; returns what was measured.

    Args:
        loaded: our network.
        reference: the source's own.
        device: where both run.
        shown: what the proof came to.
        claims: what is said of the network: names of its classes, and how images are prepared.
        page: the file.
        folder: the conversion's own, as the user named it.
        asked: what both were to be compared with beside the reference; ``images`` is a folder.
        progress: wraps the settings, and is told what they are.

    Raises:
        ReportError: the page can't be written.
    """
    diagnosis = diagnose(loaded.model, reference.network, loaded.config, device, shown, progress)
    content = describe_conversion(loaded.renamed, loaded.config)
    if isinstance(shown, ParityError):
        content["attempt"] = {**_attempt(loaded, reference, device), "asked": asked}
    else:
        content["verification"] = describe_proof(replace(shown, measured=diagnosis.measured))
    pictures: tuple[Picture, ...] = ()
    if "images" in asked:
        # Of a proof that failed nothing was read yet, and what failed matters more.
        with suppress(ImageError, ArchitectureError):
            pictures = _pictures(loaded, reference, device, claims, Path(asked["images"]))
    phases.info("writing %s", page)
    write_report(page, diagnosis, content, folder=str(folder), pictures=pictures)
    return diagnosis.measured


def _pictures(
    loaded: Loaded, reference: Reference, device: torch.device, claims: Claims, folder: Path
) -> tuple[Picture, ...]:
    labels, config = claims.labels, loaded.config
    return look_at(
        (loaded.model, reference.network),
        config_json(config, preprocessing=claims.preprocessing),
        folder,
        device,
        names=labels.names,
        softmax=labels.problem_type != MULTI_LABEL and config.num_classes > 1,
        as_torchvision=not claims.preprocessing,
    )


def _attempt(loaded: Loaded, reference: Reference, device: torch.device) -> dict[str, Any]:
    """Returns what is known of a proof that failed, by the names of the receipt's ``verification``."""
    return {
        "device": device_name(device),
        "dtype": dtype_name(next(reference.network.parameters())),
        "reference": reference.description,
        "versions": environment(device)["versions"],
        "inputs": [{"mode": mode, "shape": shape} for mode, shape in proof_inputs(loaded.config)],
    }
