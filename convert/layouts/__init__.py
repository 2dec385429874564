"""The layouts that are known: one file each, one line each in ``BUILT_IN``, and those of other packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from ..errors import LayoutError, some
from ..layout import Layout
from .efficient_densenet import EFFICIENT_DENSENET
from .keras_applications import KERAS_APPLICATIONS
from .monai import MONAI
from .torchvision import TORCHVISION
from .torchvision_dotted import TORCHVISION_DOTTED
from .torchxrayvision import TORCHXRAYVISION

BUILT_IN: tuple[Layout, ...] = (
    TORCHVISION,
    TORCHVISION_DOTTED,
    MONAI,
    TORCHXRAYVISION,
    EFFICIENT_DENSENET,
    KERAS_APPLICATIONS,
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
            raise LayoutError(f"The layout {some([entry.value])} can't be imported: {error!r}.") from error
        if not isinstance(layout, Layout) or layout.name in {one.name for one in layouts}:
            raise LayoutError(
                f"The entry point {some([entry.value])} is no Layout, or has the name of another. "
                "Mend or uninstall its package."
            )
        layouts.append(layout)
    return tuple(layouts)


__all__ = ["BUILT_IN", "TORCHVISION", "TORCHVISION_DOTTED", "known_layouts"]
