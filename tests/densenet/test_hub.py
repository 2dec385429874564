"""A folder loads strictly into the network that it describes, and into other people's, with difference 0."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from checkpoints import SMALL, in_2017_names, save, state_dict_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import densenet_convert
from densenet_convert.densenet import ARCHITECTURES, DenseNet, DenseNetConfig
from densenet_convert.densenet.config_file import FILE_NAME
from densenet_convert.densenet.hub import WEIGHTS

UNUSUAL = replace(SMALL, norm_eps=1e-3, transition_pool="max", stem_padding=(2, 3), drop_rate=0.25)


def folder_of(config: DenseNetConfig, folder: Path) -> Path:
    model = DenseNet(config)
    model.load_state_dict(state_dict_of(config))
    model.save_pretrained(folder)
    return folder


def run(network: nn.Module, channels: int = 3) -> Tensor:
    x = torch.rand(2, channels, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output: Tensor = network(x.to(next(network.parameters()).dtype))
    return output


@pytest.mark.parametrize(
    "config",
    [SMALL, UNUSUAL, replace(SMALL, num_classes=0), replace(SMALL, num_classes=1, in_channels=1)],
)
def test_what_was_saved_is_loaded_again_as_it_was(config: DenseNetConfig, tmp_path: Path) -> None:
    folder = folder_of(config, tmp_path / "new")
    loaded = DenseNet.from_pretrained(folder)
    assert loaded.config == config
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    expected = DenseNet(config)
    expected.load_state_dict(load_file(folder / WEIGHTS))
    assert all(map(torch.equal, loaded.state_dict().values(), expected.state_dict().values()))
    # To the last bit but one: MKL sums otherwise where a mapped file puts the classifier's weight.
    torch.testing.assert_close(run(loaded, config.in_channels), run(expected.eval(), config.in_channels))


def test_labels_and_pre_processing_are_saved_again_byte_for_byte(converted: Path, tmp_path: Path) -> None:
    stated = {"labels": ["é", "b", "c", "d", "e"], "mean": 0.5, "std": 0.25, "input_size": 320}
    folder = Path(shutil.copytree(converted, tmp_path / "first"))
    densenet_convert.describe(folder, **stated, multi_label=True)  # type: ignore[arg-type]
    model = DenseNet.from_pretrained(folder)
    model.save_pretrained(tmp_path / "second")
    for name in (FILE_NAME, WEIGHTS):
        assert (tmp_path / "second" / name).read_bytes() == (folder / name).read_bytes()
    model.classifier = nn.Linear(SMALL.num_features, 7)
    model.config = replace(model.config, num_classes=7)
    model.save_pretrained(tmp_path / "tuned")
    content = json.loads((tmp_path / "tuned" / FILE_NAME).read_bytes())
    assert not {"label_names", "problem_type"} & content.keys()
    assert content["pretrained_cfg"]["input_size"] == [3, 320, 320]
    assert content["pretrained_cfg"]["num_classes"] == 7


@pytest.mark.parametrize("wrong", [3, {"a": 1}, [1, 2, 3, 4, 5]])
def test_what_a_config_file_claims_in_another_form_is_not_saved_again(wrong: Any, tmp_path: Path) -> None:
    folder = folder_of(SMALL, tmp_path / "new")
    before = (folder / FILE_NAME).read_bytes()
    claims = {"label_names": wrong, "problem_type": [wrong], "pretrained_cfg": [wrong]}
    (folder / FILE_NAME).write_text(json.dumps({**json.loads(before), **claims}))
    DenseNet.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / FILE_NAME).read_bytes() == before


def test_a_network_that_is_not_what_its_config_says_is_not_saved(tmp_path: Path) -> None:
    model = DenseNet(SMALL)
    model.classifier = nn.Linear(SMALL.num_features, 7)
    with pytest.raises(ValueError, match="num_classes 5, and its tensors 7"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    model.config = replace(model.config, num_classes=7)
    model.save_pretrained(tmp_path / "new")
    assert DenseNet.from_pretrained(tmp_path / "new").classifier.out_features == 7


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_both_files_have_one_mode(tmp_path: Path) -> None:
    folder = folder_of(SMALL, tmp_path)
    assert (folder / WEIGHTS).stat().st_mode == (folder / FILE_NAME).stat().st_mode


@pytest.mark.parametrize("architecture", ["densenet121", "densenet161"])
def test_a_converted_folder_is_the_same_function_in_every_library(architecture: str, tmp_path: Path) -> None:
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    config = ARCHITECTURES[architecture]
    source = save(in_2017_names(state_dict_of(config)), tmp_path / "old.pth")
    folder = densenet_convert.convert(source, tmp_path / "new", device="cpu").folder
    reference = torchvision.models.get_model(architecture)
    reference.load_state_dict(load_file(folder / WEIGHTS))
    expected = run(reference.eval())
    wrapped, info = transformers.AutoModelForImageClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    others = {
        "ours": DenseNet.from_pretrained(folder),
        "timm": timm.create_model(f"local-dir:{folder}", pretrained=True).eval(),
        "transformers": wrapped.timm_model.eval(),
    }
    for name, network in others.items():
        assert torch.equal(run(network), expected), name


def test_other_libraries_refuse_a_network_that_they_have_not(tmp_path: Path) -> None:
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    folder = folder_of(replace(ARCHITECTURES["densenet121"], norm_eps=1e-3), tmp_path)
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)
    # transformers has another class of error in each of its versions.
    with pytest.raises(Exception, match="densenet-convert|Unknown model"):
        transformers.AutoModelForImageClassification.from_pretrained(folder)


def test_loading_is_silent_and_keeps_the_dtype(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(SMALL, tmp_path / "new")
    half = {name: t.half() if t.is_floating_point() else t for name, t in load_file(folder / WEIGHTS).items()}
    save_file(half, folder / WEIGHTS, metadata={"format": "pt"})
    assert next(DenseNet.from_pretrained(folder).parameters()).dtype == torch.float16
    assert capfd.readouterr().out == ""


def test_loading_does_not_touch_the_random_state(tmp_path: Path) -> None:
    folder = folder_of(SMALL, tmp_path / "new")
    before = torch.get_rng_state()
    DenseNet.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("change", [{"classifier.bias": None}, {"surplus": torch.zeros(1)}])
def test_loading_is_strict(change: dict[str, Tensor | None], tmp_path: Path) -> None:
    folder = folder_of(SMALL, tmp_path / "new")
    tensors = {**load_file(folder / WEIGHTS), **change}
    save_file({name: t for name, t in tensors.items() if t is not None}, folder / WEIGHTS)
    with pytest.raises((RuntimeError, ValueError), match=next(iter(change))):
        DenseNet.from_pretrained(folder)


def test_a_subclass_loads_as_itself(tmp_path: Path) -> None:
    class Mine(DenseNet):
        pass

    DenseNet(SMALL).save_pretrained(tmp_path)
    assert type(Mine.from_pretrained(tmp_path)) is Mine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"growth_rate": 5}, "says growth_rate 5, and its tensors 4"),
        ({"block_config": [2, 3, 1, 1000000000]}, "says block_config"),
        ({"num_classes": 6}, "says num_classes 6, and its tensors 5"),
        ({"norm_eps": "small"}, "value of another type"),
        ({"norm_eps": -1.0}, "norm_eps is -1.0, expected a positive number"),
        ({"stem_padding": None}, "value of another type"),
    ],
)
def test_a_config_file_that_describes_another_network_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = folder_of(SMALL, tmp_path / "new")
    content = json.loads((folder / FILE_NAME).read_bytes())
    (folder / FILE_NAME).write_text(json.dumps({**content, **change}))
    with pytest.raises(ValueError, match=message):
        DenseNet.from_pretrained(folder)


@pytest.mark.parametrize("text", ["[]", "no JSON", "3"])
def test_what_is_no_config_file_is_refused(text: str, tmp_path: Path) -> None:
    folder = folder_of(SMALL, tmp_path / "new")
    (folder / FILE_NAME).write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 (json's own message, or ours)
        DenseNet.from_pretrained(folder)


def test_a_config_file_of_others_that_says_less_is_enough(tmp_path: Path) -> None:
    folder = folder_of(SMALL, tmp_path / "new")
    (folder / FILE_NAME).write_text('{"architecture": "densenet121", "num_classes": 5}')
    assert DenseNet.from_pretrained(folder).config == SMALL


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = folder_of(SMALL, tmp_path / "new")
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=WEIGHTS):
        DenseNet.from_pretrained(folder)


@pytest.mark.parametrize("name", ["./missing", "a/b/c", "/nowhere"])
def test_what_is_neither_a_folder_nor_a_repository_is_said_to_be_neither(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder here, and no name of a repository"):
        DenseNet.from_pretrained(name)


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no revision 'main'"):
        DenseNet.from_pretrained(folder_of(SMALL, tmp_path / "new"), revision="main")


def test_a_repository_is_fetched_at_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    folder, asked = folder_of(SMALL, tmp_path / "new"), {}

    def fetch(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert DenseNet.from_pretrained("user/name", revision="v1", token="secret").config == SMALL
    assert asked == {
        "name": "user/name",
        "revision": "v1",
        "token": "secret",
        "allow_patterns": [FILE_NAME, WEIGHTS, "conversion.json"],
    }


def test_other_files_beside_a_conversion_are_named(
    converted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(converted, tmp_path / "new"))
    assert DenseNet.from_pretrained(folder).config == SMALL
    assert caplog.text == ""
    (folder / "LICENSE").touch()
    assert DenseNet.from_pretrained(folder).config == SMALL
    assert "not covered by conversion.json: 'LICENSE'" in caplog.text
