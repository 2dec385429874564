"""``convert`` and ``convert_torchvision``: from a source to a proven folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..claims import Beside
from ..errors import FolderError
from ..folder.records import Written
from ..folder.write import write_folder
from ..hub.fetch import local_file
from ..layouts.attempt import architecture_name
from ..layouts.network import identify_network
from ..layouts.rename import rename_tensors
from ..layouts.rewrite import rewrite_tensors
from ..proof.devices import choose_device, plain_torch
from ..proof.prove import ProofExtras, prove_parity
from ..records import (
    ORIGIN_IMAGENET,
    ORIGIN_RANDOM,
    AnyPath,
    Checkpoint,
    Identified,
    InMemory,
    LabelSource,
    Numbers,
    Options,
    Progress,
    Size,
    options_from,
)
from ..source.beside import layout_beside, read_beside
from ..source.memory import read_memory
from ..source.read import is_imagenet, read_imagenet, read_random
from .already_done import keep, refuse_proofs, require_done_of_torchvision
from .choices import open_chosen
from .claims import check_stated, make_claims, with_checkup
from .memory import of_memory
from .target import folder_for, is_there, refuse_early

if TYPE_CHECKING:
    import torch

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")


def convert(
    source: AnyPath | InMemory,
    output: AnyPath | None = None,
    *,
    arch: str | int | None = None,
    layout: str | None = None,
    prefix: str | None = None,
    only: str | None = None,
    head: str | None = None,
    final_relu: bool | None = None,
    key: str | None = None,
    ignore_config: bool = False,
    device: str = "auto",
    force: bool = False,
    golden: bool = False,
    report: AnyPath | None = None,
    images: AnyPath | None = None,
    outputs: AnyPath | None = None,
    reference: str | None = None,
    reference_output: str | None = None,
    reference_input_size: str | None = None,
    labels: LabelSource | None = None,
    multi_label: bool = False,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    input_size: Size | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    datasets: Sequence[str] = (),
    base_model: str | None = None,
    metrics: Sequence[str] = (),
    card_sections: Sequence[AnyPath] = (),
    progress: Progress | None = None,
) -> Written:
    """Converts the checkpoint in ``source``, proves the result and writes it to the folder ``output``.

    The tensors' names tell the layout, and their shapes the architecture.

    Args:
        source: a checkpoint, which holds a state dict or a module in a layout of ``known_layouts``; a file
            here, or ``hf://USER/NAME[@REVISION][/FILE]`` on the Hugging Face Hub. A ``torch.nn.Module`` is
            its own reference, is copied and left as it is; a mapping of names to tensors is taken as well.
        output: the folder to create, by default named after a file, in the working folder: ``chest`` for
            ``chest.pth.tar``. A conversion that is there already is kept if it is whole and as asked;
            anything else that exists is refused without ``force``, as are ``images``, ``outputs``, ``report``
            and ``reference`` then, which ``verify`` takes. A network at hand is compared with what is there.
        arch: 121, 161, 169 or 201, which it must then be.
        layout: name of the layout that it must be in.
        prefix: what every name must begin with.
        only: what the names of a DenseNet within something larger begin with; the rest is left out, and the
            receipt lists it. Not together with ``prefix``.
        head: whole name of the last layer, where it is not named as heads are; ``""`` for the features alone.
        final_relu: whether a ReLU stands behind the last norm; None for the layout's, where that is sure.
        key: keys that lead to the state dict, joined by dots, in a file that holds several.
        ignore_config: leave alone the config.json and the model card that lie beside ``source``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where the proof runs.
        force: replace ``output`` where it exists.
        golden: write the reference's outputs as well, to parity.safetensors.
        report: a page to write about the proof, also where it fails.
        images: a folder of images on which both networks must agree as well.
        reference: the owner's own network, as ``"module:function"``; the function takes no argument and
            returns the network that was saved. It is imported and run: the proof compares with it, too.
        reference_output: which of its outputs is compared, or which module of it.
        reference_input_size: height and width of an input that it takes, ``"320"`` or ``"320x256"``.
        outputs: a file of outputs that the source's network gave elsewhere: safetensors with ``input``,
            ``[N, C, H, W]``, or with as many sides as the network takes, and ``outputs``, ``[N, classes]``.
        labels: names of the classes: a list, ``"imagenet1k"``, ``"checkpoint"`` for those in ``source``, or a
            file (one a line, JSON or CSV); by default torchvision's for its own weights, none for others.
        multi_label: several classes may hold at once, so that a sigmoid and no softmax is for the logits.
        mean, std: what images, of 0 to 1, are normalised with: a number, or one for each channel.
        input_size: height and width, ``320`` or ``"320x256"``.
        interpolation: how images are resized, such as ``"bicubic"``.
        crop_pct: the share of the resized image that is kept.
        license, license_name, license_link: the Hub's identifier, for the card; the others go with "other".
        datasets, base_model: what it was trained on, and made from, for the card.
        metrics: what was measured, ``"accuracy=0.91@DATASET"``, for the card.
        card_sections: files of Markdown, such as ``intended-use.md`` and ``limits.md``, for the card.
        progress: takes the images and what they are, a word, and returns an iterable over them; tqdm fits.

    Raises:
        ConvertError: one of its subclasses says what is wrong; nothing was written but the report.

    Examples:
        >>> written = dc.convert("old.pth", "converted", device="cpu")
        >>> written.receipt["tensors"][6]["source_name"]
        'features.denseblock1.denselayer1.norm.1.weight'
    """
    options = options_from(locals())
    extras = ProofExtras(golden, report, images, outputs, progress=progress)
    return convert_source(source, output, options, extras)


def convert_source(
    source: AnyPath | InMemory, output: AnyPath | None, options: Options, extras: ProofExtras
) -> Written:
    """Does what ``convert`` does, with its options as one value."""
    folder = folder_for(source, output)
    if not isinstance(source, str | os.PathLike):
        options, extras = of_memory(source, options, extras)
    extras = extras.of(options, folder)
    refuse_early(folder, options, extras)
    if is_there(folder, options):
        return keep(source, folder, options, extras)
    if isinstance(source, str | os.PathLike):
        return _convert_file(source, folder, options, extras)
    device = choose_device(options.device)
    with plain_torch():
        read = read_memory(source)
        network = identify_network(read, options, source=None)
        return _convert_network(read, network, Beside(), folder, options, device, extras)


def convert_torchvision(
    arch: str | int,
    *,
    weights: str = ORIGIN_IMAGENET,
    seed: int = 0,
    checkpoint: AnyPath | None = None,
    output: AnyPath | None = None,
    device: str = "auto",
    force: bool = False,
    golden: bool = False,
    report: AnyPath | None = None,
    images: AnyPath | None = None,
    outputs: AnyPath | None = None,
    reference: str | None = None,
    reference_output: str | None = None,
    reference_input_size: str | None = None,
    labels: LabelSource | None = None,
    multi_label: bool = False,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    input_size: Size | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    datasets: Sequence[str] = (),
    base_model: str | None = None,
    metrics: Sequence[str] = (),
    card_sections: Sequence[AnyPath] = (),
    ignore_config: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Converts one of torchvision's four networks, proves the result and writes it.

    Args:
        arch: 121, 161, 169 or 201, with or without ``"densenet"`` before it.
        weights: ``"IMAGENET1K_V1"``, from torch's hub cache or by a download into it, or
            ``"random"``.
        seed: what random weights are drawn from, 0 to 2**63 - 1.
        checkpoint: a source as ``convert`` takes it, in place of ``weights``.
        output: is created; ``densenet169`` and so on in the working folder by default. What exists is kept or
            refused as ``convert`` does it.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where the proof runs.
        force: replace ``output`` where it exists.
        golden, report, images, labels, multi_label, ignore_config: see ``convert``.
        outputs, reference, reference_output, reference_input_size: see there.
        mean, std, input_size, interpolation, crop_pct, license, license_name, license_link: likewise.
        datasets, base_model, metrics, card_sections: likewise.
        progress: as there; where it is given, a download draws a bar on stderr.

    Raises:
        ConvertError: one of its subclasses says what is wrong; nothing was written but the report.

    Examples:
        >>> import densenet_convert as dc
        >>> written = dc.convert_torchvision(121, weights="random", device="cpu")
        >>> sorted(path.name for path in written.folder.iterdir())
        ['README.md', 'config.json', 'conversion.json', 'model.safetensors']
        >>> set(written.receipt["verification"]["largest_difference"].values())
        {0.0}
    """
    name = architecture_name(arch)
    folder = Path(name if output is None else output)
    options = options_from({**locals(), "arch": name})
    extras = ProofExtras(golden, report, images, outputs, progress=progress).of(options, folder)
    refuse_early(folder, options, extras)
    there = is_there(folder, options)
    if checkpoint is not None:
        return (keep if there else _convert_file)(checkpoint, folder, options, extras)
    if there:
        refuse_proofs(folder, None, options, extras)
        drawn = seed if weights == ORIGIN_RANDOM else None
        return require_done_of_torchvision(name, weights, drawn, folder, options)
    chosen = choose_device(options.device)
    with plain_torch():
        if weights == ORIGIN_RANDOM:
            read = read_random(name, seed)
        else:
            read = read_imagenet(name, weights, progress is not None)
        network = identify_network(read, options)
        return _convert_network(read, network, Beside(), folder, options, chosen, extras)


