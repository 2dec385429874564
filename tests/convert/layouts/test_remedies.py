"""Weights that are computed from others, or lie in several files, are refused with the call that ends it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL, save, state_dict_of
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

import densenet_convert as dc
from densenet_convert.api.inspection import inspect
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import ConvertError, LayoutError

STATE = state_dict_of()


def network() -> DenseNet:
    made = DenseNet(SMALL)
    made.load_state_dict(STATE)
    return made.eval()


NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "remove_weight_norm": weight_norm,
    "remove_spectral_norm": spectral_norm,
    "remove_parametrizations": parametrizations.weight_norm,
    "parametrize": parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_the_call_ends_a_weight_that_is_computed(norm: str, whole: bool, tmp_path: Path) -> None:
    model = nn.Module()
    model.net = network()
    for layer in (model.net.classifier, model.net.features.conv0):  # type: ignore[union-attr]
        NORMS[norm](layer)
    if whole and hasattr(model.net.classifier, "parametrizations"):  # torch pickles no such module
        return
    source = save(model if whole else model.state_dict(), tmp_path / "source.pth")
    with pytest.raises(ConvertError, match=norm) as error:
        dc.convert(source, tmp_path / "new", device="cpu")
    calls = re.findall(r"call (torch\.nn\.utils\.\S+\(.*\)), and likewise for (\S+), and", str(error.value))
    assert calls, str(error.value)
    assert "tampered" not in str(error.value)
    eval(calls[0][0])
    eval(calls[0][0].replace("net.features.conv0", calls[0][1]))
    assert not parametrize.is_parametrized(model.net.classifier)
    if whole:
        return
    written = dc.convert(save(model.state_dict(), source), tmp_path / "new", device="cpu")
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(DenseNet.from_pretrained(written.folder)(x), model.net(x))  # type: ignore[operator]


def test_low_rank_factors_are_to_be_merged_by_their_library(tmp_path: Path) -> None:
    state = {name.replace("classifier.", "classifier.base_layer."): value for name, value in STATE.items()}
    state |= {"classifier.lora_A.default.weight": torch.rand(2, SMALL.num_features)}
    state |= {"classifier.lora_B.default.weight": torch.rand(5, 2)}
    source = save({f"base_model.model.{name}": value for name, value in state.items()}, tmp_path / "lora.bin")
    with pytest.raises(LayoutError, match=r"LoRA.*merge_and_unload\(\)"):
        dc.convert(source, tmp_path / "new", device="cpu")


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_the_command_merges_a_checkpoint_of_several_files(suffix: str, tmp_path: Path) -> None:
    names = list(STATE)
    for number, part in enumerate((names[:40], names[40:]), start=1):
        path = tmp_path / f"model-{number:05}-of-00002.{suffix}"
        state = {name: STATE[name] for name in part}
        save_file(state, path) if suffix == "safetensors" else save(state, path)
    with pytest.raises(ConvertError, match="file 1 of 2 of one checkpoint") as error:
        dc.convert(tmp_path / f"model-00001-of-00002.{suffix}", tmp_path / "new", device="cpu")
    python, option, code = shlex.split(str(error.value).splitlines()[1])
    assert (python, option) == ("python", "-c")
    exec(code, {})
    assert inspect(tmp_path / f"model-whole.{suffix}").config == SMALL
