"""Collects what is stated about a network and not proven."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from ..claims import Beside, Claims, Labels, Remark
from ..errors import first_few
from ..folder.card_fields import merged_card, stated_card
from ..folder.labels import choose_labels
from ..folder.preprocessing import choose_preprocessing, stated_preprocessing
from ..layouts.checkup import check_up
from ..records import IMAGENET, ORIGIN_FILE, ORIGIN_MEMORY, Checkpoint, Identified, Options, Renamed

log = logging.getLogger("densenet_convert")


def check_stated(network: Identified, held: Mapping[str, tuple[str, ...]], options: Options) -> None:
    """Refuses what the user says and this network can't have, before torch is loaded.

    torchvision's names of the classes are left to ``make_claims``: they need torchvision, and so torch.

    Args and Raises: as ``labels_of`` and ``make_claims``.
    """
    stated_preprocessing(options, network.config)
    if options.labels is not None and options.labels != IMAGENET:
        labels_of(ORIGIN_FILE, network, held, options, Beside())


def make_claims(checkpoint: Checkpoint, network: Identified, options: Options, beside: Beside) -> Claims:
    """Returns what is said of a network, and logs each remark as a warning.

    Args:
        checkpoint: its source; of weights that torchvision published or that were drawn nothing is assumed.
        network: what the source holds.
        options: what the user says, which goes before what lies beside the source.
        beside: what the files there tell.

    Raises:
        LabelError: there are not as many names as classes.
        ClaimError: what the user says is not of its proper form.
    """
    labels = labels_of(checkpoint.origin, network, checkpoint.labels, options, beside)
    remarks = (*_on_calls(checkpoint.calls), *beside.remarks)
    for remark in remarks:
        log.warning("%s", remark.text)
    assumed = checkpoint.origin in (ORIGIN_FILE, ORIGIN_MEMORY)
    stated = stated_preprocessing(options, network.config)
    layout = network.reading.layout.preprocessing
    preprocessing, origin = choose_preprocessing(layout, beside.preprocessing, stated)
    return Claims(
        labels=labels,
        preprocessing=preprocessing,
        preprocessing_origin=origin,
        card=merged_card(beside.card, stated_card(options)),
        assumptions=network.assumptions if assumed else (),
        remarks=remarks,
        files=beside.files,
    )


def with_checkup(claims: Claims, renamed: Renamed) -> Claims:
    """Returns what is said of a network, with what its weights look like; logs each such remark."""
    remarks = check_up(renamed.checkpoint, renamed.reading)
    for remark in remarks:
        log.warning("%s", remark.text)
    return replace(claims, remarks=(*claims.remarks, *remarks))


def labels_of(
    origin: str,
    network: Identified,
    held: Mapping[str, tuple[str, ...]],
    options: Options,
    beside: Beside,
) -> Labels:
    """Returns the names of a network's classes; ``origin`` and ``held`` are its checkpoint's.

    Raises:
        LabelError: there are not as many names as classes.
    """
    return choose_labels(
        origin,
        network.config,
        asked=options.labels,
        multi_label=options.multi_label,
        implied=network.problem_type,
        beside=beside.names,
        held=held,
    )


def _on_calls(calls: tuple[str, ...]) -> tuple[Remark, ...]:
    if not calls:
        return ()
    text = (
        f"The file's pickle calls {first_few(calls)} when it is loaded the usual way. Nothing of it was "
        "imported or run here."
    )
    return (Remark("refers-to", text, calls),)
