"""``describe``: what a converted folder says of its network, changed later."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FolderError, LabelError
from ..folder.card_fields import license_of, merged_card, stated_card
from ..folder.files import CARD, SIGNATURE_FILES, card_was_edited
from ..folder.labels import choose_labels
from ..folder.open import label_names, open_folder
from ..folder.others import say_uncovered
from ..folder.preprocessing import stated_preprocessing, with_stated
from ..folder.receipt import config_from, describe_labels
from ..folder.records import Written
from ..folder.rewrite import rewrite_folder
from ..records import (
    MULTI_LABEL,
    ORIGIN_CHECKPOINT,
    AnyPath,
    LabelSource,
    Numbers,
    Options,
    Size,
    options_from,
)

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")


def describe(
    folder: AnyPath,
    *,
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
) -> Written:
    """Changes labels, pre-processing, license and the card of a converted folder; its weights stay untouched.

    The folder is what a conversion with these options would have been, byte for byte, and is exchanged as a
    whole. What is not given stays as it is, and so do other files in the folder, but for a signature, which
    is of what was said before and is taken away.

    Args:
        folder: one that was converted, here.
        labels, multi_label, mean, std, input_size, interpolation, crop_pct: see ``convert``.
        license, license_name, license_link, datasets, base_model, metrics, card_sections: see there.

    Raises:
        FolderError: its files and its receipt disagree, or it can't be written.
        LabelError: there are not as many names as classes, or they can't be read.
        ClaimError: what is stated is not of its proper form.

    Examples:
        >>> described = dc.describe("densenet121", mean=0.5, std=0.5, input_size=320)
        >>> described.receipt["preprocessing"]["input_size"]
        [3, 320, 320]
    """
    options = options_from(locals())
    card = stated_card(options)
    phases.info("reading %s", folder)
    written = open_folder(Path(folder))
    content = written.receipt
    if content["assumptions"] is None or "added_to" in content:
        raise FolderError(
            f"{folder} was converted by an earlier version, or is what was added to somebody's repository. "
            "Convert again, with these options."
        )
    names, described = _labels(written, options)
    stated = stated_preprocessing(options, config_from(content["config"]))
    fields, origins = with_stated(content["preprocessing"], content["preprocessing_origin"], stated)
    _say_what_stays(written, card)
    changed = {
        "labels": described,
        "preprocessing": fields,
        "preprocessing_origin": origins,
        "card": merged_card(content["card"], card),
    }
    phases.info("writing %s", folder)
    gone = " and ".join(name for name in SIGNATURE_FILES if (written.folder / name).exists())
    new = rewrite_folder(written, {**content, **changed}, names)
    if gone:
        log.warning("%s: %s signed what it said before, and went. Sign it again.", folder, gone)
    return new


def _labels(written: Written, options: Options) -> tuple[Sequence[str] | None, dict[str, Any]]:
    """Returns the names of the classes, and the receipt's field on them."""
    before, config = written.receipt["labels"], config_from(written.receipt["config"])
    if options.labels == ORIGIN_CHECKPOINT:
        raise LabelError(
            "The checkpoint is not at hand when a folder is described. Convert again with "
            f"`labels={ORIGIN_CHECKPOINT!r}`, or name a file of labels."
        )
    if options.labels is None:
        problem = MULTI_LABEL if options.multi_label else before["problem_type"]
        return label_names(written), {**before, "problem_type": problem}
    origin = written.receipt["source"]["origin"]
    many, implied = options.multi_label, before["problem_type"]
    chosen = choose_labels(origin, config, asked=options.labels, multi_label=many, implied=implied)
    return chosen.names, describe_labels(chosen)


def _say_what_stays(written: Written, card: dict[str, Any]) -> None:
    """Logs which files are left as they are: other ones, and a card that its owner edited."""
    if others := say_uncovered([path.name for path in written.folder.iterdir()], written.receipt):
        log.info("%s: %s", written.folder, others)
    own = written.folder / CARD
    if not own.exists() or not card_was_edited(written.folder):
        return
    log.warning("%s was edited: it is left as it is.", own)
    if "license" in card and license_of(own) != card["license"]:
        log.warning("Write `license: %s` into its front matter.", card["license"])
