"""A conversion that is there already: what is whole, and as asked, is kept and not made again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.densenet.config import size_of

from ..claims import Beside
from ..errors import FolderError, quoted
from ..folder.card_fields import merged_card, stated_card
from ..folder.files import GOLDEN, file_digests
from ..folder.open import open_folder
from ..folder.preprocessing import choose_preprocessing, stated_preprocessing
from ..folder.receipt import config_from, describe_labels
from ..folder.records import Written
from ..hub.fetch import local_file
from ..layout import Reading
from ..layouts import TORCHVISION
from ..layouts.attempt import architecture_name
from ..layouts.network import identify_network
from ..layouts.rearrange import recorded_steps
from ..proof.prove import ProofExtras
from ..records import ORIGIN_IMAGENET, AnyPath, Identified, InMemory, Options
from ..source.beside import read_beside
from ..source.memory import read_memory
from ..torchvision_weights import weights_digits
from .choices import open_chosen
from .claims import labels_of
from .verify import verify

if TYPE_CHECKING:
    from ..formats.recognise import Content
    from ..records import Checkpoint

# A word for each thing, with its value in the folder and the one that a conversion would give it.
Compared = dict[str, tuple[Any, Any]]
ADVICE = "Name another `output=...`, or replace it with `force=True`."
# What asks for a proof that a conversion which is there already does not have.
PROOFS = ("images", "outputs", "report", "reference", "reference_output", "reference_input_size")


class Asked(NamedTuple):
    """The source and the network with which a conversion would begin."""

    named: str
    sha256: str
    held: Content | Checkpoint
    network: Identified
    beside: Beside


def keep(source: AnyPath | InMemory, folder: Path, options: Options, extras: ProofExtras) -> Written:
    """Returns what is there already, as ``require_done``; a network at hand is held against it.

    Raises:
        FolderError: as ``require_done``, or a proof is asked for that ``verify`` makes.
        ParityError: the network at hand is another function.
    """
    if isinstance(source, str | os.PathLike):
        refuse_proofs(folder, os.fspath(source), options, extras)
    written = require_done(source, folder, options)
    if extras.network is not None:
        asked = {name: getattr(extras, name) for name in PROOFS if name != "reference"}
        verify(folder, source=source, device=options.device, progress=extras.progress, **asked)
    return written


def refuse_proofs(folder: Path, source: str | None, options: Options, extras: ProofExtras) -> None:
    """Refuses to pass over a proof that is asked for, with the command that makes it.

    Raises:
        FolderError: images, recorded outputs, a network of the owner's own or a report are asked for.
    """
    asked = {name: value for name in PROOFS if (value := getattr(extras, name)) is not None}
    if not asked:
        return
    said = {"source": source, **asked, "device": None if options.device == "auto" else options.device}
    keywords = [f"{name}={os.fspath(value)!r}" for name, value in said.items() if value is not None]
    raise FolderError(
        f"{folder} exists, and what is there already is not proven again by a conversion, as "
        f"`{next(iter(asked))}=...` asks. {ADVICE} This proves what is there:\n"
        f"dc.verify({', '.join([repr(str(folder)), *keywords])})"
    )


def require_done(source: AnyPath | InMemory, folder: Path, options: Options) -> Written:
    """Returns what is there already.

    Raises:
        FolderError: it is not whole, not of this source, or is not what was asked for.
        ConvertError: the source can't be had, or is not what was asked for.
    """
    written = _open(folder)
    claimed = written.receipt["source"]["sha256"]
    # Another architecture is a mismatch here, and no error.
    asked = _read(source, replace(options, arch=None))
    if claimed != asked.sha256:
        raise FolderError(
            f"{folder} exists and is of another source than {asked.named}, whose SHA-256 is {asked.sha256}: "
            f"the receipt names {claimed}. {ADVICE}"
        )
    return _kept(
        written,
        _compare_source(written.receipt, asked.held, asked.network)
        | _compare_network(written.receipt, asked.network, options)
        | _compare_references(written.receipt["verification"], options)
        | _compare_claims(written.receipt, asked.network, asked.held.labels, options, asked.beside)
        | _compare_files(written, options),
    )


def require_done_of_torchvision(
    arch: str, weights: str, seed: int | None, folder: Path, options: Options
) -> Written:
    """Returns what is there already of torchvision's weights, or of random ones, which need not be had again.

    Raises:
        FolderError: as ``require_done``.
    """
    written = _open(folder)
    source = written.receipt["source"]
    compared: Compared = {"weights": (source["origin"], weights), "the seed": (source["seed"], seed)}
    if weights == ORIGIN_IMAGENET:
        digits = weights_digits(arch)
        compared["a source with the digest"] = (source["sha256"][: len(digits)], digits)
    network = Identified(Reading(TORCHVISION), ARCHITECTURES[arch])
    return _kept(
        written,
        compared
        | _compare_network(written.receipt, network, options)
        | _compare_claims(written.receipt, network, {}, options, Beside())
        | _compare_files(written, options),
    )


def _open(folder: Path) -> Written:
    try:
        return open_folder(folder)
    except FolderError as error:
        raise FolderError(f"{folder} exists and is not whole. {error} {ADVICE}") from error


def _read(source: AnyPath | InMemory, options: Options) -> Asked:
    """Reads a source as a conversion does, and finds out which network it is."""
    if not isinstance(source, str | os.PathLike):
        held = read_memory(source)
        network = identify_network(held, options, source=None)
        return Asked("what is in memory", held.sha256, held, network, Beside())
    named, path = os.fspath(source), local_file(source)
    opened = open_chosen(path, options, named)
    known = opened.settings
    if options.final_relu is None:
        options = replace(options, final_relu=known.get("final_relu"))
    network = identify_network(opened.content, options, known.get("norm_eps"), source=named)
    beside = Beside() if options.ignore_config else read_beside(path, network.config)
    return Asked(named, opened.sha256, opened.content, network, beside)


def _kept(written: Written, compared: Compared) -> Written:
    """Returns what is there if nothing differs.

    Raises:
        FolderError: a conversion would make something otherwise; the message says what, first of all.
    """
    for what, (found, expected) in compared.items():
        if found != expected:
            raise FolderError(
                f"{written.folder} exists and was converted otherwise than is asked: it has {what} "
                f"{quoted(str(found))}, expected {quoted(str(expected))}. {ADVICE}"
            )
    return replace(written, skipped=True)


def _compare_source(
    receipt: Mapping[str, Any], content: Content | Checkpoint, network: Identified
) -> Compared:
    source, reading = receipt["source"], network.reading
    renamed = {entry["source_name"]: entry["name"] for entry in receipt["tensors"]}
    renamed.pop(None, None)  # what was written as zero
    return {
        "the state dict under": (source["container"], content.container),
        "the layout": (source["layout"], reading.layout.name),
        "the prefix": (source["prefix"], reading.prefix),
        "tensors that a repair put elsewhere": (len(recorded_steps(receipt)), 0),
        "the tensors": (sorted(renamed.items()), sorted(reading.explanation.targets.items())),
    }


def _compare_network(receipt: Mapping[str, Any], network: Identified, options: Options) -> Compared:
    config = config_from(receipt["config"])
    compared: Compared = {"the ReLU behind the last norm": (config.final_relu, network.config.final_relu)}
    if options.arch is not None:
        compared["the architecture"] = (size_of(config), architecture_name(options.arch))
    return compared


def _compare_references(proof: Mapping[str, Any], options: Options) -> Compared:
    if options.reference is None:
        return {}
    own = proof.get("own_network", {})
    return {
        "the owner's network": (own.get("name"), options.reference),
        "its output": (own.get("output"), options.reference_output),
    }


def _compare_claims(
    receipt: Mapping[str, Any],
    network: Identified,
    held: Mapping[str, tuple[str, ...]],
    options: Options,
    beside: Beside,
) -> Compared:
    labels = labels_of(receipt["source"]["origin"], network, held, options, beside)
    stated = stated_preprocessing(options, network.config)
    layout = network.reading.layout.preprocessing
    preprocessing = choose_preprocessing(layout, beside.preprocessing, stated)
    found, expected = receipt["labels"], describe_labels(labels)
    card = merged_card(beside.card, stated_card(options))
    return {
        "names of the classes with the digest": (found["sha256"], expected["sha256"]),
        "the problem type": (found["problem_type"], expected["problem_type"]),
        "the pre-processing": ((receipt["preprocessing"], receipt["preprocessing_origin"]), preprocessing),
        **{
            f"the {name.replace('_', ' ')}": (receipt["card"].get(name), card.get(name))
            for name in (*receipt["card"], *card)
        },
    }


def _compare_files(written: Written, options: Options) -> Compared:
    return {"golden outputs": (GOLDEN in file_digests(written.receipt), True)} if options.golden else {}
