"""The shipped schemas, held more strictly than they are shipped: no field may be missing from them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest


def shipped(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((files("densenet_convert") / "schemas" / name).read_text())
    return content


def validate(document: Any, definition: str | None = None) -> None:
    """Holds a document against ``conversion.schema.json``, or a definition of ``output.schema.json``."""
    jsonschema, referencing = pytest.importorskip("jsonschema"), pytest.importorskip("referencing")
    schemas = [_closed(shipped(name)) for name in ("conversion.schema.json", "output.schema.json")]
    registry = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas
    )
    name = schemas[0]["$id"] if definition is None else f"{schemas[1]['$id']}#/$defs/{definition}"
    jsonschema.Draft202012Validator({"$ref": name}, registry=registry).validate(document)


def _closed(schema: Any) -> Any:
    """The schema with no room for a field that it does not describe."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **closed} if "properties" in schema else closed
