"""torchvision's names of today, which are the canonical ones."""

from __future__ import annotations

from ...layout import Layout, Rule

NORM_FIELD = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"

OUTSIDE_DENSE_LAYERS = (
    Rule(r"features\.conv0\.(?:weight|bias)"),
    Rule(rf"features\.norm[05]\.{NORM_FIELD}"),
    Rule(rf"features\.transition\d+\.norm\.{NORM_FIELD}"),
    Rule(r"features\.transition\d+\.conv\.weight"),
    Rule(r"classifier\.(?:weight|bias)"),
)

TORCHVISION = Layout(
    name="torchvision",
    origin="torchvision 0.3 and later, timm, and this converter",
    rules=(
        *OUTSIDE_DENSE_LAYERS,
        Rule(rf"features\.denseblock\d+\.denselayer\d+\.norm[12]\.{NORM_FIELD}"),
        Rule(r"features\.denseblock\d+\.denselayer\d+\.conv[12]\.weight"),
    ),
    reference="densenet_convert.proof.references.trees:tree_of_today",
)
