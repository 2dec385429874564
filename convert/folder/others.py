"""Files that lie beside ours: those that no receipt covers, and those that loaders would take for ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from densenet_convert.densenet.config_file import FILE_NAME as CONFIG

from ..errors import FolderError, first_few
from . import receipt
from .files import ADDED_BY_HUB, SIGNATURE_FILES, WEIGHTS, file_digests

# transformers with peft takes an adapter, and whoever reads all parts of a network an index and its parts.
INSTEAD_OF_WEIGHTS = (f"{WEIGHTS}.index.json", "model-*-of-*", "adapter_config.json")
# transformers looks for these before it reads in config.json how images are prepared.
INSTEAD_OF_CONFIG = ("preprocessor_config.json", "processor_config.json")


def uncovered(names: Iterable[str], content: Mapping[str, Any]) -> list[str]:
    """Returns, in order, those names of a folder or a repository that its receipt does not cover."""
    found = set(names)
    known = {receipt.FILE_NAME, *ADDED_BY_HUB, *file_digests(content)}
    if found >= set(SIGNATURE_FILES):  # one of them alone is somebody else's
        known |= set(SIGNATURE_FILES)
    return sorted(found - known)


def say_uncovered(names: Iterable[str], content: Mapping[str, Any]) -> str:
    """Returns a sentence about what a receipt does not cover; empty where it covers everything."""
    others = uncovered(names, content)
    if not others:
        return ""
    return f"{first_few(others, 8)} {'is' if len(others) == 1 else 'are'} not covered by {receipt.FILE_NAME}."


def require_ours_taken(where: str, names: Iterable[str], content: Mapping[str, Any], folder: Path) -> None:
    """Refuses what other loaders would take in place of what a receipt covers.

    Args:
        where: what the folder, or the repository, is called.
        names: all that it holds.
        content: the receipt's.
        folder: has the config.json, where it is not the receipt's own.

    Raises:
        FolderError: it names what is in the way.
    """
    names, covered = list(names), file_digests(content)
    require_weights_taken(where, names)
    if CONFIG in covered:
        _refuse(where, _matching(names, INSTEAD_OF_CONFIG), CONFIG)
    elif code := sorted(_code_named_in(folder / CONFIG) & {*names, _ELSEWHERE}):
        named = f"{first_few(code)}, which auto_map in {CONFIG} names"
        _refuse(where, [named], WEIGHTS, shown=named)


def require_weights_taken(where: str, names: Iterable[str]) -> None:
    """As ``require_ours_taken``, of names alone: whether a loader would take other weights."""
    _refuse(where, _matching(names, INSTEAD_OF_WEIGHTS), WEIGHTS)


def _refuse(where: str, found: list[str], ours: str, *, shown: str | None = None) -> None:
    if found:
        raise FolderError(
            f"{where} holds {shown or first_few(found)}: other loaders would take that in place of {ours}, "
            "which was proven. Take it away."
        )


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    return sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


# Stands for the code of another repository, which auto_map may name as well.
_ELSEWHERE = "code of another repository"


def _code_named_in(path: Path) -> set[str]:
    """Returns the files of Python that ``auto_map`` of a config names; none where it can't be read."""
    try:
        found = json.loads(path.read_bytes()).get("auto_map")
    except (OSError, ValueError, AttributeError, RecursionError):
        return set()
    return {_file_of(text) for text in _texts(found)}


def _file_of(reference: str) -> str:
    """``"modeling.py"`` for ``"modeling.Network"``."""
    return _ELSEWHERE if "--" in reference else f"{reference.split('.')[0]}.py"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, str | list):
                yield from _texts(part)
