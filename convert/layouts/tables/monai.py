"""MONAI's names, of its networks for images of two dimensions."""

from __future__ import annotations

from ...layout import Layout, Rule
from .torchvision import NORM_FIELD, OUTSIDE_DENSE_LAYERS

_LAYER = r"(features\.denseblock\d+\.denselayer\d+\.)layers\."

MONAI = Layout(
    name="monai",
    origin="monai.networks.nets.DenseNet with spatial_dims=2",
    rules=(
        *[rule for rule in OUTSIDE_DENSE_LAYERS if "classifier" not in rule.pattern],
        Rule(rf"{_LAYER}(norm[12]\.{NORM_FIELD})", r"\1\2"),
        Rule(rf"{_LAYER}(conv[12]\.weight)", r"\1\2"),
        Rule(r"class_layers\.out\.(weight|bias)", r"classifier.\1"),
    ),
    reference="densenet_convert.proof.references.trees:tree_of_monai",
    library="densenet_convert.proof.references.libraries:monai_network",
    head="class_layers.out",
)
