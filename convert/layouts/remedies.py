"""Remedies that need the owner's network: for weights computed from others, or in several files.

Each remedy is one call, of torch or of the library that made the file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import first_few, quoted

AGAIN = "and save its state_dict() again."
NEW = "parametrizations.{0}"
# Two of the tensors that a weight is computed from, of which the first has its shape, and what ends it.
COMPUTED = (
    ("{0}_v", "{0}_g", "remove_weight_norm"),
    ("{0}_orig", "{0}_u", "remove_spectral_norm"),
    (f"{NEW}.original1", f"{NEW}.original0", "parametrize.remove_parametrizations"),
    (f"{NEW}.original", f"{NEW}.original", "parametrize.remove_parametrizations"),
)
ENDS = ("v", "g", "u", "orig")
LORA = re.compile(r"lora_\w+|modules_to_save", re.ASCII)
SHARD = re.compile(r"(.*-)(\d{5})(-of-(\d{5})\.(bin|safetensors|pth?))", re.ASCII)


class Remedy(NamedTuple):
    """How a source becomes one that can be converted.

    Attributes:
        text: what it is, and the call.
        tensors: the source's, as they would be then, by their forms; None where that is not known.
    """

    text: str
    tensors: Mapping[str, Any] | None = None


def remedies(tensors: Mapping[str, Any], source: str) -> Iterator[Remedy]:
    """Yields what may be done with a source that is refused.

    Args:
        tensors: of the source, each with a ``shape``.
        source: what the user calls it.
    """
    if any(LORA.fullmatch(part) for name in tensors for part in name.split(".")):
        yield Remedy(
            "It holds low-rank factors (LoRA), which are to be added to weights. Where the network is, call "
            f"model = model.merge_and_unload() of peft, {AGAIN}"
        )
    if (match := SHARD.fullmatch(source)) and int(match[4]) > 1:
        yield Remedy(
            f"Its name says that it is file {int(match[2])} of {int(match[4])} of one checkpoint. Merge "
            f"them, and convert what this writes:\n{_merging(match)}"
        )
    yield from _computed(tensors)


def _merging(match: re.Match[str]) -> str:
    """Returns the command that merges the files of one checkpoint."""
    pattern, written = f"{match[1]}?????{match[3]}", f"{match[1]}whole.{match[5]}"
    if match[5] == "safetensors":
        load, imported, save = (
            "load_file(f)",
            "from safetensors.torch import load_file, save_file",
            "save_file",
        )
    else:
        load, imported, save = "torch.load(f, weights_only=True)", "import torch", "torch.save"
    code = (
        f"import glob; {imported}; state = {{n: t for f in sorted(glob.glob({pattern!r})) "
        f"for n, t in {load}.items()}}; {save}(state, {written!r})"
    )
    return f"python -c {shlex.quote(code)}"


def _computed(tensors: Mapping[str, Any]) -> Iterator[Remedy]:
    """Yields a remedy if a layer's weight is computed from other tensors."""
    parts = _parts(tensors)
    plain = dict(tensors)
    found: list[tuple[str, str]] = []
    for (layer, field), names in parts.items():
        for base, partner, function in COMPUTED:
            start = f"{layer}." if layer else ""
            first, other = (f"{start}{part.format(field)}" for part in (base, partner))
            if first not in names or other not in names:
                continue
            for name in names:
                del plain[name]
            plain[f"{start}{field}"] = tensors[first]
            # The old functions take weight for granted.
            argument = "" if function.startswith("remove") and field == "weight" else f", {field!r}"
            found.append((layer, f"torch.nn.utils.{function}(model.get_submodule({layer!r}){argument})"))
            break
    if found:
        layer, call = found[0]
        more = f", and likewise for {first_few([one for one, _ in found[1:]])}," if len(found) > 1 else ""
        text = (
            f"{quoted(layer)} computes its weight from other tensors, which rounds. Where the network is, "
            f"call {quoted(call)}{more} {AGAIN}"
        )
        yield Remedy(text, plain)


def _parts(tensors: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Returns the names of tensors that a weight may be computed from, by its layer and its name."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in tensors:
        layer, mark, rest = name.partition("parametrizations.")
        if mark:
            place = layer.rstrip("."), rest.partition(".")[0]
        else:
            layer, _, last = name.rpartition(".")
            field, _, end = last.rpartition("_")
            if end not in ENDS:
                continue
            place = layer, field
        found.setdefault(place, []).append(name)
    return found
