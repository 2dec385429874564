"""Whatever a checkpoint is wrapped in, the whole way: read, convert, verify, and verify again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL, StateDict, in_2017_names, in_names_of, save, state_dict_of
from click.testing import CliRunner

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES, DenseNet, DenseNetConfig
from densenet_convert.errors import ArchitectureError, FolderError, LayoutError, ReadError
from densenet_convert.layouts import BUILT_IN

STATE = state_dict_of()


def under(prefix: str, state: StateDict, head: str = "classifier") -> StateDict:
    return {prefix + name.replace("classifier", head): tensor for name, tensor in state.items()}


def features(prefix: str, state: StateDict) -> StateDict:
    return {
        prefix + name.removeprefix("features."): tensor
        for name, tensor in state.items()
        if name.startswith("features.")
    }


def same_function(folder: Path, state: StateDict, config: DenseNetConfig = SMALL) -> None:
    expected = DenseNet(config).eval()
    expected.load_state_dict({n: t for n, t in state.items() if config.num_classes or "classifier" not in n})
    x = torch.rand(2, config.in_channels, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(DenseNet.from_pretrained(folder)(x), expected(x))


CHEXNET = {"epoch": 7, "state_dict": under("module.densenet121.", in_2017_names(STATE), "classifier.0")}
WRAPPED: dict[str, tuple[Any, str]] = {
    "CheXNet and its kin": (CHEXNET, "module.densenet121."),
    "DataParallel": (under("module.", STATE), "module."),
    "compiled, in DataParallel": (under("_orig_mod.module.", STATE), "_orig_mod.module."),
    "with counters of 2018": (under("module.", in_2017_names(STATE, counted=True)), "module."),
    "a head called fc": (under("model.", STATE, "fc"), "model."),
    "features alone, with a head": (
        {**features("base.", STATE), **{n: t for n, t in STATE.items() if n[0] == "c"}},
        "base.",
    ),
    "MONAI under a prefix": (under("net.", in_names_of("monai", STATE)), "net."),
    "gpleiss": (in_names_of("efficient-densenet", STATE), ""),
}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    monkeypatch.chdir(tmp_path)
    return lambda content: save(content, tmp_path / "old.pth")


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_checkpoint_is_converted_and_verified_with_and_without_its_source(
    name: str, source: Callable[[Any], Path]
) -> None:
    content, prefix = WRAPPED[name]
    path = source(content)
    written = dc.convert(path, "new")
    assert written.receipt["source"]["prefix"] == prefix
    same_function(written.folder, STATE)
    assert dc.verify("new").proof.largest == dc.verify("new", source=path).proof.largest


@pytest.mark.parametrize("layout", [one.name for one in BUILT_IN])
@pytest.mark.parametrize("classes", [0, 3])
def test_every_layout_is_identified_and_proven_against_its_own_library(
    layout: str, classes: int, source: Callable[[Any], Path]
) -> None:
    config = replace(SMALL, num_classes=classes, in_channels=1)
    state = state_dict_of(config)
    given = in_names_of(layout, state)
    if layout == "torchxrayvision":
        given["op_threshs"] = torch.rand(3)
    written = dc.convert(source(given), "new")
    assert written.receipt["source"]["layout"] == layout
    if layout == "keras-applications":
        config = replace(config, norm_eps=1.001e-5)
    same_function(written.folder, state, config)
    if layout in ("monai", "torchxrayvision"):
        pytest.importorskip(layout, reason=f"{layout} is not installed")
        assert "own network" in written.receipt["verification"]["reference"]
    assert dc.verify("new")


def test_what_a_layout_leaves_out_is_in_the_receipt_with_its_reason(source: Callable[[Any], Path]) -> None:
    config = replace(SMALL, in_channels=1)
    path = source({**state_dict_of(config), "op_threshs": torch.rand(5)})
    written = dc.convert(path, "new")
    (dropped,) = written.receipt["dropped"]
    assert dropped["source_name"] == "op_threshs"
    assert "thresholds" in dropped["because"]
    content = json.loads((written.folder / "config.json").read_bytes())
    assert content["problem_type"] == "multi_label_classification"
    prepared = content["pretrained_cfg"]
    # 255 becomes 1024 and 0 becomes -1024.
    assert [(x - prepared["mean"][0]) / prepared["std"][0] for x in (0.0, 1.0)] == [-1024, 1024]


def test_a_part_is_converted_by_the_user_s_decision_and_the_rest_is_listed(
    source: Callable[[Any], Path],
) -> None:
    path = source({**under("module.E.", STATE), "module.D.up.weight": torch.rand(3, 3)})
    with pytest.raises(LayoutError, match="--only module.E."):
        dc.convert(path, "new")
    written = dc.convert(path, "new", only="module.E.")
    assert written.receipt["dropped"] == [
        {"source_name": "module.D.up.weight", "because": "not under 'module.E.', left out by --only"}
    ]
    same_function(written.folder, STATE)
    assert dc.verify("new")
    assert dc.verify("new", source=path)


def test_features_of_something_larger_are_a_network_without_a_head(source: Callable[[Any], Path]) -> None:
    path = source({**features("base.", STATE), "embedding.weight": torch.rand(7, 7)})
    written = dc.convert(path, "new", only="base.")
    same_function(written.folder, STATE, replace(SMALL, num_classes=0))
    assert dc.verify("new")
    assert dc.verify("new", source=path)


def test_of_several_state_dicts_one_is_chosen_by_its_key(source: Callable[[Any], Path]) -> None:
    other = state_dict_of(seed=1)
    path = source({"state_dict": STATE, "ema": {"model": other}})
    with pytest.raises(
        ReadError, match="2 state dicts, which differ: 'state_dict', 'ema.model'. Choose one with --key"
    ):
        dc.convert(path, "new")
    written = dc.convert(path, "new", key="ema.model")
    assert written.receipt["source"]["container"] == "ema.model"
    same_function(written.folder, other)
    assert dc.verify("new", source=path)
    with pytest.raises(
        ReadError, match="no dict of tensors under 'swa', only under 'state_dict', 'ema.model'"
    ):
        dc.convert(path, "another", key="swa")


def test_what_is_asked_for_is_checked(source: Callable[[Any], Path]) -> None:
    path = source(under("module.", STATE))
    with pytest.raises(LayoutError, match="The nearest is torchvision-dotted"):
        dc.convert(path, "new", layout="torchvision-dotted")
    with pytest.raises(LayoutError, match="not under .model.."):
        dc.convert(path, "new", prefix="model.")
    with pytest.raises(ArchitectureError, match="not a densenet121"):
        dc.convert(path, "new", arch=121)
    with pytest.raises(LayoutError, match="leave --prefix out"):
        dc.convert(path, "new", prefix="module.", only="module.")
    assert dc.convert(path, "new", layout="torchvision", prefix="module")


def test_a_receipt_that_claims_to_have_left_out_what_is_no_part_is_refused(
    source: Callable[[Any], Path],
) -> None:
    from densenet_convert import receipt

    written = dc.convert(source(STATE), "new")
    content = {
        **written.receipt,
        "dropped": [{"source_name": "features.conv9.weight", "because": "no reason"}],
    }
    (written.folder / "conversion.json").write_text(receipt.seal(content))
    with pytest.raises(FolderError, match="'dropped'"):
        dc.verify("new")


def test_the_command_has_the_same_options(source: Callable[[Any], Path]) -> None:
    source({"a": under("m.", STATE), "b": under("m.", state_dict_of(seed=1))})
    options = ["--key", "b", "--only", "m.", "--layout", "torchvision", "--output", "new", "--json"]
    done = CliRunner().invoke(main, ["file", "old.pth", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["source"]["container"] == "b"


def test_a_densenet_121_of_keras_is_one(source: Callable[[Any], Path]) -> None:
    state = in_names_of("keras-applications", state_dict_of(ARCHITECTURES["densenet121"]))
    written = dc.convert(source(state), "new", arch=121)
    config = json.loads((written.folder / "config.json").read_bytes())
    # timm's has another epsilon, and could not be this function.
    assert "architecture" not in config
    assert config["norm_eps"] == 1.001e-5
    with pytest.raises(ArchitectureError, match="This is a densenet121, not a densenet169"):
        dc.convert(Path("old.pth"), "another", arch=169)
