"""What only the owner's own network can end: weights that are computed from others, or lie in several files.

Each remedy is one call, of torch or of the library that made the file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import first_few, quoted

AGAIN = "and save its state_dict() again."
OLD = "torch.nn.utils.remove_{0}(model.get_submodule({1!r}){2})"
REMOVE = "torch.nn.utils.parametrize.remove_parametrizations(model.get_submodule({1!r}){2})"
# What one of the tensors is called that a weight is computed from, another of them, what computes it, and the
# call that ends it.
COMPUTED = (
    (re.compile(r"(\w+)_v", re.ASCII), "{0}_g", "weight_norm", OLD),
    (re.compile(r"(\w+)_orig", re.ASCII), "{0}_u", "spectral_norm", OLD),
    (
        re.compile(r"parametrizations\.(\w+)\.original1", re.ASCII),
        "parametrizations.{0}.original0",
        "",
        REMOVE,
    ),
    (re.compile(r"parametrizations\.(\w+)\.original", re.ASCII), None, "", REMOVE),
)
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
    plain = dict(tensors)
    found: list[tuple[str, str]] = []
    for name, tensor in tensors.items():
        for pattern, partner, called, call in COMPUTED:
            layer, field = _split(name)
            match = pattern.fullmatch(field)
            start = f"{layer}." if layer else ""
            if match is None or (partner and f"{start}{partner.format(match[1])}" not in tensors):
                continue
            mine = (f"{start}{match[1]}_", f"{start}parametrizations.{match[1]}.")
            for other in [other for other in plain if other.startswith(mine)]:
                del plain[other]
            plain[f"{start}{match[1]}"] = tensor
            # The old functions take weight for granted.
            field = "" if called and match[1] == "weight" else f", {match[1]!r}"
            found.append((layer, call.format(called, layer, field)))
            break
    if found:
        layer, call = found[0]
        more = f", and likewise for {first_few([one for one, _ in found[1:]])}," if len(found) > 1 else ""
        text = (
            f"{quoted(layer)} computes its weight from other tensors, which rounds. Where the network is, "
            f"call {quoted(call)}{more} {AGAIN}"
        )
        yield Remedy(text, plain)


def _split(name: str) -> tuple[str, str]:
    """Returns the layer of a tensor, and the rest of its name, with ``parametrizations`` in it."""
    layer, mark, rest = name.partition("parametrizations.")
    if mark:
        return layer.rstrip("."), mark + rest
    layer, _, field = name.rpartition(".")
    return layer, field
