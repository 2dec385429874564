"""conversion.json: what was converted, from what, and what was verified.

Canonical JSON, so that equal receipts are equal bytes: keys sorted, two spaces of
indent.  It ends with the digest of itself without that last line.  Of its fields only
``verification`` depends on the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from math import isfinite
from typing import Any

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config_file import as_json

from ..claims import Assumption, Claims, Labels
from ..errors import FolderError, quoted
from ..records import Renamed, Rewritten, Trace
from ..results import Coverage, EveryInput, OwnParity, Proof
from ..tensors import dtype_name, tensor_sha256

SCHEMA_VERSION = 3
# Fields that receipts of version 1 did not have, with the values that held for all of them.
SINCE_1 = {"labels": {"origin": None, "sha256": None, "problem_type": None}, "preprocessing": {}}
# Fields that receipts up to version 2 did not have; their assumptions are not known.
SINCE_2: dict[str, Any] = {"assumptions": None, "remarks": [], "beside": {}}
# Fields that the first receipts of version 3 did not have.
SINCE_3: dict[str, Any] = {"rewrites": [], "preprocessing_origin": {}, "card": {}}
FILE_NAME = "conversion.json"
CONVERTER = "densenet-convert"
SEAL = "self_sha256"


def describe_conversion(renamed: Renamed, config: DenseNetConfig) -> dict[str, Any]:
    """Returns what the source's tensors and its reading tell: the same on every machine."""
    dropped = renamed.reading.explanation.dropped
    return {
        "schema_version": SCHEMA_VERSION,
        "converter": {"name": CONVERTER, "version": version(CONVERTER)},
        "source": _describe_source(renamed),
        "config": as_json(config),
        "tensors": _describe_tensors(renamed, config),
        "dropped": [{"source_name": name, "because": why} for name, why in dropped.items()],
        "rewrites": [_describe_step(step) for step in renamed.checkpoint.rewrites],
    }


def _describe_step(step: Rewritten) -> dict[str, Any]:
    """Returns an entry of the field ``rewrites``."""
    sources = [{"source_name": name, "sha256": digest} for name, digest in step.sources]
    transform = {} if step.transform is None else {"transform": dict(step.transform)}
    return {"step": step.name, "sources": sources, "name": step.target, "sha256": step.sha256, **transform}


def _describe_source(renamed: Renamed) -> dict[str, Any]:
    source, reading = renamed.checkpoint, renamed.reading
    return {
        "sha256": source.sha256,
        "size": source.size,
        "format": source.format,
        "container": source.container,
        "prefix": reading.prefix,
        "layout": reading.layout.name,
        "origin": source.origin,
        "seed": source.seed,
        "norm_eps": source.norm_eps,
    }


def _describe_tensors(renamed: Renamed, config: DenseNetConfig) -> list[dict[str, Any]]:
    """Returns one entry for each tensor, in the network's own order."""
    traces = {trace.name: trace for trace in renamed.trail}
    return [
        {
            "name": name,
            "source_name": traces[name].source_name,
            "shape": list(renamed.tensors[name].shape),
            "dtype": dtype_name(renamed.tensors[name]),
            "sha256": _digest(renamed, traces[name]),
            "transform": describe_axes(traces[name].axes),
        }
        for name in config.tensor_shapes()
    ]


def describe_claims(claims: Claims) -> dict[str, Any]:
    """Returns what is said of the network and not proven."""
    return {
        "labels": describe_labels(claims.labels),
        "preprocessing": dict(claims.preprocessing),
        "preprocessing_origin": dict(claims.preprocessing_origin),
        "card": dict(claims.card),
        "assumptions": describe_assumptions(claims.assumptions),
        "remarks": [
            {"kind": one.kind, "text": one.text, **({"names": list(one.names)} if one.names else {})}
            for one in claims.remarks
        ],
        "beside": dict(claims.files),
    }


def describe_assumptions(assumptions: Sequence[Assumption]) -> list[dict[str, str]]:
    """The field ``assumptions``."""
    return [asdict(one) for one in assumptions]


def describe_labels(labels: Labels) -> dict[str, Any]:
    """The field ``labels``; the names themselves are in config.json."""
    digest = None if labels.names is None else labels_sha256(labels.names)
    return {"origin": labels.origin, "sha256": digest, "problem_type": labels.problem_type}


