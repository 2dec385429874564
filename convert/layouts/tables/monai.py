"""MONAI's names, of its networks in one, two and three dimensions."""

from __future__ import annotations

from ...layout import Layout, Rule
from .torchvision import NORM_FIELD, OUTSIDE_DENSE_LAYERS, TORCHVISION

_LAYER = r"(features\.denseblock\d+\.denselayer\d+\.)layers\."

MONAI = Layout(
    name="monai",
    origin="monai.networks.nets.DenseNet of MONAI 0.4 and later",
    rules=(
        *[rule for rule in OUTSIDE_DENSE_LAYERS if "classifier" not in rule.pattern],
        Rule(rf"{_LAYER}(norm[12]\.{NORM_FIELD})", r"\1\2"),
        Rule(rf"{_LAYER}(conv[12]\.weight)", r"\1\2"),
        Rule(r"class_layers\.out\.(weight|bias)", r"classifier.\1"),
    ),
    reference="densenet_convert.proof.references.trees:tree_of_monai",
    library="densenet_convert.proof.references.libraries:monai_network",
    head="class_layers.out",
    dimensions=(1, 2, 3),
)

# Of two dimensions these are torchvision's names, with a head of another name.
MONAI_0_3 = Layout(
    name="monai-0.3",
    origin="monai.networks.nets.DenseNet of MONAI 0.1 to 0.3, with spatial_dims=1 or 3",
    rules=(
        *[rule for rule in TORCHVISION.rules if "classifier" not in rule.pattern],
        Rule(r"class_layers\.class\.(weight|bias)", r"classifier.\1"),
    ),
    reference="densenet_convert.proof.references.trees:tree_of_monai_0_3",
    library="densenet_convert.proof.references.libraries:monai_network_of_0_3",
    sign="class_layers.class.weight",
    other_stems=("class_layers.out.weight",),  # as between 0.3 and 0.4
    head="class_layers.class",
    dimensions=(1, 3),
)
