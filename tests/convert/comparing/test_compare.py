"""A difference is named by its cause: each is made here by hand, in a small network, and compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from checkpoints import SMALL, StateDict, in_2017_names, in_names_of, state_dict_of
from compare_faults import catalogue, judge, sound, with_fault, written

from densenet_convert.api.compare import compare
from densenet_convert.api.compared import Comparison
from densenet_convert.densenet import DenseNet

STATE = state_dict_of()
STEM, NORM = "features.conv0.weight", "features.denseblock1.denselayer1.norm2"
OTHER_NORM = "features.denseblock3.denselayer1.norm2"


def compared(tmp_path: Path, b: StateDict, a: StateDict = STATE) -> Comparison:
    return compare(written(a, tmp_path / "a.safetensors"), written(b, tmp_path / "b.safetensors"))


def causes(found: Comparison) -> list[str]:
    return [one.cause for one in found.differences]


def noisy(share: float, names: str = "") -> StateDict:
    """The state with noise of so large a share in the tensors whose names hold ``names``."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: tensor + share * tensor.std() * torch.randn(tensor.shape, generator=generator)
        if names in name and tensor.numel() > 1
        else tensor
        for name, tensor in STATE.items()
    }


@pytest.mark.parametrize("layout", ["torchvision-dotted", "keras-applications", "timm-features", "monai"])
def test_the_same_tensors_are_the_same_network_in_every_layout(layout: str, tmp_path: Path) -> None:
    found = compared(tmp_path, in_names_of(layout, STATE))
    assert found.same
    assert found.differences == found.layers == ()
    assert {(part.equal, part.distance) for part in found.stages} == {
        (part.tensors, 0.0) for part in found.stages
    }


def test_counters_that_one_side_lacks_are_no_difference(tmp_path: Path) -> None:
    assert compared(tmp_path, in_2017_names(STATE)).same


def test_stages_go_from_the_stem_to_the_classifier(tmp_path: Path) -> None:
    found = compared(tmp_path, {**STATE, STEM: STATE[STEM] * 2})
    assert [part.name for part in found.stages] == [
        *("stem", "denseblock1", "transition1", "denseblock2", "transition2"),
        *("denseblock3", "transition3", "denseblock4", "norm5", "classifier"),
    ]
    norms = [STATE[f"features.norm0.{field}"] for field in ("weight", "bias", "running_mean", "running_var")]
    size = sum(float(tensor.double().square().sum()) for tensor in (STATE[STEM], *norms))
    expected = (float(STATE[STEM].double().square().sum()) / size) ** 0.5
    assert found.stages[0].distance == pytest.approx(expected, rel=1e-9)
    assert [(part.name, part.distance) for part in found.layers] == [("features.conv0", 1.0)]


def _exchanged(state: StateDict, one: str, other: str) -> StateDict:
    moved = {name: name.replace(one, "?").replace(other, one).replace("?", other) for name in state}
    return {name: state[moved[name]] for name in state}


ORDER = Random(0).sample(range(5), 5)
MADE: dict[str, tuple[str, Callable[[], StateDict], set[str]]] = {
    "two norms": ("exchanged", lambda: _exchanged(STATE, NORM, OTHER_NORM), {NORM, OTHER_NORM}),
    "two fields": (
        "exchanged",
        lambda: {
            **STATE,
            f"{NORM}.weight": STATE[f"{NORM}.running_var"],
            f"{NORM}.running_var": STATE[f"{NORM}.weight"],
        },
        {f"{NORM}.weight", f"{NORM}.running_var"},
    ),
    "two layers": (
        "exchanged",
        lambda: _exchanged(
            STATE, "features.denseblock1.denselayer1.norm2", "features.denseblock1.denselayer2.norm2"
        ),
        {"features.denseblock1.denselayer1.norm2", "features.denseblock1.denselayer2.norm2"},
    ),
    "a copy": ("copied", lambda: {**STATE, f"{NORM}.bias": STATE[f"{OTHER_NORM}.bias"]}, {f"{NORM}.bias"}),
    "pruned": ("pruned", lambda: {**STATE, STEM: STATE[STEM] * (STATE[STEM] > 0)}, {STEM}),
    "integers": ("dtype", lambda: {**STATE, STEM: STATE[STEM].to(torch.int8)}, {STEM}),
    "BGR": ("channels", lambda: {**STATE, STEM: STATE[STEM].flip(1)}, {STEM}),
    "axes": ("axes", lambda: {**STATE, STEM: STATE[STEM].transpose(2, 3)}, {STEM}),
    "filters": ("entries", lambda: {**STATE, STEM: STATE[STEM].flip(0)}, {STEM}),
    "classes": (
        "rows",
        lambda: {**STATE, **{name: STATE[name][ORDER] for name in STATE if name.startswith("classifier.")}},
        {"classifier.weight", "classifier.bias"},
    ),
    "statistics": (
        "statistics",
        lambda: noisy(0.2, "running_"),
        {name for name in STATE if "running_" in name},
    ),
    "head": (
        "head",
        lambda: {
            **STATE,
            "classifier.weight": torch.rand(9, SMALL.num_features),
            "classifier.bias": torch.rand(9),
        },
        {"classifier.weight", "classifier.bias"},
    ),
    "no head": (
        "head",
        lambda: {n: t for n, t in STATE.items() if "classifier" not in n},
        {"classifier.weight", "classifier.bias"},
    ),
    "another head of as many classes": (
        "head",
        lambda: {
            **STATE,
            "classifier.weight": 3 * torch.rand(5, SMALL.num_features),
            "classifier.bias": -torch.ones(5),
        },
        {"classifier.weight", "classifier.bias"},
    ),
    "trained on": (
        "fine-tuned",
        lambda: noisy(0.05),
        {name for name, tensor in STATE.items() if tensor.numel() > 1},
    ),
    "double": (
        "dtype",
        lambda: {n: t.double() if t.is_floating_point() else t for n, t in STATE.items()},
        {n for n in STATE if "tracked" not in n},
    ),
    "half": (
        "rounded",
        lambda: {n: t.half() if t.is_floating_point() else t for n, t in STATE.items()},
        {n for n in STATE if "tracked" not in n},
    ),
    "bfloat16": (
        "rounded",
        lambda: {n: t.bfloat16() if t.is_floating_point() else t for n, t in STATE.items()},
        {n for n in STATE if "tracked" not in n},
    ),
    "counters": (
        "counters",
        lambda: {n: t + 7 if "tracked" in n else t for n, t in STATE.items()},
        {n for n in STATE if "tracked" in n},
    ),
    "another network": (
        "architecture",
        lambda: state_dict_of(SMALL.__class__(**{**vars(SMALL), "growth_rate": 6})),
        {"growth_rate"},
    ),
    "grey images": ("shapes", lambda: {**STATE, STEM: STATE[STEM].sum(1, keepdim=True)}, {STEM}),
    "names of nobody": (
        "renamed",
        lambda: {f"t{i}": t for i, t in enumerate(STATE.values()) if t.numel() > 1},
        {n for n, t in STATE.items() if t.numel() > 1},
    ),
}


