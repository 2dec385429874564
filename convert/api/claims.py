"""What is said of a network that is converted, beside what is proven of it."""

from __future__ import annotations

import logging

from ..claims import Beside, Claims, Remark
from ..errors import first_few
from ..folder.labels import choose_labels
from ..records import ORIGIN_FILE, ORIGIN_MEMORY, Checkpoint, Identified, Options

log = logging.getLogger("densenet_convert")


def make_claims(checkpoint: Checkpoint, network: Identified, options: Options, beside: Beside) -> Claims:
    """Returns what is said of a network, and logs each remark as a warning.

    Args:
        checkpoint: its source; of weights that torchvision published or that were drawn nothing is assumed.
        network: what the source holds.
        options: what the user says, which goes before what lies beside the source.
        beside: what the files there tell.

    Raises:
        LabelError: there are not as many names as classes.
    """
    labels = choose_labels(
        checkpoint.origin,
        network.config,
        asked=options.labels,
        multi_label=options.multi_label,
        implied=network.problem_type,
        beside=beside.names,
    )
    remarks = (*_on_calls(checkpoint.calls), *beside.remarks)
    for remark in remarks:
        log.warning("%s", remark.text)
    assumed = checkpoint.origin in (ORIGIN_FILE, ORIGIN_MEMORY)
    return Claims(
        labels=labels,
        preprocessing={**network.reading.layout.preprocessing, **beside.preprocessing},
        assumptions=network.assumptions if assumed else (),
        remarks=remarks,
        files=beside.files,
    )


def _on_calls(calls: tuple[str, ...]) -> tuple[Remark, ...]:
    if not calls:
        return ()
    text = (
        f"The file's pickle calls {first_few(calls)} when it is loaded the usual way. Nothing of it was "
        "imported or run here."
    )
    return (Remark("refers-to", text, calls),)
