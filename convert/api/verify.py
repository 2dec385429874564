"""``verify``: repeats the proof of a folder that was converted."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet.config_file import FILE_NAME as CONFIG

from ..claims import Claims, Labels
from ..errors import FolderError, LayoutError, quoted
from ..folder.files import CARD, card_was_edited, file_digests
from ..folder.open import label_names, open_folder, read_golden
from ..folder.others import say_uncovered
from ..folder.receipt import (
    FILE_NAME,
    config_from,
    describe_assumptions,
    describe_conversion,
    describe_proof,
    unseal,
)
from ..folder.records import Verified, Written
from ..folder.recover import recover_checkpoint
from ..hub.fetch import local_file, local_folder, was_fetched
from ..layouts import known_layouts
from ..layouts.assumptions import RELU_OPTIONS
from ..layouts.attempt import network_of
from ..layouts.explain import explain
from ..layouts.identify import identify_again
from ..layouts.no_output import reason_to_drop
from ..layouts.prepare import Prepared, prepare
from ..layouts.rearrange import rearrange_tensors, recorded_steps
from ..layouts.rename import rename_tensors
from ..layouts.rewrite import rewrite_tensors
from ..proof.devices import choose_device, plain_torch
from ..proof.prove import ProofExtras, prove_parity
from ..records import (
    ORIGIN_FILE,
    ORIGIN_IMAGENET,
    ORIGIN_MEMORY,
    ORIGIN_STATED,
    AnyPath,
    Checkpoint,
    Identified,
    InMemory,
    Progress,
    Renamed,
)
from ..results import Proof
from ..source.memory import copy_of, read_memory
from ..source.read import Opened, is_imagenet, open_checkpoint
from .exported import RUNTIMES

if TYPE_CHECKING:
    from torch import nn

    from ..layout import Reading

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")


def verify(
    folder: AnyPath,
    *,
    source: AnyPath | InMemory | None = None,
    device: str = "auto",
    report: AnyPath | None = None,
    images: AnyPath | None = None,
    outputs: AnyPath | None = None,
    reference: str | None = None,
    reference_output: str | None = None,
    reference_input_size: str | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Repeats the proof of a folder that was converted, against its source where that is given.

    Where the folder has golden outputs, the network must compute them here as well.

    Without the source, its tensors are rebuilt from the folder under the source's names;
    what was dropped from it is then not proven again.

    Args:
        folder: one that was converted, here or as ``hf://USER/NAME[@REVISION]`` on the Hugging Face Hub.
        source: the checkpoint that it was converted from, here or on the Hub, or in memory as ``convert``
            takes it.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where the proof runs.
        report, images, outputs, progress: see ``convert``.
        reference, reference_output, reference_input_size: see there; without the source the network gets its
            tensors as they are rebuilt.

    Raises:
        HubError: the Hub does not have the folder, or does not give it.
        FolderError: a file is missing or was changed, one was added that loaders would take for ours, or
            ``source`` is not what the receipt names.
        ParityError: the network is not the reference's function.

    Examples:
        >>> verified = dc.verify("densenet121", device="cpu")
        >>> verified.proof.compared["tensors"]
        727
    """
    folder = _folder_of(folder)
    at_hand = _at_hand(source)
    extras = ProofExtras(
        report=report,
        images=images,
        outputs=outputs,
        reference=reference if at_hand is None else ORIGIN_MEMORY,
        reference_output=reference_output,
        reference_input_size=reference_input_size,
        network=at_hand,
        folder=folder,
        progress=progress,
    )
    extras.check()
    phases.info("reading %s", folder)
    written = open_folder(folder)
    log.info("%s: every byte agrees with the receipt", folder)
    _warn_of_others(written)
    held = _open_again(source, written) if isinstance(source, str | os.PathLike) else source
    chosen = choose_device(device)
    with plain_torch():
        checkpoint = recover_checkpoint(written) if held is None else _read_again(held, written)
        prepared = prepare(checkpoint)
        reading = _recorded_reading(prepared, written, source is not None)
        network = network_of(prepared, reading, checkpoint.norm_eps, _claimed_relu(written))
        checkpoint = rewrite_tensors(replace(checkpoint, norm_eps=network.norm_eps), network.rewrites)
        renamed = rename_tensors(checkpoint, network.reading)
        _check_receipt(renamed, network, written, whole=source is not None)
        claims = _claims(written)
        return prove_parity(renamed, network.config, chosen, extras, claims, read_golden(written))


def _folder_of(named: AnyPath) -> Path:
    """Returns the folder, or says how a network that was exported is verified."""
    path = Path(named)
    if path.suffix.lower() in RUNTIMES.values() and path.is_file():
        raise FolderError(
            f"{path} is a network that was exported. Compare it with the folder that it was exported from:\n"
            f"dc.verify_exported({str(path)!r}, against='FOLDER')"
        )
    return local_folder(named)


def _warn_of_others(written: Written) -> None:
    """Names the files of which nothing is proven: an edited card, and what the receipt does not cover."""
    folder = written.folder
    if CARD in file_digests(written.receipt) and card_was_edited(folder):
        log.warning("%s was edited: nothing in it is proven.", folder / CARD)
    others = say_uncovered([path.name for path in folder.iterdir()], written.receipt)
    if others and not was_fetched(folder):
        log.warning("%s: %s", folder, others)


def receipt_with(proof: Proof, folder: Path) -> dict[str, Any]:
    """Returns the receipt of ``folder``, with ``proof`` in place of the one that it holds."""
    receipt = unseal((folder / FILE_NAME).read_bytes().decode())
    files = receipt["verification"].get("files", {})
    return {**receipt, "verification": {**describe_proof(proof), "files": files}}


