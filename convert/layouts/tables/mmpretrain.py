"""mmpretrain's names, which count from zero, and have the last norm in the place of a transition."""

from __future__ import annotations

from ...layout import Layout, Rule
from .torchvision import NORM_FIELD

# As Python prints an index.
INDEX = r"(0|[1-9]\d{0,8})"
_LAYER = rf"backbone\.stages\.{INDEX}\.block\.{INDEX}\."
_TRANSITION = rf"backbone\.transitions\.{INDEX}\."
_TARGET = r"features.denseblock\1.denselayer\2.\3"
FROM_ZERO = {1: 1, 2: 1}

MMPRETRAIN = Layout(
    name="mmpretrain",
    origin="mmpretrain and mmcls, mmpretrain.models.backbones.DenseNet",
    rules=(
        Rule(r"backbone\.stem\.0\.weight", "features.conv0.weight"),
        Rule(rf"backbone\.stem\.1\.({NORM_FIELD})", r"features.norm0.\1"),
        Rule(rf"{_LAYER}(norm[12]\.{NORM_FIELD})", _TARGET, numbers=FROM_ZERO),
        Rule(rf"{_LAYER}(conv[12]\.weight)", _TARGET, numbers=FROM_ZERO),
        Rule(rf"{_TRANSITION}(norm\.{NORM_FIELD})", r"features.transition\1.\2", numbers={1: 1}),
        Rule(rf"{_TRANSITION}(conv\.weight)", r"features.transition\1.\2", numbers={1: 1}),
        # Behind the last block there is a norm with a ReLU in the place of a transition.
        Rule(rf"{_TRANSITION}0\.({NORM_FIELD})", r"features.norm5.\2"),
        Rule(r"head\.fc\.(weight|bias)", r"classifier.\1"),
    ),
    reference="densenet_convert.proof.references.rearranged:tree_of_mmpretrain",
    first_conv="backbone.stem.0.weight",
    features="backbone.",
    head="head.fc",
    relu="features",
)
