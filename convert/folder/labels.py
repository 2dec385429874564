"""What the classes are called: known of torchvision's own weights, otherwise as the user says, or not."""

from __future__ import annotations

import os
from pathlib import Path

from densenet_convert.densenet import DenseNetConfig

from ..claims import Labels
from ..errors import LabelError, quoted
from ..records import IMAGENET, MULTI_LABEL, ORIGIN_BESIDE, ORIGIN_FILE, ORIGIN_IMAGENET
from ..torchvision_weights import imagenet_names


def choose_labels(
    origin: str,
    config: DenseNetConfig,
    *,
    asked: str | os.PathLike[str] | None = None,
    multi_label: bool = False,
    implied: str | None = None,
    beside: tuple[str, ...] | None = None,
) -> Labels:
    """The names of the classes, and how they are to be read.

    Args:
        origin: the checkpoint's.
        config: what it is.
        asked: ``"imagenet1k"``, or a file with one name a line; None for torchvision's where the weights are
            its own, and for none otherwise.
        multi_label: whether several classes may hold at once.
        implied: the problem type that the source, or its layout, says.
        beside: names that a file beside the source tells.

    Raises:
        LabelError: the file can't be read, or there are not as many names as classes.
    """
    problem = MULTI_LABEL if multi_label else implied
    if asked is None and origin == ORIGIN_IMAGENET:
        asked = IMAGENET
    if asked is None and beside is not None:
        return Labels(beside, ORIGIN_BESIDE, problem)
    if asked is None:
        return Labels(problem_type=problem)
    if asked == IMAGENET:
        names, whose = imagenet_names(), IMAGENET
    else:
        names, whose = _read(Path(asked)), ORIGIN_FILE
    if len(names) != config.num_classes:
        raise LabelError(
            f"{quoted(str(asked))} has {len(names):,} names, expected {config.num_classes:,}, "
            "one for each class of the network."
        )
    return Labels(names, whose, problem)


def _read(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise LabelError(
            f"{quoted(str(path))} can't be read: {reason}. "
            f"Name {IMAGENET}, or a text file with one name a line."
        ) from error
    names = tuple(line.strip() for line in lines)
    if "" in names:
        raise LabelError(
            f"{quoted(str(path))} has an empty line, {names.index('') + 1}, expected a name in each."
        )
    return names
