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
from densenet_convert.layout import Layout
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
    sides = (64, 96, 48)[: config.spatial_dims]
    x = torch.rand(2, config.in_channels, *sides, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(DenseNet.from_pretrained(folder)(x), expected(x))


CHEXNET = {"epoch": 7, "state_dict": under("module.densenet121.", in_2017_names(STATE), "classifier.0")}
WRAPPED: dict[str, tuple[Any, str]] = {
    "CheXNet and its kin": (CHEXNET, "module.densenet121."),
    "DataParallel": (under("module.", STATE), "module."),
    "compiled, in DataParallel": (under("_orig_mod.module.", STATE), "_orig_mod.module."),
    "with counters of 2018": (under("module.", in_2017_names(STATE, counted=True)), "module."),
    "a head called fc": (under("model.", STATE, "fc"), "model."),
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


@pytest.mark.parametrize("final_relu", [True, False])
def test_whether_a_relu_stands_before_a_head_that_is_elsewhere_is_the_user_s_to_say(
    final_relu: bool, source: Callable[[Any], Path]
) -> None:
    head = {name: tensor for name, tensor in STATE.items() if name.startswith("classifier.")}
    path = source({**features("base.", STATE), **head})
    with pytest.raises(
        LayoutError, match=r"`final_relu=True`; .*\ndc\.convert\('\S+old.pth', only='base\.'\)$"
    ):
        dc.convert(path, "new")
    written = dc.convert(path, "new", final_relu=final_relu)
    same_function(written.folder, STATE, replace(SMALL, final_relu=final_relu))
    assert not any("ReLU stands behind" in one["what"] for one in written.receipt["assumptions"])
    for again in (dc.verify("new"), dc.verify("new", source=path)):
        assert again.proof.largest == {**again.proof.largest, "logits": 0.0}


@pytest.mark.parametrize(
    ("table", "classes"),
    [*((one, 3) for one in BUILT_IN), *((one, 0) for one in BUILT_IN[::2])],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_every_layout_is_identified_and_proven_against_its_own_library(
    table: Layout, classes: int, source: Callable[[Any], Path]
) -> None:
    layout = table.name
    dimensions = 2 if 2 in table.dimensions else 3
    config = replace(SMALL, num_classes=classes, in_channels=1, spatial_dims=dimensions)
    state = state_dict_of(config)
    given = in_names_of(layout, state)
    if layout == "torchxrayvision":
        given["op_threshs"] = torch.rand(3)
    options = {"final_relu": True} if table.relu == "unknown" else {}
    written = dc.convert(source(given), "new", **options)
    assert written.receipt["source"]["layout"] == layout
    config = replace(config, **table.overrides)
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
    path = source({**under("module.E.", STATE), "module.decoder.weight": torch.rand(3, 3)})
    with pytest.raises(LayoutError, match=r"\ndc\.convert\('\S+old.pth', only='module\.E\.'\)$"):
        dc.convert(path, "new")
    written = dc.convert(path, "new", only="module.E.")
    assert written.receipt["dropped"] == [
        {"source_name": "module.decoder.weight", "because": "not under 'module.E.', left out by --only"}
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
        ReadError, match="2 state dicts, which differ: 'state_dict', 'ema.model'. Choose one with `key="
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
    with pytest.raises(LayoutError, match="leave `prefix=...` out"):
        dc.convert(path, "new", prefix="module.", only="module.")
    assert dc.convert(path, "new", layout="torchvision", prefix="module")


def test_a_receipt_that_claims_to_have_left_out_what_is_no_part_is_refused(
    source: Callable[[Any], Path],
) -> None:
    from densenet_convert.folder import receipt

    written = dc.convert(source(STATE), "new")
    content = {
        **written.receipt,
        "dropped": [{"source_name": "features.conv9.weight", "because": "no reason"}],
    }
    (written.folder / "conversion.json").write_text(receipt.seal(content))
    with pytest.raises(FolderError, match="'dropped'"):
        dc.verify("new")


@pytest.mark.parametrize("legacy", [True, False])
def test_state_dicts_that_hold_the_same_values_are_one(legacy: bool, tmp_path: Path) -> None:
    copied = {name: tensor.clone() for name, tensor in STATE.items()}
    path = save({"state_dict": STATE, "ema": copied}, tmp_path / "old.pth", legacy=legacy)
    assert dc.convert(path, tmp_path / "new").receipt["source"]["container"] == "state_dict"
    copied["features.norm0.bias"][3] += 1
    with pytest.raises(ReadError, match="2 state dicts, which differ: 'state_dict', 'ema'"):
        dc.convert(save({"state_dict": STATE, "ema": copied}, path, legacy=legacy), tmp_path / "other")


def test_what_is_left_out_is_said_and_so_is_another_epsilon(source: Callable[[Any], Path]) -> None:
    source({**in_names_of("keras-applications", STATE), "decoder/kernel": torch.rand(7, 7)})
    done = CliRunner().invoke(main, ["file", "old.pth", "--only", "", "--output", "new"])
    assert done.exit_code == 0, done.output
    assert "  left out    decoder/kernel\n" in done.stdout
    beware = "torchvision's network would take these weights and compute something else: norm_eps 1.001e-05"
    assert beware in done.stdout
    assert f"timm and transformers have no such network, and {beware}." in Path("new/README.md").read_text()


def test_what_was_converted_already_keeps_its_epsilon(
    source: Callable[[Any], Path], caplog: pytest.LogCaptureFixture
) -> None:
    first = dc.convert(source(in_names_of("keras-applications", STATE)), "first")
    weights = first.folder / "model.safetensors"
    again = dc.convert(weights, "again")
    assert again.receipt["config"] == first.receipt["config"]
    assert "was converted already: labels, license and receipt" in caplog.text
    assert dc.verify("again")
    assert dc.verify("again", source=weights)
    with pytest.raises(FolderError, match="first, which would be replaced"):
        dc.convert(weights, "first", force=True)


@pytest.mark.parametrize("output", ["first/deeper", "first/deeper/still"])
def test_nothing_is_written_into_a_folder_whose_files_are_counted(
    source: Callable[[Any], Path], output: str
) -> None:
    path = source(STATE)
    dc.convert(path, "first")
    for write in (lambda: dc.convert(path, output), lambda: dc.export("first", "monai", output, force=True)):
        with pytest.raises(
            FolderError, match="first, which densenet-convert wrote, and whose files are counted"
        ):
            write()
    (outcome,) = dc.convert_many([path], "first")
    assert outcome.error == "FolderError"
    assert dc.verify("first")


@pytest.mark.parametrize("name", ["", "https://example.org/x.pth"])
def test_what_is_no_file_is_not_taken_for_the_working_folder(
    source: Callable[[Any], Path], name: str
) -> None:
    source(STATE)
    for read in (
        lambda: dc.convert(name, "new"),
        lambda: dc.inspect(name),
        lambda: list(dc.convert_many([name], "new")),
        lambda: dc.verify(name),
        lambda: dc.export(name, "monai"),
    ):
        with pytest.raises(ReadError, match=r"An empty name was given|is an address\. Fetch it"):
            read()


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
    assert config["architecture"] == "densenet-convert"
    assert config["norm_eps"] == 1.001e-5
    with pytest.raises(ArchitectureError, match="This is a densenet121, not a densenet169"):
        dc.convert(Path("old.pth"), "another", arch=169)
