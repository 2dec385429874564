"""The needs of both of torch's exporters: a torch that is new enough, an input to trace with, and silence."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor

from densenet_convert.densenet import DenseNetConfig

from ...errors import LayoutError
from ..inputs import INPUTS

# Older exporters don't get along with the onnxscript of today, and older archives have to be unpickled.
FIRST_TORCH = "2.8"


def require_exporter() -> None:
    """Raises LayoutError where torch is too old to export a network."""
    if Version(torch.__version__) < Version(FIRST_TORCH):
        raise LayoutError(
            f"This is torch {torch.__version__}, and a network is exported by {FIRST_TORCH} or newer. Update "
            f'it with: pip install -U "torch>={FIRST_TORCH}" torchvision'
        )


def example(
    config: DenseNetConfig, dtype: torch.dtype, sides: tuple[int, ...] | None
) -> tuple[Tensor, dict[int, Any]]:
    """Returns an input to trace with, and which of its sides are free, the batch always.

    Args:
        config: the network's hyperparameters.
        dtype: of the input.
        sides: of the input behind the channels; None leaves them free.
    """
    _, (_, *usual) = INPUTS[config.spatial_dims][1]
    free = (0,) if sides else (0, *range(2, 2 + config.spatial_dims))
    x = torch.zeros(2, config.in_channels, *(sides or usual), dtype=dtype)
    return x, dict.fromkeys(free, torch.export.Dim.DYNAMIC)


@contextmanager
def quietly() -> Iterator[None]:
    """Leaves out what torch says while it exports; what fails raises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
