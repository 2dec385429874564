"""torchvision's names of 2017, in which every weight file that it serves is still written."""

from __future__ import annotations

from ...layout import Layout, Rule
from .torchvision import NORM_FIELD, OUTSIDE_DENSE_LAYERS

TORCHVISION_DOTTED = Layout(
    name="torchvision-dotted",
    origin="torchvision before 0.3, and every weight file that it still serves",
    rules=(
        *OUTSIDE_DENSE_LAYERS,
        Rule(rf"(features\.denseblock\d+\.denselayer\d+\.norm)\.([12]\.{NORM_FIELD})", r"\1\2"),
        Rule(r"(features\.denseblock\d+\.denselayer\d+\.conv)\.([12]\.weight)", r"\1\2"),
    ),
    reference="densenet_convert.proof.references.trees:tree_of_2017",
    # torchvision's own loader renames all else, and fails on them.
    has_counters=False,
)
