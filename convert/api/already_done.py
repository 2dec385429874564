"""Whether a folder that exists is what a conversion with these options would give."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import FolderError, quoted
from ..folder.card import license_of
from ..folder.files import CARD, GOLDEN, file_digests
from ..folder.labels import choose_labels
from ..folder.open import open_folder
from ..folder.receipt import config_from, describe_labels
from ..hub.fetch import local_file
from ..layouts import known_layouts
from ..layouts.architecture import size_of
from ..layouts.declared_layers import read_declared
from ..layouts.explain import explain
from ..layouts.identify import identify_layout
from ..records import Written
from ..source.file import parse_checkpoint, read_whole
from .options import Job


def require_done(job: Job) -> Written:
    """Returns what is there already.

    Raises:
        FolderError: it is not whole, not of this source, or is not what was asked for.
        ConvertError: the source can't be had, or is not what was asked for.
    """
    advice = "Name another --output, or replace it with --force."
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
    receipt = written.receipt
    config = config_from(receipt["config"])
    content = parse_checkpoint(data, Path(job.source), job.key)
    layout = identify_layout(
        content.tensors,
        known_layouts(),
        layout=job.layout,
        prefix=job.prefix,
        only=job.only,
        head=job.head,
    )
    explained = explain(layout, content.tensors)
    kept = {one["source_name"]: one["name"] for one in receipt["tensors"] if one["source_name"] is not None}
    _, declared = read_declared(content.layers, content.format, content.tensors, layout)
    labels = describe_labels(
        choose_labels(
            receipt["source"]["origin"],
            config,
            asked=job.labels,
            multi_label=job.multi_label,
            implied=declared or layout.problem_type,
        )
    )
    card = written.folder / CARD
    compared = {
        "the state dict under": (receipt["source"]["container"], content.container),
        "the layout": (receipt["source"]["layout"], layout.name),
        "the prefix": (receipt["source"]["prefix"], layout.prefix),
        "the architecture": (
            size_of(config),
            f"densenet{str(job.arch).removeprefix('densenet')}" if job.arch else size_of(config),
        ),
        "the tensors": (sorted(kept.items()), sorted(explained.targets.items())),
        "names of the classes with the digest": (receipt["labels"]["sha256"], labels["sha256"]),
        "the problem type": (receipt["labels"]["problem_type"], labels["problem_type"]),
        "golden outputs": (GOLDEN in file_digests(receipt), job.golden or GOLDEN in file_digests(receipt)),
        "the license": (license_of(card), job.license) if job.license else (None, None),
    }
    return next(
        (
            f"it has {what} {quoted(str(found))}, expected {quoted(str(expected))}"
            for what, (found, expected) in compared.items()
            if found != expected
        ),
        None,
    )
