"""``compare(..., repair=...)``: converts B through the exchange that was found beside A."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config_file import FILE_NAME as CONFIG

from ..claims import Beside
from ..comparing.sides import COUNTER, Side, is_of_head
from ..errors import ArchitectureError, FolderError, LayoutError, RepairError, first_few
from ..folder.files import WEIGHTS, file_sha256, is_ours
from ..folder.open import label_names, open_folder
from ..folder.receipt import FILE_NAME as RECEIPT
from ..folder.records import Written
from ..folder.write import check_target, write_folder
from ..layouts.network import identify_network
from ..layouts.rearrange import RENAMED, rearrange_tensors
from ..layouts.rename import rename_tensors
from ..layouts.rewrite import rewrite_tensors
from ..proof.devices import choose_device, plain_torch
from ..proof.prove import ProofExtras, prove_parity
from ..records import MULTI_LABEL, Checkpoint, Identified, Options, Renamed, Rewrite
from ..source.beside import read_beside
from ..source.read import open_checkpoint
from ..tensors import dtype_name, tensor_sha256
from .claims import make_claims

phases = logging.getLogger("densenet_convert.phases")


def convert_repaired(
    path: Path, steps: Sequence[Rewrite], a: Side, folder: Path, options: Options
) -> Written:
    """Converts a file with its tensors rearranged, and writes it if all of them outside the head are A's.

    Args:
        path: the file of B.
        steps: on its tensors, by its own names.
        a: the network that it is to be.
        folder: to write.
        options: ``key``, ``device`` and ``force``.

    Raises:
        RepairError: a tensor outside the head is not A's; nothing was written.
        ConvertError: as ``convert`` raises it.
    """
    _check_target(folder, options)
    if folder.resolve() in path.resolve().parents:
        raise FolderError(f"{path} is in {folder}, which would be replaced. Name another `repair=...`.")
    opened = open_checkpoint(path, key=options.key)
    if opened.content.layers and any(step.name == RENAMED for step in steps):
        raise RepairError(
            f"{path} declares layers under names that no layout explains, so that they can't be checked. "
            "Save its state_dict() alone, and repair that."
        )
    options = replace(options, final_relu=opened.settings.get("final_relu"))
    device = choose_device(options.device)
    with plain_torch():
        checkpoint = rearrange_tensors(opened.load(with_claims=True), steps)
        network = _identify(checkpoint, path, options)
        checkpoint = rewrite_tensors(replace(checkpoint, norm_eps=network.norm_eps), network.rewrites)
        renamed = rename_tensors(checkpoint, network.reading)
        _require_equal(renamed, a)
        beside, options = _own_claims(path, network.config, options)
        claims = make_claims(checkpoint, network, options, beside)
        verified = prove_parity(renamed, network.config, device, ProofExtras(), claims)
        phases.info("writing %s", folder)
        return write_folder(verified, folder, force=options.force)


def _check_target(folder: Path, options: Options) -> None:
    try:
        check_target(folder, force=options.force)
    except FolderError as error:
        raise FolderError(str(error).replace("`output=...`", "`repair=...`")) from error


def _identify(checkpoint: Checkpoint, path: Path, options: Options) -> Identified:
    """Returns which network the repaired one is, if nothing of its function is left open."""
    try:
        return identify_network(checkpoint, options, checkpoint.norm_eps, source=str(path))
    except (LayoutError, ArchitectureError) as error:
        advice = "B can't be repaired before it can be converted. Convert it first, and repair the folder."
        raise RepairError(f"{advice} {error}") from error


def _require_equal(renamed: Renamed, a: Side) -> None:
    """Raises RepairError if a tensor outside the head, that both sides have, is not A's byte for byte."""
    held = {trace.name for trace in renamed.trail if trace.source_name is not None}
    of_one = {name for name in held ^ a.tensors.keys() if name.endswith(COUNTER)}
    names = [name for name in {**a.tensors, **dict.fromkeys(held)} if not is_of_head(name)]
    compared = [name for name in names if name not in of_one]
    other = [name for name in compared if not _is_equal(name, renamed, a)]
    if other:
        raise RepairError(
            f"B was not repaired: {first_few(other)} would not be A's, byte for byte. Report this with both "
            "files' digests."
        )


def _is_equal(name: str, renamed: Renamed, a: Side) -> bool:
    tensor, expected = renamed.tensors.get(name), a.tensors.get(name)
    if tensor is None or expected is None:
        return False
    found = (dtype_name(tensor), tuple(tensor.shape), tensor_sha256(tensor))
    return found == expected.key


def _own_claims(path: Path, config: DenseNetConfig, options: Options) -> tuple[Beside, Options]:
    """Returns what is said of B: by its own folder where it was converted, else by what lies beside it."""
    if path.name != WEIGHTS or not is_ours(path.parent):
        return read_beside(path, config), options
    written = open_folder(path.parent)
    receipt, names = written.receipt, label_names(written)
    files = {name: file_sha256(path.parent / name) for name in (CONFIG, RECEIPT)}
    held = None if names is None else tuple(names)
    beside = Beside(held, receipt["preprocessing"], receipt["card"], files)
    return beside, replace(options, multi_label=receipt["labels"]["problem_type"] == MULTI_LABEL)
