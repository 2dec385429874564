"""The checks that people use today, for comparison: each says whether it would notice.

All but the first look at one output, of two images, of the converted network and of the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# keras-hub's converters print the mean and compare it with nothing; what two frameworks differ by
# in float32 is about 1e-6, so a reader is given credit for noticing a hundred times that.
NOTICED = 1e-4


def _mean_difference(ours: Tensor, theirs: Tensor) -> bool:
    return not (ours - theirs).abs().mean().item() <= NOTICED


def _beyond(rtol: float, atol: float) -> Callable[[Tensor, Tensor], bool]:
    return lambda ours, theirs: not torch.allclose(ours, theirs, rtol=rtol, atol=atol)


# torch.allclose: its defaults.  keras-hub: tools/checkpoint_conversion/convert_*_checkpoints.py.
# timm: rtol 1e-3 and atol 1e-4, as conversions between timm and others are commonly compared.
# optimum: ATOL_FOR_VALIDATION of exporters/onnx/base.py, and numpy.allclose's rtol.
# polygraphy: defaults of CompareFunc.simple, element by element; the last output is the only one.
PEERS: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "allclose": _beyond(1e-5, 1e-8),
    "keras-hub": _mean_difference,
    "timm": _beyond(1e-3, 1e-4),
    "optimum": _beyond(1e-5, 1e-5),
    "polygraphy": _beyond(1e-5, 1e-5),
}
STRICT_LOAD = "strict load"


def notice(ours: Tensor, theirs: Tensor) -> dict[str, bool]:
    """Whether each check would notice; both are logits, ``[N, classes]``."""
    return {name: notices(ours, theirs) for name, notices in PEERS.items()}
