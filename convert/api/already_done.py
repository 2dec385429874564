"""Whether a folder that exists is what a conversion with these options would give."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet.config import size_of

from ..claims import Beside
from ..errors import FolderError, quoted
from ..folder.card_fields import merged_card, stated_card
from ..folder.files import GOLDEN, file_digests
from ..folder.open import open_folder
from ..folder.preprocessing import choose_preprocessing, stated_preprocessing
from ..folder.receipt import config_from, describe_labels
from ..hub.fetch import local_file
from ..layouts.attempt import architecture_name
from ..layouts.network import identify_network
from ..layouts.rearrange import recorded_steps
from ..records import Identified, Options, Written
from ..source.beside import read_beside, settings_beside
from ..source.file import parse_checkpoint, read_whole
from .claims import labels_of
from .plan import Job

if TYPE_CHECKING:
    from ..formats.recognise import Content

# A word for each thing, with its value in the folder and the one that a conversion would give it.
Compared = dict[str, tuple[Any, Any]]


def require_done(job: Job) -> Written:
    """Returns what is there already.

    Raises:
        FolderError: it is not whole, not of this source, or is not what was asked for.
        ConvertError: the source can't be had, or is not what was asked for.
    """
    advice = "Name another `output=...`, or replace it with `force=True`."
    try:
        written = open_folder(Path(job.folder))
    except FolderError as error:
        raise FolderError(f"{job.folder} exists and is not whole. {error} {advice}") from error
    claimed = written.receipt["source"]["sha256"]
    data = read_whole(local_file(job.source))
    found = hashlib.sha256(data).hexdigest()
    if claimed != found:
        raise FolderError(
            f"{job.folder} exists and is of another source than {job.source}, whose SHA-256 is {found}: "
            f"the receipt names {claimed}. {advice}"
        )
    if mismatch := first_mismatch(job, written, data):
        raise FolderError(
            f"{job.folder} exists and was converted otherwise than is asked: {mismatch}. {advice}"
        )
    return written


def first_mismatch(job: Job, written: Written, data: bytearray) -> str | None:
    """Returns the first thing that a conversion with these options would make otherwise, or None."""
    content = parse_checkpoint(data, Path(job.source), job.options.key)
    path, ignored = local_file(job.source), job.options.ignore_config
    settings = settings_beside(path, ignore_config=ignored)
    # Another architecture is a mismatch here, and no error.
    options = replace(job.options, arch=None)
    if options.final_relu is None:
        options = replace(options, final_relu=settings.get("final_relu"))
    network = identify_network(content, options, written.receipt["source"]["norm_eps"], source=job.source)
    beside = Beside() if ignored else read_beside(path, network.config)
    compared = (
        _compare_source(written.receipt, content, network)
        | _compare_network(written.receipt, network, job.options)
        | _compare_references(written.receipt["verification"], job.options)
        | _compare_claims(written.receipt, network, content.labels, job.options, beside)
        | _compare_files(written, job.options)
    )
    for what, (found, expected) in compared.items():
        if found != expected:
            return f"it has {what} {quoted(str(found))}, expected {quoted(str(expected))}"
    return None


def _compare_source(receipt: Mapping[str, Any], content: Content, network: Identified) -> Compared:
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
    stated = stated_preprocessing(options, network.config.in_channels)
    layout = network.reading.layout.preprocessing
    preprocessing = choose_preprocessing(layout, beside.preprocessing, stated)
    found, expected = receipt["labels"], describe_labels(labels)
    return {
        "names of the classes with the digest": (found["sha256"], expected["sha256"]),
        "the problem type": (found["problem_type"], expected["problem_type"]),
        "the pre-processing": ((receipt["preprocessing"], receipt["preprocessing_origin"]), preprocessing),
        **{
            f"the {name.replace('_', ' ')}": (receipt["card"].get(name), value)
            for name, value in merged_card(beside.card, stated_card(options)).items()
        },
    }


def _compare_files(written: Written, options: Options) -> Compared:
    return {"golden outputs": (GOLDEN in file_digests(written.receipt), True)} if options.golden else {}