@pytest.mark.parametrize("made", MADE)
def test_a_difference_has_one_cause_and_its_names(made: str, tmp_path: Path) -> None:
    cause, make, names = MADE[made]
    found = compared(tmp_path, make())
    assert causes(found) == [cause], found.differences
    assert set(found.differences[0].names) == names
    assert not found.same


def test_what_was_never_loaded_is_at_its_initial_values(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = compared(tmp_path, dict(DenseNet(SMALL).state_dict()))
    assert "initial" in causes(found)
    initial = next(one for one in found.differences if one.cause == "initial")
    assert {name for name in STATE if ".norm" in name and "tracked" not in name} <= set(initial.names)


def test_the_side_that_was_rounded_is_named(tmp_path: Path) -> None:
    halves = {name: t.half().float() if t.is_floating_point() else t for name, t in STATE.items()}
    (one,) = compared(tmp_path, halves).differences
    (other,) = compared(tmp_path, STATE, halves).differences
    assert one.text.startswith("B holds A's numbers after a round trip through float16: ")
    assert other.text.startswith("A holds B's numbers after a round trip through float16: ")


def test_causes_stand_together_and_counters_last(tmp_path: Path) -> None:
    b = _exchanged(noisy(0.05, "denseblock4"), NORM, OTHER_NORM)
    b |= {name: t + 1 for name, t in b.items() if "tracked" in name}
    assert causes(compared(tmp_path, b)) == ["exchanged", "fine-tuned", "counters"]


def test_numbers_that_are_not_finite_have_no_distance(tmp_path: Path) -> None:
    found = compared(tmp_path, {**STATE, STEM: torch.full_like(STATE[STEM], torch.nan)})
    assert causes(found) == ["values"]
    assert found.stages[0].distance is None


def test_kernels_in_another_order_of_axes_under_the_usual_names(tmp_path: Path) -> None:
    b = {name: tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor for name, tensor in STATE.items()}
    (one,) = compared(tmp_path, b).differences
    assert (one.cause, set(one.names)) == ("axes", {name for name, t in STATE.items() if t.ndim == 4})


def test_the_same_fields_exchanged_in_many_layers_are_one_difference(tmp_path: Path) -> None:
    (one,) = compared(tmp_path, _exchanged(STATE, "running_mean", "running_var")).differences
    assert one.cause == "exchanged"
    assert one.text.startswith(
        "running_mean and running_var, two fields of one layer, are exchanged: features.norm0"
    )
    assert set(one.names) == {name for name in STATE if "running_" in name}


def test_networks_that_were_trained_apart_are_unlike(tmp_path: Path) -> None:
    assert causes(compared(tmp_path, state_dict_of(seed=4))) == ["head", "values"]


def test_a_sample_of_the_catalogue_is_named_exactly(tmp_path: Path) -> None:
    loaded = sound("small", 2, tmp_path)
    a = written(loaded.renamed.tensors, tmp_path / "a.safetensors")
    judged = [
        judge(fault, a, written(with_fault(loaded, fault), tmp_path / "b.safetensors"))
        for fault in catalogue(loaded, sites=2, pairs=2, seed=2)
    ]
    assert len({one.kind for one in judged}) > 12
    assert [one for one in judged if not one.exact] == []
