"""DenseNetConfig, the tensors it predicts, and reading it back off their shapes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from densenet_convert.densenet import ARCHITECTURES, DenseNetConfig, architecture_of, infer_config

Shape = tuple[int, ...]

SMALL = DenseNetConfig(growth_rate=4, block_config=(2, 3), num_init_features=8, bn_size=2, num_classes=10)
ODD_CONFIGS = (
    SMALL,
    DenseNetConfig(growth_rate=3, block_config=(1,), num_init_features=1, bn_size=1, num_classes=1),
    DenseNetConfig(growth_rate=5, block_config=(3, 1, 2), num_init_features=7, bn_size=3, num_classes=2),
    DenseNetConfig(growth_rate=1, block_config=(1, 2, 1, 1, 2), num_init_features=3, num_classes=11),
)

configs = st.builds(
    DenseNetConfig,
    growth_rate=st.integers(1, 6),
    block_config=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    num_init_features=st.integers(1, 12),
    bn_size=st.integers(1, 4),
    num_classes=st.integers(0, 5),
    in_channels=st.integers(1, 5),
)


def torchvision_shapes(config: DenseNetConfig) -> list[tuple[str, Shape]]:
    with torch.device("meta"):
        network = torchvision.models.DenseNet(
            growth_rate=config.growth_rate,
            block_config=config.block_config,
            num_init_features=config.num_init_features,
            bn_size=config.bn_size,
            num_classes=config.num_classes,
        )
    return [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]


# The record


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.growth_rate = 5  # type: ignore[misc]


def test_a_config_made_of_lists_equals_and_hashes_as_one_made_of_tuples() -> None:
    lists: dict[str, Any] = {"block_config": [2, 3], "stem_padding": [2, 3]}
    tuples: dict[str, Any] = {"block_config": (2, 3), "stem_padding": (2, 3)}
    assert DenseNetConfig(**lists) == DenseNetConfig(**tuples)
    assert hash(DenseNetConfig(**lists)) == hash(DenseNetConfig(**tuples))


def test_a_config_survives_json() -> None:
    config = DenseNetConfig(block_config=(1, 2), stem_padding=(2, 3), transition_pool="max", drop_rate=0.25)
    assert DenseNetConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"growth_rate": 0}, "growth_rate is 0, expected at least 1"),
        ({"num_init_features": -1}, "num_init_features is -1, expected at least 1"),
        ({"bn_size": 0}, "bn_size is 0, expected at least 1"),
        ({"in_channels": 0}, "in_channels is 0, expected at least 1"),
        ({"block_config": ()}, "block_config is (), expected layers in every block"),
        ({"block_config": (2, 0)}, "block_config is (2, 0), expected layers in every block"),
        ({"num_classes": -1}, "num_classes is -1, expected 0 or more"),
        ({"drop_rate": 1.0}, "drop_rate is 1.0, expected 0 <= rate < 1"),
        ({"drop_rate": -0.1}, "drop_rate is -0.1, expected 0 <= rate < 1"),
        ({"drop_rate": float("nan")}, "drop_rate is nan, expected 0 <= rate < 1"),
        ({"transition_pool": "sum"}, "transition_pool is 'sum', expected 'avg' or 'max'"),
        ({"norm_eps": 0.0}, "norm_eps is 0.0, expected a positive number"),
        ({"norm_eps": float("nan")}, "norm_eps is nan, expected a positive number"),
        ({"stem_padding": (3,)}, "stem_padding is (3,), expected (before, after)"),
        ({"stem_padding": (-1, 3)}, "stem_padding is (-1, 3), expected (before, after)"),
        (
            {"growth_rate": 0, "num_classes": -1},
            "growth_rate is 0, expected at least 1; num_classes is -1, expected 0 or more",
        ),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the whole message is compared
        DenseNetConfig(**values)
    assert str(caught.value) == message


# The tensors


@pytest.mark.parametrize("config", [*ARCHITECTURES.values(), *ODD_CONFIGS], ids=lambda c: str(c.block_config))
def test_tensor_shapes_are_torchvision_s_in_name_order_and_shape(config: DenseNetConfig) -> None:
    assert list(config.tensor_shapes().items()) == torchvision_shapes(config)


def test_without_classes_the_tensors_end_at_the_last_norm() -> None:
    headless = dataclasses.replace(SMALL, num_classes=0)
    expected = {name: shape for name, shape in SMALL.tensor_shapes().items() if "classifier" not in name}
    assert list(headless.tensor_shapes().items()) == list(expected.items())


def test_input_channels_change_the_first_convolution_alone() -> None:
    expected = {**SMALL.tensor_shapes(), "features.conv0.weight": (8, 5, 7, 7)}
    assert dataclasses.replace(SMALL, in_channels=5).tensor_shapes() == expected


@pytest.mark.parametrize(
    ("name", "width"),
    [("densenet121", 1024), ("densenet161", 2208), ("densenet169", 1664), ("densenet201", 1920)],
)
def test_the_classifier_of_an_architecture_is_as_wide_as_published(name: str, width: int) -> None:
    assert ARCHITECTURES[name].num_features == width


# The names


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_keeps_its_name_with_other_classes_inputs_dropout_and_memory_use(name: str) -> None:
    changed = dataclasses.replace(
        ARCHITECTURES[name], num_classes=0, in_channels=1, drop_rate=0.5, memory_efficient=True
    )
    assert architecture_of(changed) == name


@pytest.mark.parametrize(
    "change",
    [
        {"growth_rate": 24},
        {"block_config": (6, 12, 24)},
        {"num_init_features": 32},
        {"bn_size": 2},
        {"transition_pool": "max"},
        {"norm_eps": 1e-3},
        {"stem_padding": (2, 3)},
    ],
    ids=str,
)
def test_any_other_change_makes_a_network_without_a_name(change: dict[str, Any]) -> None:
    assert architecture_of(dataclasses.replace(ARCHITECTURES["densenet121"], **change)) is None


# Reading a config off shapes


@settings(deadline=None)
@given(config=configs, random=st.randoms(use_true_random=False))
def test_infer_config_inverts_tensor_shapes_in_any_order(config: DenseNetConfig, random: Any) -> None:
    items = list(config.tensor_shapes().items())
    random.shuffle(items)
    assert infer_config(dict(items)) == config


@settings(deadline=None)
@given(config=configs, data=st.data())
def test_a_tensor_that_is_missing_is_named_or_shows_in_the_inferred_shapes(
    config: DenseNetConfig, data: st.DataObject
) -> None:
    """What infer_config doesn't look at can't slip through the comparison that it asks for."""
    shapes = config.tensor_shapes()
    missing = data.draw(st.sampled_from(sorted(shapes)))
    del shapes[missing]
    try:
        found = infer_config(shapes)
    except ValueError as error:
        assert str(error) == f"{missing} is missing"  # noqa: PT017, refusal is one of two right answers
    else:
        assert found.tensor_shapes() != shapes


@settings(deadline=None)
@given(config=configs.filter(lambda c: max(c.block_config) > 1), data=st.data())
def test_a_gap_in_the_layers_of_a_block_is_named(config: DenseNetConfig, data: st.DataObject) -> None:
    longer = [number for number, layers in enumerate(config.block_config, start=1) if layers > 1]
    block = data.draw(st.sampled_from(longer))
    layer = data.draw(st.integers(1, config.block_config[block - 1] - 1))
    gap = f"features.denseblock{block}.denselayer{layer}"
    shapes = {name: s for name, s in config.tensor_shapes().items() if not name.startswith(f"{gap}.")}
    with pytest.raises(ValueError, match=rf"^{gap}(\.conv1\.weight)? is missing$"):
        infer_config(shapes)


def test_a_gap_in_the_blocks_is_named() -> None:
    config = dataclasses.replace(SMALL, block_config=(1, 1, 1))
    shapes = {name: s for name, s in config.tensor_shapes().items() if "denseblock2" not in name}
    with pytest.raises(ValueError, match=r"^features\.denseblock2 is missing$"):
        infer_config(shapes)


@pytest.mark.parametrize(
    "name",
    [
        "features.denseblock999999999.denselayer1.conv1.weight",
        "features.denseblock1.denselayer999999999.conv1.weight",
    ],
    ids=("block", "layer"),
)
def test_a_huge_number_in_a_name_is_refused_at_once(name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"denseblock(1\.denselayer)?3 is missing"):
        infer_config({**SMALL.tensor_shapes(), name: (8, 8, 1, 1)})
    assert time.perf_counter() - started < 1


def test_many_blocks_take_no_more_than_linear_time() -> None:
    names = (f"features.denseblock{block}.denselayer1.conv1.weight" for block in range(3, 20_000))
    shapes = {**SMALL.tensor_shapes(), **dict.fromkeys(names, (8, 8, 1, 1))}
    started = time.perf_counter()
    assert len(infer_config(shapes).block_config) == 19_999
    assert time.perf_counter() - started < 2


def test_a_number_of_thousands_of_digits_is_left_to_the_comparison_with_the_inferred_shapes() -> None:
    name = f"features.denseblock{'9' * 5000}.denselayer1.conv1.weight"
    assert infer_config({**SMALL.tensor_shapes(), name: (8, 8, 1, 1)}) == SMALL


CONV0 = "features.conv0.weight"
CONV1 = "features.denseblock1.denselayer1.conv1.weight"
CONV2 = "features.denseblock1.denselayer1.conv2.weight"


@pytest.mark.parametrize("name", [CONV0, CONV1, CONV2])
def test_a_deciding_tensor_that_is_missing_is_named(name: str) -> None:
    shapes = SMALL.tensor_shapes()
    del shapes[name]
    with pytest.raises(ValueError, match=rf"^{name} is missing$"):
        infer_config(shapes)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (CONV0, ()),
        (CONV0, (8, 3)),
        (CONV0, (8, 3, 7, 7, 7, 7)),
        (CONV0, (0, 3, 7, 7)),
        (CONV0, (8, 0, 7, 7)),
        (CONV1, (0, 8, 1, 1)),
        (CONV1, (8,)),
        (CONV1, (9, 8, 1, 1)),
        (CONV2, (0, 8, 3, 3)),
        (CONV2, (4, 8, 3, 3, 3)),
        ("classifier.weight", (10,)),
        ("classifier.weight", (0, 20)),
    ],
    ids=str,
)
def test_a_shape_that_no_densenet_has_is_refused_with_the_tensor_s_name(name: str, shape: Shape) -> None:
    with pytest.raises(ValueError, match=name):
        infer_config({**SMALL.tensor_shapes(), name: shape})


def test_no_tensors_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=rf"^{CONV0} is missing$"):
        infer_config({})


# What is imported

IMPORTS = """
import json, sys
import densenet_convert.densenet as densenet
roots = lambda: sorted({name.partition(".")[0] for name in sys.modules})
densenet.infer_config(densenet.DenseNetConfig().tensor_shapes())
described = roots()
import torch
densenet.DenseNet(densenet.DenseNetConfig(4, (1, 1), 4, 1))(torch.zeros(1, 3, 32, 32))
print(json.dumps([described, roots()]))
"""


@pytest.fixture(scope="module")
def imported() -> tuple[set[str], set[str]]:
    """Packages that a fresh process holds after reading a config, and after running a network."""
    run = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    described, ran = json.loads(run.stdout)
    return set(described), set(ran)


def test_reading_a_config_imports_neither_torch_nor_numpy(imported: tuple[set[str], set[str]]) -> None:
    assert not imported[0] & {"torch", "torchvision", "numpy", "safetensors", "huggingface_hub"}


def test_running_a_network_imports_no_library_but_torch(imported: tuple[set[str], set[str]]) -> None:
    assert "torch" in imported[1]
    assert not imported[1] & {"torchvision", "timm", "safetensors", "huggingface_hub", "click"}


@pytest.mark.parametrize(("architecture", "pairs"), [("densenet121", 31_257), ("densenet169", 60_721)])
def test_so_many_pairs_of_tensors_could_be_exchanged_and_still_load_strictly(
    architecture: str, pairs: int
) -> None:
    counts = Counter(shape for shape in ARCHITECTURES[architecture].tensor_shapes().values() if shape)
    assert sum(n * (n - 1) // 2 for n in counts.values()) == pairs
