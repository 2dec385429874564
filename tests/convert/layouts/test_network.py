"""Which network a source holds is answered once: for what inspects a file, and for what converts it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints import SMALL, checkpoint_of, state_dict_of
from corpus import SOUND

from densenet_convert.api.inspection import inspect
from densenet_convert.densenet import DenseNetConfig
from densenet_convert.errors import ArchitectureError, ConvertError, LayoutError
from densenet_convert.layouts.attempt import architecture_name
from densenet_convert.layouts.network import identify_network
from densenet_convert.records import Options
from densenet_convert.source.read import read_checkpoint

Answer = tuple[str | None, str | None, DenseNetConfig | None, str | None]


def inspected(path: Path) -> Answer:
    found = inspect(path)
    return found.layout, found.prefix, found.config, found.problem


def converted(path: Path) -> Answer:
    """What a conversion goes by, without its proof; the reading is not told where another step refuses."""
    checkpoint = read_checkpoint(path)
    try:
        network = identify_network(checkpoint, Options(), checkpoint.norm_eps, source=str(path))
    except ConvertError as error:
        return None, None, None, str(error)
    return network.reading.layout.name, network.reading.prefix, network.config, None


def test_inspect_and_convert_give_one_answer_for_every_sound_file_of_the_corpus(tmp_path: Path) -> None:
    answers = set()
    for name, make in SOUND.items():
        path = make(tmp_path).path
        found, used = inspected(path), converted(path)
        assert found[2:] == used[2:], name
        assert found[:2] == used[:2] or used[2] is None, name
        answers.add(used[2] is not None)
    assert answers == {True, False}  # some are whole networks, and some are a few tensors


def test_a_tensor_with_other_axes_than_the_layout_says_is_named_with_both() -> None:
    state = {"conv1_conv/kernel": torch.ones(7, 7, 3), "bn/gamma": torch.ones(3)}
    with pytest.raises(LayoutError, match=r"conv1_conv/kernel has shape \[7, 7, 3\], expected 4 dimensions"):
        identify_network(checkpoint_of(state), Options(layout="keras"))


def test_the_epsilon_beside_the_source_is_the_network_s() -> None:
    assert identify_network(checkpoint_of(state_dict_of()), Options(), 1e-3).config.norm_eps == 1e-3
    assert identify_network(checkpoint_of(state_dict_of()), Options()).config == SMALL


@pytest.mark.parametrize("arch", [169, "169", "densenet169"])
def test_an_architecture_is_named_by_its_number_or_its_name(arch: str | int) -> None:
    assert architecture_name(arch) == "densenet169"


def test_an_architecture_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(ArchitectureError, match="There is no densenet122, expected one of densenet121"):
        architecture_name(122)


def test_no_labels_are_advised_for_the_features_alone() -> None:
    checkpoint = checkpoint_of(state_dict_of())
    with pytest.raises(LayoutError) as error:
        identify_network(checkpoint, Options(head="fc", labels="names.txt", multi_label=True), source="a.pth")
    assert str(error.value).splitlines()[1:] == ["dc.convert('a.pth', only='features.')"]
