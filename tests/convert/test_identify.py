"""The layout is identified by fit: exactly one explains every name."""

from __future__ import annotations

import pytest
from checkpoints import SMALL, in_2017_names

from densenet_convert.errors import LayoutError
from densenet_convert.identify import identify_layout
from densenet_convert.layouts import BUILT_IN, TORCHVISION, TORCHVISION_DOTTED

TODAY = list(SMALL.tensor_shapes())
DOTTED = list(in_2017_names(dict.fromkeys(TODAY)))  # type: ignore[arg-type]


def test_todays_names_are_torchvision() -> None:
    assert identify_layout(TODAY, BUILT_IN) == TORCHVISION


def test_names_of_2017_are_torchvision_dotted() -> None:
    assert identify_layout(DOTTED, BUILT_IN) == TORCHVISION_DOTTED


def test_a_mixture_is_refused_and_the_odd_name_is_named() -> None:
    odd = "features.denseblock1.denselayer1.norm1.weight"
    with pytest.raises(LayoutError, match="The nearest is torchvision-dotted.*" + odd):
        identify_layout([*DOTTED, odd], BUILT_IN)


@pytest.mark.parametrize("prefix", ["module.", "module.densenet121.", "_orig_mod.module.model.backbone."])
def test_a_prefix_is_found(prefix: str) -> None:
    found = identify_layout([prefix + name for name in DOTTED], BUILT_IN)
    assert found == TORCHVISION_DOTTED.wrapped(prefix)


@pytest.mark.parametrize(
    "head", ["classifier.0", "classifier.1", "fc", "head.fc", "last_linear", "classifier.2.0"]
)
def test_a_head_of_another_name_is_found(head: str) -> None:
    names = [name.replace("classifier", head) for name in DOTTED]
    assert identify_layout(names, BUILT_IN) == TORCHVISION_DOTTED.wrapped("", head=head)
    under = identify_layout([f"module.{name}" for name in names], BUILT_IN)
    assert under == TORCHVISION_DOTTED.wrapped("module.", head=f"module.{head}")


@pytest.mark.parametrize("head", ["classifier", "base.classifier", "fc", None])
def test_features_alone_are_found_with_the_head_beside_or_beneath_them(head: str | None) -> None:
    names = [f"base.{name.removeprefix('features.')}" for name in TODAY if name.startswith("features.")]
    names += [f"{head}.weight", f"{head}.bias"] if head else []
    assert identify_layout(names, BUILT_IN) == TORCHVISION.wrapped("base.", inside="features.", head=head)


def test_two_heads_are_not_chosen_from() -> None:
    names = [
        *[n for n in TODAY if "classifier" not in n],
        *[f"classifier.{i}.{f}" for i in (0, 3) for f in ("weight", "bias")],
    ]
    with pytest.raises(LayoutError, match="classifier.0.weight is explained by no rule"):
        identify_layout(names, BUILT_IN)


def test_a_part_of_something_larger_is_named_and_taken_by_only() -> None:
    names = [*[f"module.E.{name}" for name in TODAY], "module.D.up.weight", "module.fc.weight"]
    with pytest.raises(LayoutError, match="convert that with --only module.E., and the rest is left out"):
        identify_layout(names, BUILT_IN)
    for only in ("module.E.", "module.E"):
        found = identify_layout(names, BUILT_IN, only=only)
        assert found == TORCHVISION.wrapped("module.E.", only=True)
        assert found.explain(names).dropped.keys() == {"module.D.up.weight", "module.fc.weight"}


def test_a_part_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LayoutError, match="no name begins with 'module.E.'"):
        identify_layout(DOTTED, BUILT_IN, only="module.E")


def test_of_two_networks_both_are_named() -> None:
    names = [prefix + name for prefix in ("student.", "teacher.") for name in TODAY]
    with pytest.raises(LayoutError, match="--only student. or --only teacher."):
        identify_layout(names, BUILT_IN)
    assert identify_layout(names, BUILT_IN, only="teacher").prefix == "teacher."


def test_what_is_asked_for_is_checked() -> None:
    assert identify_layout(TODAY, BUILT_IN, layout="torchvision", prefix="") == TORCHVISION
    with pytest.raises(LayoutError, match="There is no layout 'pytorch', expected one of torchvision"):
        identify_layout(TODAY, BUILT_IN, layout="pytorch")
    with pytest.raises(LayoutError, match="The nearest is monai"):
        identify_layout(TODAY, BUILT_IN, layout="monai")
    with pytest.raises(LayoutError, match="not under .model.."):
        identify_layout(TODAY, BUILT_IN, prefix="model")


def test_names_of_another_network_are_refused() -> None:
    with pytest.raises(LayoutError, match="layer1.0.conv1.weight is explained by no rule"):
        identify_layout(["layer1.0.conv1.weight", "fc.weight"], BUILT_IN)


def test_two_layouts_that_fit_are_an_error_that_names_them() -> None:
    with pytest.raises(LayoutError, match="More than one.*torchvision, torchvision-dotted"):
        identify_layout(["features.conv0.weight"], BUILT_IN)
