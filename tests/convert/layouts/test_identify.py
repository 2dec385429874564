"""The layout is identified by fit: exactly one explains every name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from checkpoints import SMALL, explanation_of, in_2017_names

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.errors import LayoutError
from densenet_convert.layout import Reading
from densenet_convert.layouts import BUILT_IN, TORCHVISION, TORCHVISION_DOTTED
from densenet_convert.layouts.explain import missing
from densenet_convert.layouts.identify import identify_layout, named_layout, whole_networks
from densenet_convert.layouts.tables.keras_applications import KERAS_APPLICATIONS
from densenet_convert.proof.references.keras import keras_names
from densenet_convert.records import MULTI_LABEL

TODAY = list(SMALL.tensor_shapes())
KERAS = DenseNetConfig(block_config=(1, 2, 1, 1))
DOTTED = list(in_2017_names(dict.fromkeys(TODAY)))  # type: ignore[arg-type]


def test_todays_names_are_torchvision() -> None:
    assert identify_layout(TODAY, BUILT_IN) == Reading(TORCHVISION)


def test_names_of_2017_are_torchvision_dotted() -> None:
    assert identify_layout(DOTTED, BUILT_IN) == Reading(TORCHVISION_DOTTED)


def test_a_mixture_is_refused_and_the_odd_name_is_named() -> None:
    odd = "features.denseblock1.denselayer1.norm1.weight"
    with pytest.raises(LayoutError, match="The nearest is torchvision-dotted.*" + odd):
        identify_layout([*DOTTED, odd], BUILT_IN)


@pytest.mark.parametrize("prefix", ["module.", "module.densenet121.", "_orig_mod.module.model.backbone."])
def test_a_prefix_is_found(prefix: str) -> None:
    found = identify_layout([prefix + name for name in DOTTED], BUILT_IN)
    assert found == Reading(TORCHVISION_DOTTED, prefix)


@pytest.mark.parametrize(
    "head", ["classifier.0", "classifier.1", "fc", "head.fc", "last_linear", "classifier.2.0"]
)
def test_a_head_of_another_name_is_found(head: str) -> None:
    names = [name.replace("classifier", head) for name in DOTTED]
    assert identify_layout(names, BUILT_IN) == Reading(TORCHVISION_DOTTED, "", head=head)
    under = identify_layout([f"module.{name}" for name in names], BUILT_IN)
    assert under == Reading(TORCHVISION_DOTTED, "module.", head=f"module.{head}")


@pytest.mark.parametrize("head", ["classifier", "base.classifier", "fc", None])
def test_features_alone_are_found_with_the_head_beside_or_beneath_them(head: str | None) -> None:
    names = [f"base.{name.removeprefix('features.')}" for name in TODAY if name.startswith("features.")]
    names += [f"{head}.weight", f"{head}.bias"] if head else []
    assert identify_layout(names, BUILT_IN) == Reading(TORCHVISION, "base.", inside="features.", head=head)


def test_two_heads_are_not_chosen_from() -> None:
    names = [
        *[n for n in TODAY if "classifier" not in n],
        *[f"classifier.{i}.{f}" for i in (0, 3) for f in ("weight", "bias")],
    ]
    with pytest.raises(LayoutError, match="classifier.0.weight is explained by no rule"):
        identify_layout(names, BUILT_IN)


def test_a_part_of_something_larger_is_taken_by_only() -> None:
    names = [*[f"module.E.{name}" for name in TODAY], "module.D.up.weight", "module.fc.weight"]
    with pytest.raises(LayoutError, match="module.D.up.weight is not under 'module.E.'"):
        identify_layout(names, BUILT_IN)
    for only in ("module.E.", "module.E"):
        found = identify_layout(names, BUILT_IN, only=only)
        assert found == Reading(TORCHVISION, "module.E.", only=True)
        assert explanation_of(found, names).dropped.keys() == {"module.D.up.weight", "module.fc.weight"}


def test_a_part_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LayoutError, match="nothing of a DenseNet is under 'module.E.'"):
        identify_layout(DOTTED, BUILT_IN, only="module.E")


def test_of_two_networks_both_are_found_in_the_order_of_the_names() -> None:
    names = [prefix + name for prefix in ("teacher.", "student.") for name in TODAY]
    assert [one.prefix for one in whole_networks(names, BUILT_IN)] == ["teacher.", "student."]
    assert identify_layout(names, BUILT_IN, only="teacher").prefix == "teacher."


def test_of_many_networks_one_must_be_named_and_none_is_tried() -> None:
    names = [f"{i}.{name}" for i in range(9) for name in DOTTED]
    with pytest.raises(LayoutError, match=r"There are 9 networks, under 0\., 1\., 2\. and 6 more\. .*`only="):
        identify_layout(names, BUILT_IN)
    assert identify_layout(names, BUILT_IN, only="7").prefix == "7."


def test_what_is_asked_for_is_checked() -> None:
    assert identify_layout(TODAY, BUILT_IN, layout="torchvision", prefix="") == Reading(TORCHVISION)
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
    layouts = [*BUILT_IN, replace(TORCHVISION, name="mine")]
    with pytest.raises(LayoutError, match="More than one.*torchvision, mine. Choose one"):
        identify_layout(TODAY, layouts)


def test_a_network_without_its_end_is_one_layout_s_and_not_two_s() -> None:
    """Only the last norm tells torchvision's names from gpleiss's; what is missing is told on loading."""
    encoder = [name for name in TODAY if "norm5" not in name and "classifier" not in name]
    found = identify_layout([f"encoder.{name}" for name in encoder], BUILT_IN)
    assert missing(explanation_of(found, [f"encoder.{name}" for name in encoder]).targets.values()) == [
        f"features.norm5.{field}" for field in ("weight", "bias", "running_mean", "running_var")
    ]


def test_what_lacks_a_tensor_is_no_whole_network() -> None:
    names = [f"netD.{name}" for name in TODAY] + ["netG.features.conv0.weight"]
    assert [one.prefix for one in whole_networks(names, BUILT_IN)] == ["netD."]


@pytest.mark.parametrize("prefix", ["", "backbone.", "net.module."])
@pytest.mark.parametrize("head", ["fc", "head.fc", "classifier.1"])
def test_a_head_may_stand_beside_the_network_that_it_belongs_to(prefix: str, head: str) -> None:
    names = [f"{prefix}{name}" for name in TODAY if "classifier" not in name]
    for beside in {"", *(prefix[: i + 1] for i, letter in enumerate(prefix) if letter == ".")}:
        found = identify_layout([*names, f"{beside}{head}.weight", f"{beside}{head}.bias"], BUILT_IN)
        assert explanation_of(found, [f"{beside}{head}.weight"]).targets == {
            f"{beside}{head}.weight": "classifier.weight"
        }


def test_what_only_leaves_out_is_never_taken_for_the_head() -> None:
    names = [f"base.{name.removeprefix('features.')}" for name in TODAY if "classifier" not in name]
    others = ["linear.weight", "linear.bias", "last.weight"]
    found = identify_layout([*names, *others], BUILT_IN, only="base")
    assert set(explanation_of(found, [*names, *others]).dropped) == set(others)
    with_head = identify_layout([*names, *others], BUILT_IN, only="base", head="linear")
    assert explanation_of(with_head, others, whole=False).targets == {
        "linear.weight": "classifier.weight",
        "linear.bias": "classifier.bias",
    }
    assert set(explanation_of(with_head, [*names, *others]).dropped) == {"last.weight"}


def test_a_head_that_is_named_otherwise_is_named_by_the_user() -> None:
    names = [name.replace("classifier", "mlp.0") for name in TODAY]
    with pytest.raises(LayoutError, match=r"mlp.0.\w+ is explained by no rule"):
        identify_layout(names, BUILT_IN)
    found = identify_layout(names, BUILT_IN, head="mlp.0")
    assert set(explanation_of(found, names).targets.values()) == set(TODAY)
    with pytest.raises(LayoutError, match="no layer mlp.1 for the head"):
        identify_layout(names, BUILT_IN, head="mlp.1")


def test_with_an_empty_only_what_is_no_part_of_the_network_is_left_out() -> None:
    names = [*TODAY, "criterion.weight", "decoder.features.mean"]
    found = identify_layout(names, BUILT_IN, only="")
    assert set(explanation_of(found, names).dropped) == {"criterion.weight", "decoder.features.mean"}


@pytest.mark.parametrize("prefix", ["", "a.b."])
@pytest.mark.parametrize(
    "name",
    [
        "features.relu0.weight",
        "features.conv0.scale",
        "features.transition1.se.fc.weight",
        "features.denseblock1.denselayer1.gamma",
        "features.denseblock1.denselayer1.conv1.weight_mask",
        "features.denseblock1.attention.qkv.weight",
        "features.mean",
        "classifier.lora_A.weight",
        "classifier.norm.weight",
    ],
)
def test_what_is_of_the_network_is_never_left_out(prefix: str, name: str) -> None:
    names = [f"{prefix}{one}" for one in (*TODAY, name)]
    for only in (None, prefix):
        with pytest.raises(LayoutError, match=f"{name} is "):
            identify_layout(names, BUILT_IN, only=only)
    assert [one.prefix for one in whole_networks(names, BUILT_IN)] == [prefix] * name.startswith("classifier")


@pytest.mark.parametrize("name", ["relu0.weight", "denseblock1.se.weight", "transition1.pool.weight"])
def test_what_is_of_the_features_alone_is_never_left_out(name: str) -> None:
    names = [one.removeprefix("features.") for one in TODAY if "classifier" not in one]
    assert identify_layout([*names, "decoder.weight"], BUILT_IN, only="").inside == "features."
    with pytest.raises(LayoutError, match=f"{name} is of the network"):
        identify_layout([*names, name], BUILT_IN, only="")


@pytest.mark.parametrize("head", ["classifier.0", "classifier.3"])
def test_of_a_sequence_no_layer_is_the_head(head: str) -> None:
    names = [one for one in TODAY if "classifier" not in one]
    names += [f"classifier.{i}.{field}" for i in (0, 3) for field in ("weight", "bias")]
    for only in (None, ""):
        with pytest.raises(
            LayoutError, match=r"classifier\.\d\.\w+ is (of the network|explained by no rule)"
        ):
            identify_layout(names, BUILT_IN, head=head, only=only)
    assert len(explanation_of(identify_layout(names, BUILT_IN, only="features"), names).dropped) == 4


@pytest.mark.parametrize("prefix", ["", "net."])
@pytest.mark.parametrize("head", [None, "classifier.fc1", "classifier.fc2"])
def test_nor_where_its_layers_have_names(prefix: str, head: str | None) -> None:
    names = [f"{prefix}{one}" for one in TODAY if "classifier" not in one]
    names += [f"{prefix}classifier.{i}.{field}" for i in ("fc1", "fc2") for field in ("weight", "bias")]
    for only in (None, prefix):
        with pytest.raises(
            LayoutError, match=r"classifier\.fc\d\.\w+ is (of the network|explained by no rule)"
        ):
            identify_layout(names, BUILT_IN, head=head and f"{prefix}{head}", only=only)


@pytest.mark.parametrize("heads", ["heads", "tasks"])
def test_of_heads_in_a_dict_one_can_be_named(heads: str) -> None:
    names = [one for one in TODAY if "classifier" not in one]
    names += [f"{heads}.{task}.{field}" for task in ("age", "sex") for field in ("weight", "bias")]
    explained = explanation_of(identify_layout(names, BUILT_IN, only="", head=f"{heads}.age"), names)
    assert set(explained.dropped) == {f"{heads}.sex.weight", f"{heads}.sex.bias"}


def test_counters_of_operations_may_be_left_out() -> None:
    counters = [f"{layer}total_{what}" for what in ("ops", "params") for layer in ("", "features.conv0.")]
    with pytest.raises(LayoutError, match="total_ops is explained by no rule"):
        identify_layout([*TODAY, *counters], BUILT_IN)
    assert set(
        explanation_of(identify_layout([*TODAY, *counters], BUILT_IN, only=""), counters).dropped
    ) == set(counters)


def test_of_two_heads_one_must_be_named_and_the_other_is_left_out() -> None:
    names = [*TODAY, "fc.weight", "fc.bias"]
    with pytest.raises(LayoutError, match=r"fc\.weight is explained by no rule"):
        identify_layout(names, BUILT_IN)
    with pytest.raises(LayoutError, match=r"classifier\.weight is beside the head fc"):
        identify_layout(names, BUILT_IN, head="fc")
    for head, other in (("fc", "classifier"), ("classifier", "fc")):
        explained = explanation_of(identify_layout(names, BUILT_IN, only="", head=head), names)
        assert explained.targets[f"{head}.weight"] == "classifier.weight"
        assert set(explained.dropped) == {f"{other}.weight", f"{other}.bias"}


def test_the_prefix_of_the_features_alone_leaves_out_the_head() -> None:
    found = identify_layout(TODAY, BUILT_IN, only="features.")
    explained = explanation_of(found, TODAY)
    assert set(explained.dropped) == {"classifier.weight", "classifier.bias"}
    assert (
        explanation_of(identify_layout(TODAY, BUILT_IN, only="features", head="classifier"), TODAY).dropped
        == {}
    )


@pytest.mark.parametrize("only", ["", "features."])
def test_an_empty_head_stands_for_the_features_alone(only: str) -> None:
    explained = explanation_of(identify_layout(TODAY, BUILT_IN, only=only, head=""), TODAY)
    assert set(explained.dropped) == {"classifier.weight", "classifier.bias"}
    assert set(explained.targets.values()) == {name for name in TODAY if name.startswith("features.")}


def test_only_refuses_a_part_that_lacks_a_tensor() -> None:
    names = [f"a.{name}" for name in TODAY if "denselayer2.conv1" not in name]
    with pytest.raises(LayoutError, match="features.denseblock1.denselayer2.conv1.weight is missing"):
        identify_layout([*names, "b.weight"], BUILT_IN, only="a")


@pytest.mark.parametrize("only", ["densenet121", "densenet121/"])
def test_a_prefix_is_taken_with_the_separator_of_the_names(only: str) -> None:
    names = [f"densenet121/{name}" for name in keras_names(KERAS)]
    found = identify_layout([*names, "dense/kernel"], BUILT_IN, only=only)
    assert (found.layout.name, found.prefix) == ("keras-applications", "densenet121/")


@pytest.mark.parametrize("prefix", ["", "densenet121/"])
@pytest.mark.parametrize("head", ["dense", "dense_2", "output"])
def test_the_head_of_a_keras_network_may_be_one_of_its_user_s(prefix: str, head: str) -> None:
    names = [f"{prefix}{name}" for name in keras_names(replace(KERAS, num_classes=0))]
    found = identify_layout([*names, f"{head}/kernel", f"{head}/bias"], BUILT_IN)
    assert explanation_of(found, [f"{head}/kernel"]).targets == {f"{head}/kernel": "classifier.weight"}


@pytest.mark.parametrize("name", ["keras", "keras-applications"])
def test_a_layout_is_named_in_full_or_by_the_word_it_begins_with(name: str) -> None:
    assert named_layout(name, BUILT_IN) is KERAS_APPLICATIONS


def test_the_name_of_one_layout_is_not_the_beginning_of_another_s() -> None:
    assert named_layout("torchvision", BUILT_IN) is TORCHVISION


def test_what_tells_a_layout_is_not_needed_where_it_is_named() -> None:
    assert identify_layout(TODAY, BUILT_IN).layout.name == "torchvision"
    assert identify_layout(TODAY, BUILT_IN, layout="torchxrayvision").layout.problem_type == MULTI_LABEL
