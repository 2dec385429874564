"""timm's names of a DenseNet made with ``features_only``: the modules of ``features``, at the top."""

from __future__ import annotations

from dataclasses import replace

from ...layout import Rule
from .torchvision import TORCHVISION

FEATURES = r"features\."

TIMM_FEATURES = replace(
    TORCHVISION,
    name="timm-features",
    origin='timm.create_model("densenet121", features_only=True)',
    rules=tuple(
        Rule(f"features_({rule.pattern.removeprefix(FEATURES)})", r"features.\1")
        if rule.pattern.startswith(FEATURES)
        else rule
        for rule in TORCHVISION.rules
    ),
    reference="densenet_convert.proof.references.rearranged:tree_of_timm_features",
    has_head=False,
    first_conv="features_conv0.weight",
    # timm's norms hold their ReLU.
    relu="features",
)
