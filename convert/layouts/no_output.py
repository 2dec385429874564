"""Rules that leave out tensors which change no output, each with its reason.

Names and shapes must both be those of such a thing.  What is as wide as the features, or has two dimensions,
is none: it may be the head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any

from ..errors import LayoutError, first_few

# Counters that thop puts beside every layer, and nothing reads: https://github.com/Lyken17/pytorch-OpCounter
OPERATION_COUNTS = ("total_ops", "total_params")
COUNTED = "operations that a profiler counted"
AVERAGED = "how many networks were averaged into this one"
SEEN = "what an observer saw for a quantisation to come"
CLASS_WEIGHTS = "weights of the classes, which a loss takes"
# How torch.ao.quantization calls what only watches values; with fake_quant_enabled beside it, it rounds them.
OBSERVER, ROUNDS = "activation_post_process", "fake_quant_enabled"
OBSERVED = ("min_val", "max_val", "min_vals", "max_vals", "eps", "histogram", "averaging_constant")
LOSSES = ("criterion", "loss")
# Every name that a rule takes holds one of these.
MARK = re.compile("total_|n_averaged|activation_post|criterion|loss|pos_weight|class_weight", re.ASCII)
WEIGHTS_OF_CLASSES = ("pos_weight", "class_weight", "class_weights")


def reason_to_drop(name: str) -> str | None:
    """Returns why a tensor of this name is left out, as a receipt says; None where no rule takes it."""
    if MARK.search(name) is None:
        return None
    *parents, last = re.split("[./]", name)
    if last in OPERATION_COUNTS:
        return COUNTED
    if last == "n_averaged":
        return AVERAGED
    if last in OBSERVED and parents[-1:] == [OBSERVER]:
        return SEEN
    of_loss = any(part.startswith(LOSSES) or part.endswith(LOSSES) for part in parents)
    return CLASS_WEIGHTS if of_loss or last in WEIGHTS_OF_CLASSES else None


def find_dropped(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Returns the names that can be left out, each with its reason.

    What a loss holds is among them if it has one dimension at most; ``check_losses`` compares it with the
    classes once they are known.
    """
    rounded = {_parent(name) for name in tensors if name.endswith(ROUNDS)}
    dropped = {}
    for name, tensor in tensors.items():
        because = reason_to_drop(name)
        if because is not None and _fits(because, tuple(tensor.shape)) and _parent(name) not in rounded:
            dropped[name] = because
    return dropped


def _fits(because: str, shape: tuple[int, ...]) -> bool:
    if because in (COUNTED, AVERAGED):
        return prod(shape) == 1
    return len(shape) <= 1


def check_losses(tensors: Mapping[str, Any], dropped: Mapping[str, str], classes: int, width: int) -> None:
    """Raises LayoutError if something in a loss has not one number for each class.

    Args:
        tensors: of the source.
        dropped: what ``find_dropped`` found.
        classes: of the head; 0 without one.
        width: of the features.
    """
    held = {name: prod(tensors[name].shape) for name, because in dropped.items() if because == CLASS_WEIGHTS}
    odd = [
        f"{name} [{count}]"
        for name, count in held.items()
        if (count not in (1, classes) if classes else count == width)
    ]
    if odd:
        raise LayoutError(
            f"{first_few(odd)} is called as weights of the classes, of which the head has {classes:,}: it "
            "may be a part of the network. Is this a DenseNet, and the whole of it?"
        )


def _parent(name: str) -> str:
    return name[: max(name.rfind("."), name.rfind("/"), 0)]
