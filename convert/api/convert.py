"""``convert`` and ``convert_torchvision``: from a source to a proven folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from densenet_convert.densenet import ARCHITECTURES

from ..errors import ArchitectureError, FolderError, LayoutError
from ..folder.labels import choose_labels
from ..folder.write import check_target, write_folder
from ..hub.fetch import local_file
from ..layouts import known_layouts
from ..layouts.architecture import choose_config
from ..layouts.declared_layers import check_declared_layers
from ..layouts.identify import identify_layout
from ..layouts.rename import rename_tensors
from ..proof.devices import choose_device, plain_torch
from ..proof.prove import ProofExtras, prove_parity
from ..records import ORIGIN_IMAGENET, ORIGIN_RANDOM, Checkpoint, Labels, Progress, Verified, Written
from ..source.read import is_imagenet, read_checkpoint, read_imagenet, read_random
from .options import optional_path

if TYPE_CHECKING:
    import os

    from ..layout import Layout

    AnyPath = str | os.PathLike[str]

log = logging.getLogger("densenet_convert")


def convert(
    source: AnyPath,
    output: AnyPath,
    *,
    arch: str | int | None = None,
    layout: str | None = None,
    prefix: str | None = None,
    only: str | None = None,
    head: str | None = None,
    key: str | None = None,
    device: str = "auto",
    force: bool = False,
    golden: bool = False,
    report: AnyPath | None = None,
    images: AnyPath | None = None,
    labels: AnyPath | None = None,
    multi_label: bool = False,
    license: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Converts the checkpoint in ``source``, proves the result and writes it to the folder ``output``.

    The layout is identified by its names and the architecture by its shapes.

    Args:
        source: a checkpoint, which holds a state dict or a module in a layout of ``known_layouts``; a file
            here, or ``hf://USER/NAME[@REVISION][/FILE]`` on the Hugging Face Hub.
        output: is created; an existing folder is left alone without ``force``.
        arch: 121, 161, 169 or 201, which it must then be.
        layout: name of the layout that it must be in.
        prefix: what must stand before the names.
        only: the same, of a DenseNet within something larger; the rest is left out, and the receipt lists it.
        head: whole name of the last layer, where it is not named as heads are.
        key: keys that lead to the state dict, joined by dots, in a file that holds several.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where the proof runs.
        force: replace ``output`` where it exists.
        golden: write the reference's outputs as well, to parity.safetensors.
        report: a page to write about the proof, also where it fails; needs matplotlib.
        images: a folder of images on which both networks must agree as well.
        labels: names of the classes, ``"imagenet1k"`` or a file with one name a line; by default
            torchvision's for its own weights, and none for others.
        multi_label: several classes may hold at once, so that a sigmoid and no softmax is for the logits.
        license: the Hub's identifier of the license, for the model card.
        progress: wraps the images as they are gone through, and is told what they are.

    Raises:
        ConvertError: one of its subclasses says what is wrong; nothing was written but the report.

    Examples:
        >>> written = dc.convert("old.pth", "converted", device="cpu")
        >>> written.receipt["tensors"][6]["source_name"]
        'features.denseblock1.denselayer1.norm.1.weight'
    """
    if only is not None and prefix is not None:
        raise LayoutError("--only names the prefix already: leave --prefix out.")
    folder = Path(output)
    check_target(folder, force=force)
    extras = ProofExtras(golden, optional_path(report), optional_path(images), progress)
    extras.check(folder)
    identify = partial(
        identify_layout, layouts=known_layouts(), layout=layout, prefix=prefix, only=only, head=head
    )
    named = partial(choose_labels, asked=labels, multi_label=multi_label)
    write = partial(write_folder, folder=folder, force=force, license=license)
    architecture = None if arch is None else _architecture(arch)
    read = partial(_read_source, source, folder, key)
    return _convert(read, identify, architecture, device, extras, named, write)


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
    labels: AnyPath | None = None,
    multi_label: bool = False,
    license: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Converts one of torchvision's four networks, proves the result and writes it.

    Args:
        arch: 121, 161, 169 or 201, with or without ``"densenet"`` before it.
        weights: ``"IMAGENET1K_V1"``, from torch's hub cache or by a download into it, or
            ``"random"``.
        seed: what random weights are drawn from, 0 to 2**63 - 1.
        checkpoint: a file at hand, as ``convert`` takes it; then ``weights`` is not looked at.
        output: is created; ``densenet169`` and so on in the working folder by default.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where the proof runs.
        force: replace ``output`` where it exists.
        golden, report, images, labels, multi_label, license: see ``convert``.
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
    name = _architecture(arch)
    folder = Path(name if output is None else output)
    check_target(folder, force=force)
    extras = ProofExtras(golden, optional_path(report), optional_path(images), progress)
    extras.check(folder)

    def read() -> Checkpoint:
        if checkpoint is not None:
            return _read_source(checkpoint, folder)
        if weights == ORIGIN_RANDOM:
            return read_random(name, seed)
        return read_imagenet(name, weights, progress is not None)

    named = partial(choose_labels, asked=labels, multi_label=multi_label)
    write = partial(write_folder, folder=folder, force=force, license=license)
    identify = partial(identify_layout, layouts=known_layouts())
    return _convert(read, identify, name, device, extras, named, write)


def _convert(
    read: Callable[[], Checkpoint],
    identify: Callable[[Collection[str]], Layout],
    architecture: str | None,
    device: str,
    extras: ProofExtras,
    named: Callable[..., Labels],
    write: Callable[[Verified], Written],
) -> Written:
    chosen = choose_device(device)
    with plain_torch():
        checkpoint = read()
        log.info("read %d tensors, %s, %s", len(checkpoint.tensors), checkpoint.format, checkpoint.sha256)
        layout = identify(checkpoint.tensors.keys())
        checkpoint, declared = check_declared_layers(checkpoint, layout)
        renamed = rename_tensors(checkpoint, layout)
        config = choose_config(renamed, architecture)
        log.info("layout %s, %s", layout.name, config)
        labels = named(checkpoint.origin, config, implied=declared or layout.problem_type)
        verified = replace(prove_parity(renamed, config, chosen, extras), labels=labels)
        written = write(verified)
        log.info("wrote %s", written.folder)
        return written


def _architecture(arch: str | int) -> str:
    name = f"densenet{str(arch).removeprefix('densenet')}"
    if name not in ARCHITECTURES:
        raise ArchitectureError(f"There is no {name}, expected one of {', '.join(ARCHITECTURES)}.")
    return name


def _read_source(source: AnyPath, folder: Path, key: str | None = None) -> Checkpoint:
    """Reads a file that is at hand and not in ``folder``; its digest says whether it is torchvision's own."""
    path = local_file(source)
    checkpoint = read_checkpoint(path, key=key)
    if folder.resolve() in path.resolve().parents:
        raise FolderError(f"{path} is in {folder}, which would be replaced. Name another --output.")
    return replace(checkpoint, origin=ORIGIN_IMAGENET) if is_imagenet(checkpoint) else checkpoint
