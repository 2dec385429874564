"""The layout is identified by fit: exactly one explains every name."""

from __future__ import annotations

import pytest
from checkpoints import SMALL, in_2017_names

from densenet_convert.errors import LayoutError
from densenet_convert.identify import identify_layout
from densenet_convert.layouts import LAYOUTS, TORCHVISION, TORCHVISION_DOTTED

TODAY = list(SMALL.tensor_shapes())
DOTTED = list(in_2017_names(dict.fromkeys(TODAY)))  # type: ignore[arg-type]


def test_todays_names_are_torchvision() -> None:
    assert identify_layout(TODAY, LAYOUTS) is TORCHVISION


def test_names_of_2017_are_torchvision_dotted() -> None:
    assert identify_layout(DOTTED, LAYOUTS) is TORCHVISION_DOTTED


def test_a_mixture_is_refused_and_the_odd_name_is_named() -> None:
    odd = "features.denseblock1.denselayer1.norm1.weight"
    with pytest.raises(LayoutError, match="The nearest is torchvision-dotted.*" + odd):
        identify_layout([*DOTTED, odd], LAYOUTS)


def test_names_under_a_prefix_are_refused_with_a_hint() -> None:
    with pytest.raises(LayoutError, match="without a prefix"):
        identify_layout([f"module.{name}" for name in DOTTED], LAYOUTS)


def test_names_of_another_network_are_refused() -> None:
    with pytest.raises(LayoutError, match="layer1.0.conv1.weight is explained by no rule"):
        identify_layout(["layer1.0.conv1.weight", "fc.weight"], LAYOUTS)


def test_two_layouts_that_fit_are_an_error_that_names_them() -> None:
    with pytest.raises(LayoutError, match="More than one.*torchvision, torchvision-dotted"):
        identify_layout(["features.conv0.weight"], LAYOUTS)
