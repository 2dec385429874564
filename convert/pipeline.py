"""Composes the steps; each public function is one flow from a source to a result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import ARCHITECTURES

from .card import network_name
from .devices import choose_device, plain_torch
from .download import download
from .errors import (
    ArchitectureError,
    FolderError,
    LayoutError,
    WeightsUnavailableError,
    some,
)
from .folder import CARD, card_was_edited, open_folder, read_golden, recover_checkpoint
from .hub import local_file, local_folder
from .identify import identify_again, identify_layout
from .labels import choose_labels
from .layouts import known_layouts
from .load import choose_config
from .parity import Wanted, verify_parity
from .published import published_digits, published_url
from .random_weights import random_checkpoint
from .read import read_checkpoint
from .receipt import config_from, describe_conversion
from .records import (
    PUBLISHED,
    RANDOM,
    Checkpoint,
    Destination,
    Labels,
    Progress,
    Published,
    Renamed,
    Verified,
    Written,
)
from .rename import rename_tensors
from .scratch import scratch_folder
from .told import heed
from .write import check_target, write_folder

if TYPE_CHECKING:
    import os

    from densenet_convert.densenet import DenseNetConfig

    from .layout import Layout

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
    wanted = Wanted(golden, _path(report), _path(images), progress)
    wanted.check(folder)
    identify = partial(
        identify_layout, layouts=known_layouts(), layout=layout, prefix=prefix, only=only, head=head
    )
    named = partial(choose_labels, asked=labels, multi_label=multi_label)
    write = partial(write_folder, folder=folder, force=force, license=license)
    architecture = None if arch is None else _architecture(arch)
    read = partial(_read_source, source, folder, key)
    return _convert(read, identify, architecture, device, wanted, named, write)


def convert_torchvision(
    arch: str | int,
    *,
    weights: str = PUBLISHED,
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
    wanted = Wanted(golden, _path(report), _path(images), progress)
    wanted.check(folder)

    def read() -> Checkpoint:
        if checkpoint is not None:
            return _read_source(checkpoint, folder)
        if weights == RANDOM:
            return _read_random(name, seed)
        return _read_published(name, weights, progress is not None)

    named = partial(choose_labels, asked=labels, multi_label=multi_label)
    write = partial(write_folder, folder=folder, force=force, license=license)
    identify = partial(identify_layout, layouts=known_layouts())
    return _convert(read, identify, name, device, wanted, named, write)


def verify(
    folder: AnyPath,
    *,
    source: AnyPath | None = None,
    device: str = "auto",
    report: AnyPath | None = None,
    images: AnyPath | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Repeats the proof of a folder that was converted, against its source where that is given.

    Where the folder has golden outputs, the network must compute them here as well.

    Without the source, its tensors are rebuilt from the folder under the source's names;
    what was dropped from it is then not proven again.

    Args:
        folder: one that was converted, here or as ``hf://USER/NAME[@REVISION]`` on the Hugging Face Hub.
        source: the checkpoint that it was converted from, here or on the Hub.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where the proof runs.
        report, images, progress: see ``convert``.

    Raises:
        HubError: the Hub does not have the folder, or does not give it.
        FolderError: a file is missing, was added or was changed, or ``source`` is not what
            the receipt names.
        ParityError: the network is not the reference's function.

    Examples:
        >>> verified = dc.verify("densenet121", device="cpu")
        >>> verified.proof.compared["tensors"]
        727
    """
    folder = local_folder(folder)
    wanted = Wanted(False, _path(report), _path(images), progress)
    wanted.check(folder)
    chosen = choose_device(device)
    with plain_torch():
        written = open_folder(folder)
        log.info("%s: every byte agrees with the receipt", folder)
        if card_was_edited(folder):
            log.warning("%s was edited: nothing in it is proven.", folder / CARD)
        whole = source is not None
        checkpoint = recover_checkpoint(written) if source is None else _read_again(source, written)
        layout = _recorded_layout(checkpoint, written, whole)
        checkpoint, _ = heed(checkpoint, layout)
        renamed = rename_tensors(checkpoint, layout)
        config = choose_config(renamed)
        _check_receipt(renamed, config, written, whole=whole)
        return verify_parity(renamed, config, chosen, wanted, read_golden(written))


