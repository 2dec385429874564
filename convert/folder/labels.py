"""Finds the names of the classes: known for torchvision's own weights, otherwise as the user says."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densenet_convert.densenet import DenseNetConfig

from ..claims import Labels
from ..errors import LabelError, first_few, quoted
from ..formats.class_names import by_number, is_label
from ..records import (
    IMAGENET,
    MULTI_LABEL,
    ORIGIN_BESIDE,
    ORIGIN_CHECKPOINT,
    ORIGIN_FILE,
    ORIGIN_IMAGENET,
    ORIGIN_LIST,
    LabelSource,
)
from ..torchvision_weights import imagenet_names

KINDS = (
    f"Name {IMAGENET}, {ORIGIN_CHECKPOINT}, or a file: text with one name a line, a list or an object in "
    "JSON, or a CSV with a column name or label."
)
COLUMNS = ("name", "label")
# Columns that may number the classes.
NUMBERS = ("index", "idx", "id", "class_id", "label")
MOST_BYTES = 1 << 24


def choose_labels(
    origin: str,
    config: DenseNetConfig,
    *,
    asked: LabelSource | None = None,
    multi_label: bool = False,
    implied: str | None = None,
    beside: tuple[str, ...] | None = None,
    held: Mapping[str, tuple[str, ...]] | None = None,
) -> Labels:
    """The names of the classes, and how they are to be read.

    Args:
        origin: the checkpoint's.
        config: what it is.
        asked: the names, ``"imagenet1k"``, ``"checkpoint"``, or a file; None for torchvision's where the
            weights are its own, and for none otherwise.
        multi_label: whether several classes may hold at once.
        implied: the problem type that the source, or its layout, says.
        beside: names that a file beside the source tells.
        held: names that the source itself holds, by the keys that lead to them.

    Raises:
        LabelError: they can't be read, or there are not as many names as classes.
    """
    problem = MULTI_LABEL if multi_label else implied
    if asked is None and origin == ORIGIN_IMAGENET:
        asked = IMAGENET
    if asked is None and beside is not None:
        return Labels(beside, ORIGIN_BESIDE, problem)
    if asked is None:
        return Labels(problem_type=problem)
    names, whose = _names_of(asked, held or {})
    if len(names) != config.num_classes:
        shown = quoted(str(asked)) if isinstance(asked, str | os.PathLike) else "The list"
        raise LabelError(
            f"{shown} has {len(names):,} names, expected {config.num_classes:,}, one for each class of the "
            "network."
        )
    return Labels(names, whose, problem)


def is_named_file(asked: LabelSource | None) -> bool:
    """Whether names of classes are those of a file, which has a path."""
    named = isinstance(asked, str | os.PathLike)
    return named and asked not in (IMAGENET, ORIGIN_CHECKPOINT)


def _names_of(asked: LabelSource, held: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, ...], str]:
    """Returns the names, and whose they are."""
    if asked == IMAGENET:
        return imagenet_names(), IMAGENET
    if asked == ORIGIN_CHECKPOINT:
        return _names_held(held), ORIGIN_CHECKPOINT
    if isinstance(asked, str | os.PathLike):
        return _read(Path(asked)), ORIGIN_FILE
    return _checked(list(asked), "The list"), ORIGIN_LIST


def _names_held(held: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if not held:
        raise LabelError(
            "The checkpoint holds no names of classes: no list under classes, class_names or the like, and "
            f"no class_to_idx, beside its weights or in its settings. {KINDS}"
        )
    if len(set(held.values())) > 1:
        raise LabelError(
            f"The checkpoint holds names of classes that differ, under {first_few(list(held))}. Put those "
            "that hold into a file, and name that."
        )
    return next(iter(held.values()))


def _read(path: Path) -> tuple[str, ...]:
    shown = quoted(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise LabelError(f"{shown} can't be read: {reason}. {KINDS}") from error
    if len(data) > MOST_BYTES:
        raise LabelError(f"{shown} has more than {MOST_BYTES:,} bytes, which no names have. {KINDS}")
    if path.suffix.lower() == ".json":
        return _from_json(text, shown)
    if path.suffix.lower() in (".csv", ".tsv"):
        return _from_table(text, shown)
    names = [line.strip() for line in text.splitlines()]
    if "" in names:
        raise LabelError(f"{shown} has an empty line, {names.index('') + 1}, expected a name in each.")
    return _checked(names, shown)


def _from_json(text: str, shown: str) -> tuple[str, ...]:
    """A list of names, or an object of names and numbers, either way round."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{shown} holds no JSON: {quoted(str(error))}. {KINDS}") from error
    if isinstance(content, list):
        return _checked(content, shown)
    found = by_number(list(content.items())) if isinstance(content, dict) else None
    if found is None:
        raise LabelError(
            f"{shown} holds neither a list of names nor an object that gives each name a number, from 0 on. "
            f"{KINDS}"
        )
    return found


def _from_table(text: str, shown: str) -> tuple[str, ...]:
    """The column ``name`` or ``label``, in the order of a column of numbers, where there is one."""
    head = text.split("\n", 1)[0]
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count)))
    except csv.Error as error:
        raise LabelError(f"{shown} is no CSV: {error}. {KINDS}") from error
    rows = [[cell.strip() for cell in line] for line in lines if line]
    header = [cell.lower() for cell in rows[0]] if rows else []
    column = next((name for name in COLUMNS if name in header), None)
    if column is None:
        raise LabelError(
            f"{shown} has no column name or label, but {first_few(header, 8) or 'none'}. Give its first line "
            "one of these words."
        )
    if any(len(row) != len(header) for row in rows):
        raise LabelError(f"{shown} has lines of other than {len(header)} cells. Mend it.")
    table = {name: [row[at] for row in rows[1:]] for at, name in enumerate(header)}
    return _checked(_in_order(table, column, shown), shown)


def _in_order(table: Mapping[str, list[str]], column: str, shown: str) -> list[str]:
    names = table[column]
    for name in NUMBERS:
        numbers = table.get(name, []) if name != column else []
        if not numbers or not all(re.fullmatch(r"\d{1,9}", number, re.ASCII) for number in numbers):
            continue
        order = [int(number) for number in numbers]
        if sorted(order) != list(range(min(order), min(order) + len(order))):
            raise LabelError(
                f"{shown} numbers its classes in the column {name} with gaps or twice. Number them from 0 on."
            )
        return [names[order.index(number)] for number in sorted(order)]
    return names


def _checked(names: Sequence[Any], shown: str) -> tuple[str, ...]:
    for number, name in enumerate(names, 1):
        if not is_label(name):
            raise LabelError(
                f"{shown} has {quoted(repr(name), 60)} as name {number:,}, expected text that can be printed."
            )
    return tuple(names)