def _at_hand(source: AnyPath | InMemory | None) -> nn.Module | None:
    """Returns a copy of the source where it is a network that can run."""
    if source is None or isinstance(source, str | os.PathLike | Mapping):
        return None
    return copy_of(source)


def _open_again(source: AnyPath, written: Written) -> Opened:
    """Reads a file, which must be the one that was converted; no torch is needed for it."""
    opened = open_checkpoint(local_file(source), key=written.receipt["source"]["container"])
    _require_source(opened.sha256, str(source), written)
    return opened


def _read_again(source: Opened | InMemory, written: Written) -> Checkpoint:
    claimed = written.receipt["source"]
    if isinstance(source, Opened):
        checkpoint = source.load()
    else:
        checkpoint = read_memory(source)
        _require_source(checkpoint.sha256, "What is in memory", written)
    known = {"norm_eps": claimed["norm_eps"]} if CONFIG in written.receipt["beside"] else {}
    checkpoint = rearrange_tensors(checkpoint, recorded_steps(written.receipt))
    return replace(checkpoint, origin=claimed["origin"], seed=claimed["seed"], **known)


def _require_source(sha256: str, named: str, written: Written) -> None:
    claimed = written.receipt["source"]["sha256"]
    if sha256 != claimed:
        raise FolderError(
            f"{named} is not the source of {written.folder}: its SHA-256 is {sha256}, the receipt names "
            f"{claimed}. Name what was converted."
        )


def _claims(written: Written) -> Claims:
    """Returns what is said of the network, as far as it bears on what is run."""
    names, problem = label_names(written), written.receipt["labels"]["problem_type"]
    labels = Labels(None if names is None else tuple(names), problem_type=problem)
    return Claims(labels, preprocessing=written.receipt["preprocessing"])


def _claimed_relu(written: Written) -> bool | None:
    """Returns whether a ReLU stands behind the last norm, where that was said and not assumed."""
    assumed = {one["settled_by"] for one in written.receipt["assumptions"] or []}
    return None if RELU_OPTIONS in assumed else config_from(written.receipt["config"]).final_relu


def _recorded_reading(prepared: Prepared, written: Written, whole: bool) -> Reading:
    try:
        return identify_again(prepared.tensors.keys(), known_layouts(), written.receipt, whole=whole)
    except LayoutError as error:
        raise FolderError(
            f"{written.folder} is not what a conversion of its source gives. Its receipt has under 'source' "
            f"the layout {quoted(written.receipt['source']['layout'])}: {error}"
        ) from error


def _check_receipt(renamed: Renamed, network: Identified, written: Written, *, whole: bool) -> None:
    """Compares what the folder holds with what a conversion of the source gives today."""
    today = describe_conversion(renamed, network.config)
    compared = ["source", "config", "tensors", "dropped"]
    if not written.receipt["beside"]:
        today["preprocessing"] = {**renamed.reading.layout.preprocessing, **_stated(written)}
        compared.append("preprocessing")
    # Without the source its layers are not there to tell what is settled.
    settled = "own_network" in written.receipt["verification"]
    if whole and written.receipt["assumptions"] is not None and not settled:
        assumed = written.receipt["source"]["origin"] in (ORIGIN_FILE, ORIGIN_MEMORY)
        today["assumptions"] = describe_assumptions(network.assumptions if assumed else ())
        compared.append("assumptions")
    if whole:
        compared.append("rewrites")
    else:  # which names were dropped is not known again, but whether these would be
        names = [entry["source_name"] for entry in written.receipt["dropped"]]
        dropped = explain(renamed.reading, names, expect_drops=False).explanation.dropped
        reasons = [(name, dropped.get(name) or reason_to_drop(name)) for name in names]
        today["dropped"] = [{"source_name": name, "because": why} for name, why in reasons if why]
    for field in compared:
        found, expected = written.receipt[field], today[field]
        if found != expected:
            found, expected = _first_difference(found, expected)
            raise FolderError(
                f"{written.folder} is not what a conversion of its source gives. Its receipt has under "
                f"{field!r} {quoted(str(found))}, expected {quoted(str(expected))}."
            )
    _check_origin(renamed.checkpoint, written)


def _check_origin(checkpoint: Checkpoint, written: Written) -> None:
    if (written.receipt["source"]["origin"] == ORIGIN_IMAGENET) != is_imagenet(checkpoint):
        raise FolderError(
            f"{written.folder} claims the origin {written.receipt['source']['origin']}, and the SHA-256 "
            "of its source says otherwise. Get the folder again from where it came from."
        )


def _stated(written: Written) -> dict[str, Any]:
    """Returns what the user stated of pre-processing, which no source tells."""
    fields, origins = written.receipt["preprocessing"], written.receipt["preprocessing_origin"]
    return {name: value for name, value in fields.items() if origins.get(name) == ORIGIN_STATED}


def _first_difference(found: Any, expected: Any) -> tuple[Any, Any]:
    """Returns the first entries of two lists that differ, or the fields of two objects, with the name."""
    if isinstance(expected, list) and len(found) == len(expected):
        return _first_difference(*next((a, b) for a, b in zip(found, expected, strict=True) if a != b))
    if isinstance(expected, dict) and isinstance(found, dict):
        differing = {n for n in (*found, *expected) if found.get(n) != expected.get(n)} | {"name"}
        fields = [n for n in {**found, **expected} if n in differing]
        return {n: found.get(n) for n in fields}, {n: expected.get(n) for n in fields}
    return found, expected
