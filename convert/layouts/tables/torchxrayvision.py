"""torchxrayvision's names: torchvision's, and the thresholds of its operating points."""

from __future__ import annotations

from dataclasses import replace

from ...layout import Drop
from .torchvision import TORCHVISION

TORCHXRAYVISION = replace(
    TORCHVISION,
    name="torchxrayvision",
    origin="torchxrayvision.models.DenseNet",
    drops=(
        Drop(
            r"op_threshs",
            "thresholds that scale probabilities after the network; the converted one gives the logits",
        ),
    ),
    library="densenet_convert.proof.references.libraries:torchxrayvision_network",
    problem_type="multi_label_classification",
    # Its images run from -1024 to 1024, and are resized whole.
    preprocessing={"mean": [0.5], "std": [1 / 2048], "crop_pct": 1.0},
)
