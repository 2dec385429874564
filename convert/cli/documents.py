"""The JSON documents that commands print; ``schemas/output.schema.json`` has their form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..errors import ConvertError, ParityError, explanation
from ..folder.wording import count_tensors
from .keywords import as_command

if TYPE_CHECKING:
    from ..api.doctor import Examination
    from ..api.exported import Exported
    from ..api.inspected import Inspection
    from ..api.many import Outcome
    from ..folder.signed import Signed
    from ..hub.records import Published
    from ..proof.selftest.counting import SelfTest

SCHEMA_VERSION = 1
# What an inspection says of a receipt.
RECEIPT_FIELDS = ("converter", "source", "preprocessing", "labels", "card", "assumptions", "verification")


def receipt_as_json(receipt: Mapping[str, Any], *, status: str, folder: str) -> dict[str, Any]:
    """The receipt without its list of tensors, which is in the folder."""
    fields = (
        "source",
        "config",
        "preprocessing",
        "preprocessing_origin",
        "card",
        "assumptions",
        "remarks",
        "beside",
        "rewrites",
        "files",
        "verification",
    )
    document = {key: receipt[key] for key in fields}
    if receipt.get("signed_by"):
        document["signed_by"] = receipt["signed_by"]
    return {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "folder": folder,
        **document,
        "tensors": count_tensors(receipt["tensors"], receipt["dropped"]),
    }


def published_as_json(published: Published, *, folder: str) -> dict[str, Any]:
    """All of it."""
    status = "published" if published.changed else "unchanged"
    return {
        "schema_version": SCHEMA_VERSION,
        "status": status if published.commit else "dry-run",
        "folder": folder,
        **asdict(published),
    }


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """Returns the document of one of several sources."""
    return {"schema_version": SCHEMA_VERSION, **_plain(outcome)}


def outcomes_as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All of them, as they were done."""
    return {"schema_version": SCHEMA_VERSION, "conversions": list(map(_plain, outcomes))}


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {**asdict(outcome), "folder": str(outcome.folder)}


def exported_as_json(file: Exported, *, status: str, folder: str) -> dict[str, Any]:
    """The file, and what was proven of the network in it; null where it holds tensors alone."""
    proof = None if file.proof is None else asdict(file.proof)
    document = {"status": status, "folder": folder, "path": str(file.path), "proof": proof}
    return {"schema_version": SCHEMA_VERSION, **document}


def signed_as_json(signed: Signed, *, folder: str) -> dict[str, Any]:
    """Who signed, and what."""
    status = "skipped" if signed.skipped else "signed"
    said = {"signed_by": signed.signed_by, "files": list(signed.files)}
    return {"schema_version": SCHEMA_VERSION, "status": status, "folder": folder, **said}


def inspection_as_json(found: Inspection) -> dict[str, Any]:
    """All of it, and of a receipt what is not of single tensors; a number that JSON can't hold is text."""
    metadata = {
        key: str(value) if isinstance(value, float) and not isfinite(value) else value
        for key, value in found.metadata.items()
    }
    receipt = found.receipt and {key: found.receipt[key] for key in RECEIPT_FIELDS}
    beside = {"path": str(found.path), "metadata": metadata, "receipt": receipt}
    return {"schema_version": SCHEMA_VERSION, **asdict(found), **beside}


def inspections_as_json(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The documents of several files, and of what went wrong with some."""
    return {"schema_version": SCHEMA_VERSION, "inspections": found}


def examination_as_json(found: Examination) -> dict[str, Any]:
    """All of it."""
    status = "error" if found.problems else "ready"
    return {"schema_version": SCHEMA_VERSION, "status": status, **asdict(found)}


def self_test_as_json(tested: SelfTest) -> dict[str, Any]:
    """All of it, with exact counts."""
    status = "proven" if tested.holds else "error"
    return {"schema_version": SCHEMA_VERSION, "status": status, **asdict(tested)}


def error_as_json(error: Exception, **where: str) -> dict[str, Any]:
    """Returns the document of an error, with the ``folder`` or ``path`` that it belongs to."""
    details: dict[str, Any] = {
        "type": type(error).__name__,
        "message": as_command(explanation(error)),
        "exit_code": error.exit_code if isinstance(error, ConvertError) else 1,
    }
    if isinstance(error, ParityError):
        details["where"] = error.where
        # JSON has no infinity, which stands for another shape or another layer, and no NaN.
        details["largest_difference"] = error.largest if isfinite(error.largest) else None
    return {"schema_version": SCHEMA_VERSION, "status": "error", **where, "error": details}
