"""The names of gpleiss/efficient_densenet_pytorch: torchvision's but for the last norm."""

from __future__ import annotations

from dataclasses import replace

from ...layout import Rule
from .torchvision import NORM_FIELD, TORCHVISION

EFFICIENT_DENSENET = replace(
    TORCHVISION,
    name="efficient-densenet",
    origin="github.com/gpleiss/efficient_densenet_pytorch",
    rules=(
        *[rule for rule in TORCHVISION.rules if "norm[05]" not in rule.pattern],
        Rule(rf"features\.norm0\.{NORM_FIELD}"),
        Rule(rf"features\.norm_final\.({NORM_FIELD})", r"features.norm5.\1"),
    ),
    reference="densenet_convert.proof.references.trees:tree_of_efficient_densenet",
)