def push(
    folder: AnyPath,
    repo_id: str,
    *,
    license: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str = "main",
    commit_message: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> Published:
    """Publishes a converted folder on the Hugging Face Hub, fetches it back and compares every byte.

    The repository is made where it is missing. What it has already is not sent again.

    Args:
        folder: one that was converted.
        repo_id: ``"USER/NAME"``.
        license: the Hub's identifier of the license; required where the weights are not torchvision's own
            and the card names none.
        private: make the repository private; one that is there and public is refused.
        create_pr: open a pull request, or go on with the one of this message that is open.
        revision: branch, made where it is missing; with ``create_pr``, what the pull request is for.
        commit_message: by default the network, the converter and its version.
        token: by default that of the environment, or of the login.
        dry_run: look at the repository, change nothing, and say what would be sent.

    Raises:
        FolderError: a file is missing, was added or was changed.
        PublishError: the folder holds random weights or no license is known, the repository holds other
            files or is public, or what came back differs.
        HubError: the Hub refuses, fails or does not answer.
    """
    from .publish import publish_folder

    written = open_folder(Path(folder))
    converter = written.receipt["converter"]
    made = f"{network_name(config_from(written.receipt['config']))}, converted by {converter['name']}"
    message = commit_message or f"{made} {converter['version']}"
    token = token.strip() or None if token else None
    to = Destination(repo_id, revision, message, license, private, create_pr, token)
    return publish_folder(written, to, dry_run=dry_run)


def _convert(
    read: Callable[[], Checkpoint],
    identify: Callable[[Collection[str]], Layout],
    architecture: str | None,
    device: str,
    wanted: Wanted,
    named: Callable[..., Labels],
    write: Callable[[Verified], Written],
) -> Written:
    chosen = choose_device(device)
    with plain_torch():
        checkpoint = read()
        log.info("read %d tensors, %s, %s", len(checkpoint.tensors), checkpoint.format, checkpoint.sha256)
        layout = identify(checkpoint.tensors.keys())
        checkpoint, told = heed(checkpoint, layout)
        renamed = rename_tensors(checkpoint, layout)
        config = choose_config(renamed, architecture)
        log.info("layout %s, %s", layout.name, config)
        labels = named(checkpoint.origin, config, implied=told or layout.problem_type)
        verified = replace(verify_parity(renamed, config, chosen, wanted), labels=labels)
        written = write(verified)
        log.info("wrote %s", written.folder)
        return written


def _architecture(arch: str | int) -> str:
    name = f"densenet{str(arch).removeprefix('densenet')}"
    if name not in ARCHITECTURES:
        raise ArchitectureError(f"There is no {name}, expected one of {', '.join(ARCHITECTURES)}.")
    return name


def _path(given: AnyPath | None) -> Path | None:
    return None if given is None else Path(given)


def _read_source(source: AnyPath, folder: Path, key: str | None = None) -> Checkpoint:
    """A file at hand, which is not to be replaced; it is torchvision's own where its digest says so."""
    path = local_file(source)
    checkpoint = read_checkpoint(path, key=key)
    if folder.resolve() in path.resolve().parents:
        raise FolderError(f"{path} is in {folder}, which would be replaced. Name another --output.")
    return replace(checkpoint, origin=PUBLISHED) if _is_published(checkpoint) else checkpoint


def _is_published(checkpoint: Checkpoint) -> bool:
    return any(checkpoint.sha256.startswith(published_digits(name)) for name in ARCHITECTURES)


def _read_published(architecture: str, weights: str, progress: bool) -> Checkpoint:
    if weights != PUBLISHED:
        raise WeightsUnavailableError(
            f"There are no weights {weights!r} of {architecture}, expected {PUBLISHED} or {RANDOM}."
        )
    digits = published_digits(architecture)
    path = download(published_url(architecture), digits, progress=progress)
    return replace(read_checkpoint(path, digits=digits), origin=PUBLISHED)


def _read_random(architecture: str, seed: int) -> Checkpoint:
    """Random weights go through a file and the reader, as a download does."""
    if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise WeightsUnavailableError(f"The seed is {seed!r}, expected a whole number from 0 to 2**63 - 1.")
    with scratch_folder() as folder:
        path = folder / f"{architecture}-random-{seed}.pth"
        path.write_bytes(random_checkpoint(ARCHITECTURES[architecture], seed))
        return replace(read_checkpoint(path), origin=RANDOM, seed=seed)


def _read_again(source: AnyPath, written: Written) -> Checkpoint:
    path = local_file(source)
    claimed = written.receipt["source"]
    checkpoint = read_checkpoint(path, key=claimed["container"])
    if checkpoint.sha256 != claimed["sha256"]:
        raise FolderError(
            f"{path} is not the source of {written.folder}: its SHA-256 is {checkpoint.sha256}, "
            f"the receipt names {claimed['sha256']}. Name the file that was converted."
        )
    return replace(checkpoint, origin=claimed["origin"], seed=claimed["seed"])


def _recorded_layout(checkpoint: Checkpoint, written: Written, whole: bool) -> Layout:
    try:
        return identify_again(checkpoint.tensors.keys(), known_layouts(), written.receipt, whole=whole)
    except LayoutError as error:
        raise FolderError(
            f"{written.folder} is not what a conversion of its source gives. Its receipt has under 'source' "
            f"the layout {some([written.receipt['source']['layout']])}: {error}"
        ) from error


def _check_receipt(renamed: Renamed, config: DenseNetConfig, written: Written, *, whole: bool) -> None:
    """Compares what the folder holds with what a conversion of the source gives today."""
    today = describe_conversion(renamed, config)
    if not whole:  # which names were dropped is not known again, but whether these would be
        names = [entry["source_name"] for entry in written.receipt["dropped"]]
        dropped = renamed.layout.explain(names, whole=False).dropped
        today["dropped"] = [{"source_name": name, "because": why} for name, why in dropped.items()]
    for field in ("source", "config", "preprocessing", "tensors", "dropped"):
        found, expected = written.receipt[field], today[field]
        if found != expected:
            found, expected = _first_difference(found, expected)
            raise FolderError(
                f"{written.folder} is not what a conversion of its source gives. Its receipt has under "
                f"{field!r} {some([str(found)])}, expected {some([str(expected)])}."
            )
    if (written.receipt["source"]["origin"] == PUBLISHED) != _is_published(renamed.checkpoint):
        raise FolderError(
            f"{written.folder} claims the origin {written.receipt['source']['origin']}, and the SHA-256 "
            "of its source says otherwise. Get the folder again from where it came from."
        )


def _first_difference(found: Any, expected: Any) -> tuple[Any, Any]:
    """The first entries that differ of two lists, and of two objects the fields that do, with the name."""
    if isinstance(expected, list) and len(found) == len(expected):
        return _first_difference(*next((a, b) for a, b in zip(found, expected, strict=True) if a != b))
    if isinstance(expected, dict) and isinstance(found, dict):
        other = [n for n in {**found, **expected} if n == "name" or found.get(n) != expected.get(n)]
        return {n: found.get(n) for n in other}, {n: expected.get(n) for n in other}
    return found, expected
