"""A layout accounts for every name, or says which it can't."""

from __future__ import annotations

import pytest
from checkpoints import in_2017_names

from densenet_convert.densenet import ARCHITECTURES, DenseNetConfig
from densenet_convert.layout import Drop, Layout, Rule
from densenet_convert.layouts import BUILT_IN, TORCHVISION, TORCHVISION_DOTTED

RENAMED = {"densenet121": 580, "densenet161": 780, "densenet169": 820, "densenet201": 980}


def names_of(config: DenseNetConfig) -> dict[str, tuple[int, ...]]:
    return config.tensor_shapes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_todays_names_are_canonical(architecture: str) -> None:
    names = names_of(ARCHITECTURES[architecture])
    explained = TORCHVISION.explain(names)
    assert explained.targets == {name: name for name in names}
    assert not explained.problems


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("counted", [False, True])
def test_names_of_2017_reach_every_canonical_name(architecture: str, counted: bool) -> None:
    names = names_of(ARCHITECTURES[architecture])
    expected = {n for n in names if counted or not n.endswith("num_batches_tracked")}
    sources = in_2017_names(names, counted=counted)  # type: ignore[arg-type]
    explained = TORCHVISION_DOTTED.explain(sources)
    assert set(explained.targets.values()) == expected
    assert not explained.problems
    if not counted:
        renamed = sum(source != target for source, target in explained.targets.items())
        assert renamed == RENAMED[architecture]


@pytest.mark.parametrize("layout", BUILT_IN, ids=lambda layout: layout.name)
def test_no_layout_takes_a_name_of_another_kind(layout: Layout) -> None:
    strangers = [
        "module.features.conv0.weight",
        "features.conv0.bias",
        "features.conv0.weight.extra",
        "features.norm1.weight",
        "features.denseblock1.denselayer1.norm3.weight",
        "features.denseblock1.denselayer1.norm.3.weight",
        "features.denseblock1.denselayer1.conv1.bias",
        "features.denseblock\u0661.denselayer1.conv1.weight",
        "classifier.0.weight",
        "features.norm_final.weights",
        "",
    ]
    explained = layout.explain(strangers, whole=False)
    assert not explained.targets
    assert explained.problems == tuple(f"{name} is explained by no rule" for name in strangers)


def layout_of(*rules: Rule, drops: tuple[Drop, ...] = ()) -> Layout:
    return Layout("made", "a test", rules, reference="nowhere:nothing", drops=drops)


def test_two_names_with_one_target_are_a_problem() -> None:
    explained = layout_of(Rule(r"a|b", "c")).explain(["a", "b"])
    assert explained.problems == ("a and b both become c",)


def test_a_name_that_two_rules_match_is_a_problem() -> None:
    explained = layout_of(Rule(r"a"), Rule(r"[ab]")).explain(["a"])
    assert explained.problems == ("a is explained by 2 rules",)


def test_a_drop_is_reported_with_its_reason() -> None:
    explained = layout_of(Rule(r"a"), drops=(Drop(r"b", because="no part of it"),)).explain(["a", "b"])
    assert explained.dropped == {"b": "no part of it"}
    assert not explained.problems


def test_a_drop_that_matches_nothing_is_a_problem() -> None:
    explained = layout_of(Rule(r"a"), drops=(Drop(r"b", because="no part of it"),)).explain(["a"])
    assert explained.problems == ("nothing matches b, which this layout leaves out",)


def test_the_layouts_have_names_of_their_own() -> None:
    names = [layout.name for layout in BUILT_IN]
    assert len(set(names)) == len(names)