def labels_sha256(names: Sequence[str]) -> str:
    """SHA-256 of the names, as a list in JSON without a space."""
    text = json.dumps(list(names), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def describe_axes(axes: Sequence[int] | None) -> dict[str, list[int]] | None:
    """The field ``transform`` of a tensor: how its axes were permuted."""
    return None if axes is None else {"permute": list(axes)}


def axes_from(transform: Mapping[str, Any] | None) -> tuple[int, ...] | None:
    """The inverse of ``describe_axes``."""
    return None if transform is None else tuple(transform["permute"])


def _digest(renamed: Renamed, trace: Trace) -> str:
    """Returns the digest of the source's own bytes, taken when it was read, if the tensor still has them."""
    if trace.source_name is None or trace.axes is not None:
        return tensor_sha256(renamed.tensors[trace.name])
    return renamed.checkpoint.digests[trace.source_name]


def describe_proof(proof: Proof) -> dict[str, Any]:
    """The field ``verification``, without ``files``: digests of files whose bytes depend on the machine."""
    asked: dict[str, Any] = {}
    if proof.measured:
        # Infinite where half precision overflows, which JSON can't say.
        asked["measured"] = [
            {k: v if isinstance(v, str) or isfinite(v) else None for k, v in asdict(one).items()}
            for one in proof.measured
        ]
    if proof.library is not None:
        asked["library"] = dict(zip(("name", "relative_difference"), proof.library, strict=True))
    if proof.own is not None:
        asked["own_network"] = _describe_own(proof.own)
    if proof.outputs is not None:
        asked["outputs"] = asdict(proof.outputs)
    if proof.images is not None:
        asked["images"] = asdict(proof.images)
    if proof.golden is not None:
        asked["golden"] = {"share_of_bound": proof.golden}
    return {
        "device": proof.device,
        "dtype": proof.dtype,
        "reference": proof.reference,
        "inputs": _describe_inputs(proof.inputs),
        "compared": dict(proof.compared),
        "largest_difference": dict(proof.largest),
        "every_input": _describe_every_input(proof.every_input),
        **_describe_seen_of(proof),
        **asked,
        **proof.environment,
    }


def _describe_inputs(inputs: Sequence[tuple[str, Sequence[int]]]) -> list[dict[str, Any]]:
    return [{"mode": mode, "shape": list(shape)} for mode, shape in inputs]


def _describe_own(own: OwnParity) -> dict[str, Any]:
    """The field ``own_network``."""
    return {
        "name": own.name,
        "sha256": own.sha256,
        "output": own.output,
        "around": list(own.around),
        "inputs": _describe_inputs(own.inputs),
        "refused": list(own.refused),
        "every_input": _describe_every_input(own.every_input),
        "largest_difference": own.largest,
        "bound": own.bound,
    }


def _describe_every_input(known: EveryInput) -> dict[str, str]:
    """The field ``every_input``; without ``because`` where nothing is unknown."""
    return {name: value for name, value in asdict(known).items() if value is not None}


def _describe_seen_of(proof: Proof) -> dict[str, Any]:
    """The field ``coverage``, where the numbers alone were compared."""
    if proof.parameters is None or proof.statistics is None or proof.reaching is None:
        return {}
    return {
        "coverage": {
            "parameters": _describe_seen(proof.parameters),
            "running_statistics": _describe_seen(proof.statistics),
            "reaching_logits": _describe_coverage(proof.reaching),
            "dead_channels": {name: list(channels) for name, channels in proof.dead.items()},
        }
    }


def _describe_coverage(coverage: Coverage) -> dict[str, Any]:
    name, share = coverage.least
    return {"share": coverage.total, "least": {"name": name, "share": share}}


def _describe_seen(coverage: Coverage) -> dict[str, Any]:
    unseen = {name: share for name, share in coverage.shares.items() if share < 1}
    return {**_describe_coverage(coverage), "not_whole": unseen}


def config_from(fields: Mapping[str, Any]) -> DenseNetConfig:
    """The inverse of ``as_json``."""
    return DenseNetConfig(**fields)


def canonical_json(content: Mapping[str, Any]) -> str:
    """Equal contents give equal text."""
    return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def seal(receipt: Mapping[str, Any]) -> str:
    """The text of conversion.json."""
    body = canonical_json(receipt)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return body.removesuffix("\n}\n") + f',\n  "{SEAL}": "{digest}"\n}}\n'


def unseal(text: str) -> dict[str, Any]:
    """The receipt in ``text``; one of an older version has the fields of today's.

    Raises:
        FolderError: it is no receipt, was changed, or is of a version not known here.
    """
    advice = "Get the folder again from where it came from, or convert again."
    try:
        receipt = json.loads(text)
        claimed = receipt.pop(SEAL)
        version_read = receipt["schema_version"]
        known = type(version_read) is int and 1 <= version_read <= SCHEMA_VERSION
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FolderError(f"{FILE_NAME} is no receipt of this converter. {advice}") from error
    if not known:
        raise FolderError(
            f"{FILE_NAME} has schema_version {quoted(str(version_read))}, expected {SCHEMA_VERSION} or less. "
            "Install a newer densenet-convert."
        )
    if seal(receipt) != text:
        raise FolderError(
            f"{FILE_NAME} was changed: it no longer has the digest {quoted(str(claimed))} of itself. {advice}"
        )
    if version_read == 1:
        receipt = {**SINCE_1, **receipt, "source": {"norm_eps": None, **receipt["source"]}}
    if version_read < SCHEMA_VERSION:
        receipt = {**SINCE_2, **receipt, "schema_version": SCHEMA_VERSION}
    return {**SINCE_3, **receipt}
