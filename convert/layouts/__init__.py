"""The layouts that are known: one file each, one line each in ``LAYOUTS``."""

from __future__ import annotations

from ..layout import Layout
from .torchvision import TORCHVISION
from .torchvision_dotted import TORCHVISION_DOTTED

LAYOUTS: tuple[Layout, ...] = (TORCHVISION, TORCHVISION_DOTTED)

__all__ = ["LAYOUTS", "TORCHVISION", "TORCHVISION_DOTTED"]
