"""The fields of a model card that no proof tells: license, data, base model, metrics, its owner's words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import ClaimError, FolderError, quoted
from ..records import AnyPath, Options
from .preprocessing import is_number

OTHER_LICENSE = "other"
LONGEST_TEXT = 500
MOST_BYTES = 1 << 16
METRIC = re.compile(r"([\w .+-]+)=([^@]+)(?:@(.+))?", re.ASCII)


@cache
def license_identifiers() -> tuple[str, ...]:
    """The Hub's own list, of the date and from the place that licenses.json names."""
    content = json.loads((files("densenet_convert.folder") / "licenses.json").read_bytes())
    return tuple(content["identifiers"])


def license_identifier(text: str) -> str:
    """Returns the Hub's identifier of a license: ``"mit"`` for ``"MIT"``.

    Raises:
        ClaimError: the Hub has none of this name.
    """
    known, found = license_identifiers(), text.strip().lower()
    if found in known:
        return found
    near = get_close_matches(found, known, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ClaimError(
        f"The license is {quoted(text)!r}, expected an identifier of the Hub's list.{hint} For one that is "
        f"not on it: `license={OTHER_LICENSE!r}, license_name='NAME', license_link='ADDRESS'`."
    )


def stated_card(options: Options) -> dict[str, Any]:
    """Returns the fields of the card that the user states.

    Raises:
        ClaimError: one is not of the form that it must have, or a section can't be read.
    """
    if options.license_name or options.license_link:
        _require_other(options.license)
    stated: dict[str, Any] = {}
    if options.license is not None:
        stated["license"] = license_identifier(options.license)
    for name in ("license_name", "license_link", "base_model"):
        if (value := getattr(options, name)) is not None:
            stated[name] = _sound_text(name, value)
    if options.datasets:
        stated["datasets"] = [_sound_text("dataset", one) for one in _listed(options.datasets)]
    if options.metrics:
        stated["metrics"] = [_metric(one, stated.get("datasets", [])) for one in _listed(options.metrics)]
    if options.card_sections:
        stated["sections"] = [_section(Path(one)) for one in _listed(options.card_sections)]
    return stated


def merged_card(before: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is known already, and in its place what is stated; a license has its name with it."""
    kept = dict(before)
    if "license" in stated:
        kept.pop("license_name", None)
        kept.pop("license_link", None)
    return {**kept, **stated}


def card_fields_of(path: Path) -> dict[str, Any]:
    """Returns those fields that the front matter of a card on disk tells, each of its proper form.

    Raises:
        FolderError: it can't be read.
    """
    data = _front_matter(path)
    found: dict[str, Any] = {}
    license_text = _only(data.get("license"))
    if license_text and license_text.strip().lower() in license_identifiers():
        found["license"] = license_text.strip().lower()
        if found["license"] == OTHER_LICENSE:
            links = {name: _only(data.get(name)) for name in ("license_name", "license_link")}
            found.update({name: text for name, text in links.items() if text})
    datasets = data.get("datasets")
    datasets = [datasets] if isinstance(datasets, str) else datasets
    if isinstance(datasets, list) and datasets and all(map(_is_sound, datasets)):
        found["datasets"] = datasets
    if base := _only(data.get("base_model")):
        found["base_model"] = base
    if metrics := [one for result in data.get("eval_results") or [] if (one := _measured(result))]:
        found["metrics"] = metrics
    return found


def license_of(path: Path) -> str | None:
    """Returns the licence that a card on disk names; None if it names none, or is not there.

    Raises:
        FolderError: it can't be read.
    """
    return _only(_front_matter(path).get("license"))


def _front_matter(path: Path) -> Any:
    """Returns the metadata of a card; empty where there is no card."""
    from huggingface_hub import ModelCard

    try:
        return ModelCard(path.read_text(encoding="utf-8")).data if path.exists() else {}
    # YAML's errors are of a library that is the Hub client's own business.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise FolderError(f"{path} can't be read as a model card: {quoted(reason)}. Mend it.") from error


def _only(value: Any) -> str | None:
    """Returns a text, or the only one in a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if _is_sound(value) else None


def _measured(result: Any) -> dict[str, Any] | None:
    """Returns a metric as a card's model-index has it, as this converter writes it."""
    fields = {"type": result.metric_type, "dataset": result.dataset_type}
    if not all(map(_is_sound, fields.values())) or not is_number(result.metric_value):
        return None
    return {**fields, "value": result.metric_value}


def _require_other(license_name: str | None) -> None:
    if license_name is None or license_name.strip().lower() != OTHER_LICENSE:
        raise ClaimError(
            f"`license_name=...` and `license_link=...` go with `license={OTHER_LICENSE!r}`, and the license "
            f"is {quoted(str(license_name))}. Leave them out, or name that."
        )


def _listed(value: Sequence[Any] | str) -> Iterable[Any]:
    return [value] if isinstance(value, str | Path) else value


def _is_sound(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and value.isprintable()


def _sound_text(name: str, value: Any) -> str:
    if not _is_sound(value):
        raise ClaimError(
            f"{name} is {quoted(str(value))!r}, expected a line of text of up to {LONGEST_TEXT} letters."
        )
    return str(value)


def _metric(text: Any, datasets: Sequence[str]) -> dict[str, Any]:
    """``{"type": "accuracy", "value": 0.91, "dataset": "user/name"}`` of ``"accuracy=0.91@user/name"``."""
    match = METRIC.fullmatch(text) if _is_sound(text) else None
    try:
        value = float(match[2]) if match else float("nan")
    except ValueError:
        value = float("nan")
    if match is None or not is_number(value):
        raise ClaimError(f"A metric is {quoted(str(text))!r}, expected NAME=NUMBER or NAME=NUMBER@DATASET.")
    if match[3] is None and len(datasets) != 1:
        raise ClaimError(
            f"The metric {quoted(text)} does not say on which data it was measured: write "
            f"{quoted(text)}@DATASET, or name one of `datasets=...`."
        )
    return {"type": match[1].strip(), "value": value, "dataset": match[3] or datasets[0]}


def _section(path: AnyPath) -> str:
    """Returns a part of a card, which begins with a heading: the file's own, or the file's name."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig").replace("\r\n", "\n").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClaimError(f"{path} can't be read: {reason}. Name a file of Markdown, in UTF-8.") from error
    if not text or len(data) > MOST_BYTES:
        raise ClaimError(
            f"{path} has {len(data):,} bytes or more, expected text of 1 to {MOST_BYTES:,} bytes."
        )
    heading, _, rest = text.partition("\n")
    if not heading.startswith("#"):
        heading, rest = Path(path).stem.replace("-", " ").replace("_", " ").capitalize(), text
    return f"## {heading.lstrip('#').strip()}\n\n{rest.strip()}"