def _convert_file(source: AnyPath, folder: Path, options: Options, extras: ProofExtras) -> Written:
    """Reads a source and what lies beside it, finds out which network it is, and converts that.

    Torch is imported once that is known: a network that can't be converted is refused without it.
    """
    path = local_file(source)
    opened = open_chosen(path, options, os.fspath(source))
    if folder.resolve() in path.resolve().parents:
        raise FolderError(f"{path} is in {folder}, which would be replaced. Name another `output=...`.")
    known = opened.settings
    if options.final_relu is None:
        options = replace(options, final_relu=known.get("final_relu"))
    if options.layout is None:
        options = replace(options, layout=layout_beside(path, ignore_config=options.ignore_config))
    network = identify_network(opened.content, options, known.get("norm_eps"), source=os.fspath(source))
    beside = Beside() if options.ignore_config else read_beside(path, network.config)
    check_stated(network, opened.content.labels, options)
    device = choose_device(options.device)
    with plain_torch():
        checkpoint = opened.load()
        checkpoint = replace(checkpoint, origin=ORIGIN_IMAGENET) if is_imagenet(opened) else checkpoint
        return _convert_network(checkpoint, network, beside, folder, options, device, extras)


def _convert_network(
    checkpoint: Checkpoint,
    network: Identified,
    beside: Beside,
    folder: Path,
    options: Options,
    device: torch.device,
    extras: ProofExtras,
) -> Written:
    """Does every step of a conversion behind the identification, in order."""
    log.info("read %d tensors, %s, %s", len(checkpoint.tensors), checkpoint.format, checkpoint.sha256)
    log.info("layout %s, %s", network.reading.layout.name, network.config)
    # The reference is built from the checkpoint, and a whole module declares its own epsilon.
    checkpoint = rewrite_tensors(replace(checkpoint, norm_eps=network.norm_eps), network.rewrites)
    renamed = rename_tensors(checkpoint, network.reading)
    claims = with_checkup(make_claims(checkpoint, network, options, beside), renamed)
    verified = prove_parity(renamed, network.config, device, extras, claims)
    phases.info("writing %s", folder)
    written = write_folder(verified, folder, force=options.force)
    log.info("wrote %s", written.folder)
    return written
