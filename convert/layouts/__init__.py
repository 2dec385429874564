"""The layouts that are known: one file each, one line each in ``BUILT_IN``, and those of other packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from ..errors import LayoutError, quoted
from ..layout import Layout
from .tables.densenet_keras import DENSENET_KERAS
from .tables.efficient_densenet import EFFICIENT_DENSENET
from .tables.keras_applications import KERAS_APPLICATIONS
from .tables.mmpretrain import MMPRETRAIN
from .tables.monai import MONAI, MONAI_0_3
from .tables.numbered import NUMBERED, NUMBERED_DOTTED, NUMBERED_TIMM
from .tables.paddleclas import PADDLECLAS
from .tables.pytorchcv import PYTORCHCV
from .tables.timm_features import TIMM_FEATURES
from .tables.torchvision import TORCHVISION
from .tables.torchvision_dotted import TORCHVISION_DOTTED
from .tables.torchxrayvision import TORCHXRAYVISION

BUILT_IN: tuple[Layout, ...] = (
    TORCHVISION,
    TORCHVISION_DOTTED,
    MONAI,
    MONAI_0_3,
    TORCHXRAYVISION,
    EFFICIENT_DENSENET,
    KERAS_APPLICATIONS,
    MMPRETRAIN,
    PYTORCHCV,
    PADDLECLAS,
    TIMM_FEATURES,
    NUMBERED,
    NUMBERED_DOTTED,
    NUMBERED_TIMM,
    DENSENET_KERAS,
)
# Each entry point of a package is a Layout.
GROUP = "densenet_convert.layouts"


@cache
def known_layouts() -> tuple[Layout, ...]:
    """Those built in, and those that installed packages offer.

    Raises:
        LayoutError: a package's can't be had, or two bear one name.
    """
    layouts = list(BUILT_IN)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            layout = entry.load()
        except Exception as error:  # whatever a stranger's module raises
            raise LayoutError(f"The layout {quoted(entry.value)} can't be imported: {error!r}.") from error
        if not isinstance(layout, Layout) or layout.name in {one.name for one in layouts}:
            raise LayoutError(
                f"The entry point {quoted(entry.value)} is no Layout, or has the name of another. "
                "Mend or uninstall its package."
            )
        layouts.append(layout)
    return tuple(layouts)


__all__ = ["BUILT_IN", "TORCHVISION", "TORCHVISION_DOTTED", "known_layouts"]
