"""Step 2: which layout the names are in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .errors import LayoutError, some
from .layout import Layout


def identify_layout(names: Collection[str], layouts: Sequence[Layout]) -> Layout:
    """The one layout that explains every name.

    Raises:
        LayoutError: none does, or more than one; the message shows the nearest and
            what it could not explain.
    """
    problems = {layout.name: layout.explain(names).problems for layout in layouts}
    fitting = [layout for layout in layouts if not problems[layout.name]]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise LayoutError(
            f"More than one layout explains all {len(names):,} names: "
            f"{', '.join(layout.name for layout in fitting)}. Is this the whole of a DenseNet?"
        )
    nearest = min(layouts, key=lambda layout: len(problems[layout.name]))
    unexplained = problems[nearest.name]
    raise LayoutError(
        f"No layout explains all {len(names):,} names. The nearest is {nearest.name} ({nearest.origin}), "
        f"but {some(unexplained)}. Is this a DenseNet, and the whole of it, without a prefix?"
    )
