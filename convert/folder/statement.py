"""verification.intoto.json: what was verified of a folder's files, in words that other tools read.

An in-toto Statement v1 (https://github.com/in-toto/attestation, spec/v1/statement.md), whose predicate is
the attestation framework's test result v0.1 (spec/predicates/test-result.md).  It is made of the receipt and
of digests alone: the same folder gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import SignatureError, first_few
from . import receipt
from .files import STATEMENT

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
PASSED = "PASSED"
# What the receipt says of the proof, and the statement repeats.
VERIFIED = (
    "reference",
    "library",
    "own_network",
    "device",
    "dtype",
    "inputs",
    "compared",
    "largest_difference",
    "every_input",
)


def make_statement(content: Mapping[str, Any], digests: Mapping[str, str]) -> bytes:
    """Returns the statement about a folder.

    Args:
        content: the receipt's.
        digests: SHA-256 of each file that is to be signed, the receipt and the card among them.
    """
    statement = {
        "_type": TYPE,
        "subject": _subject(digests),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": PASSED,
            "configuration": _configuration(content, digests),
            "passedTests": sorted(content["verification"]["compared"]),
            "warnedTests": [],
            "failedTests": [],
        },
    }
    return receipt.canonical_json(statement).encode()


def check_statement(data: bytes, content: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """Checks that a statement, whose signature was checked, is about this folder.

    Raises:
        SignatureError: it is of another form, of other files or of another source.
    """
    problems = []
    try:
        found = json.loads(data)
        predicate = found["predicate"]
        known = {one.get("name"): one.get("digest", {}) for one in predicate["configuration"]}
        compared = {
            "_type": (found["_type"], TYPE),
            "predicateType": (found["predicateType"], PREDICATE_TYPE),
            "subject": (found["subject"], _subject(digests)),
            "result": (predicate["result"], PASSED),
            "source": (known.get("source"), {"sha256": content["source"]["sha256"]}),
        }
        problems = [name for name, (is_there, expected) in compared.items() if is_there != expected]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        problems = ["form"]
    if problems:
        raise SignatureError(
            f"{STATEMENT} is not about these files: it has another {first_few(problems)}. Get the folder "
            "again from where it came from, or sign it again."
        )


def _subject(digests: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]


def _configuration(content: Mapping[str, Any], digests: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns what was tested, by what, and how: resource descriptors of in-toto."""
    source, proof, converter = content["source"], content["verification"], content["converter"]
    origin = {name: source[name] for name in ("origin", "seed", "size", "format", "layout")}
    return [
        {"name": "source", "digest": {"sha256": source["sha256"]}, "annotations": origin},
        {"name": converter["name"], "uri": f"pkg:pypi/{converter['name']}@{converter['version']}"},
        {
            "name": receipt.FILE_NAME,
            "digest": {"sha256": digests[receipt.FILE_NAME]},
            "annotations": {name: proof[name] for name in VERIFIED if name in proof},
        },
    ]
