"""Coverage says which elements the proof sees, and is right about it."""

from __future__ import annotations

import pytest
import torch
from checkpoints import SMALL, checkpoint_of, renamed_as, state_dict_of

from densenet_convert.densenet import DenseNet
from densenet_convert.folder.receipt import describe_proof
from densenet_convert.folder.text import _dead
from densenet_convert.layouts import TORCHVISION
from densenet_convert.proof import verification
from densenet_convert.proof.coverage import CoverageMeter
from densenet_convert.proof.layers import watching
from densenet_convert.proof.load import load_model
from densenet_convert.proof.references.reference import load_reference
from densenet_convert.proof.verification import _while_it_shows_more, verify_model
from densenet_convert.results import EveryInput, Proof

NORM = "features.denseblock2.denselayer2.norm2"


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if names told nothing: then the numbers are measured."""
    unknown = EveryInput("unknown", "unknown", "unknown", "a test says so")
    monkeypatch.setattr(verification, "summarise", lambda *_: unknown)


def proof_of(state: dict[str, torch.Tensor]) -> Proof:
    checkpoint = checkpoint_of(state)
    loaded = load_model(renamed_as(TORCHVISION, checkpoint), SMALL)
    return verify_model(
        loaded, load_reference(checkpoint, loaded.renamed.reading, SMALL), torch.device("cpu")
    )


def planted() -> dict[str, torch.Tensor]:
    """A channel whose norm lets nothing through: no weight that reads it can matter."""
    state = state_dict_of()
    state[f"{NORM}.weight"][3] = 0
    state[f"{NORM}.bias"][3] = -1
    return state


def network_of(state: dict[str, torch.Tensor]) -> DenseNet:
    model = DenseNet(SMALL)
    model.load_state_dict(state)
    return model.eval()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 4 - 2


@pytest.mark.usefixtures("nothing_known")
def test_random_weights_are_seen_and_reach_the_logits() -> None:
    proof = proof_of(state_dict_of())
    assert proof.parameters.total > 0.999
    assert proof.statistics.total == 1
    assert proof.dead == {}
    assert proof.reaching.total > 0.97
    assert len(proof.inputs) == 3


@pytest.mark.usefixtures("nothing_known")
def test_every_parameter_has_a_share() -> None:
    proof = proof_of(state_dict_of())
    parameters = {n for n in SMALL.tensor_shapes() if n.endswith(("weight", "bias"))}
    assert set(proof.parameters.shares) == set(proof.reaching.shares) == parameters
    assert set(proof.statistics.shares) == {n for n in SMALL.tensor_shapes() if n.endswith(("mean", "var"))}


@pytest.mark.usefixtures("nothing_known")
def test_a_dead_channel_is_found_and_named() -> None:
    proof = proof_of(planted())
    reader = NORM.replace("norm2", "conv2") + ".weight"
    # With a weight of 0 neither statistic of the channel can change what the norm puts out.
    assert proof.dead == {reader: (3,), f"{NORM}.running_mean": (3,), f"{NORM}.running_var": (3,)}
    width = SMALL.bn_size * SMALL.growth_rate
    assert proof.parameters.shares[reader] == (width - 1) / width
    assert proof.statistics.shares[f"{NORM}.running_mean"] == (width - 1) / width
    # What feeds the channel is compared, and does not reach the logits.
    feeder = NORM.replace("norm2", "conv1") + ".weight"
    assert proof.parameters.shares[feeder] == 1
    for name in (f"{NORM}.weight", f"{NORM}.bias", feeder, reader):
        assert proof.reaching.shares[name] <= (width - 1) / width


@pytest.mark.usefixtures("nothing_known")
def test_an_input_is_added_for_a_dead_channel_and_no_further_one_if_it_shows_no_life() -> None:
    modes = [mode for mode, _ in proof_of(planted()).inputs]
    assert modes == ["eval", "train", "eval", "eval"]


@pytest.mark.parametrize(("found", "added"), [([{}], 0), ([{"a": (1, 2)}, {"a": (1,)}, {"a": (1,)}], 2)])
def test_inputs_are_added_until_they_show_no_more(
    found: list[dict[str, tuple[int, ...]]], added: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sight = CoverageMeter(DenseNet(SMALL))
    monkeypatch.setattr(sight, "dead_channels", iter(found).__next__)
    assert len(list(_while_it_shows_more((1, 3, 64, 64), sight))) == added


@pytest.mark.usefixtures("nothing_known")
def test_the_receipt_and_the_terminal_name_what_is_unseen() -> None:
    described = describe_proof(proof_of(planted()))["coverage"]
    reader = NORM.replace("norm2", "conv2") + ".weight"
    assert described["dead_channels"][reader] == [3]
    assert set(described["parameters"]["not_whole"]) == {reader}
    assert f"{reader} channels 3" in _dead(described["dead_channels"])
    assert _dead({}) == ""


def elements_of(name: str, model: DenseNet) -> torch.Tensor:
    return model.state_dict()[name].view(-1)


def test_an_element_counts_as_seen_when_changing_it_changes_the_output_of_a_layer() -> None:
    """Against the definition: a change of each element of a layer, one at a time."""
    model = network_of(planted()).double()
    x = noise(1, 3, 37, 50).double()
    sight = CoverageMeter(model)
    with torch.no_grad(), sight.watching():
        before = layers_of(model, x)
    checked = 0
    for name, share in {**sight.parameters().shares, **sight.statistics().shares}.items():
        if not name.startswith(
            (NORM.rpartition(".")[0], "features.transition1", "classifier", "features.norm")
        ):
            continue
        elements = elements_of(name, model)
        changed = 0
        for i in range(elements.numel()):
            kept = elements[i].clone()
            elements[i] += 1e-3
            changed += any(map(torch.ne, map(torch.sum, layers_of(model, x)), map(torch.sum, before)))
            elements[i] = kept
        assert share == changed / elements.numel(), name
        checked += 1
    assert checked > 20


def layers_of(model: DenseNet, x: torch.Tensor) -> list[torch.Tensor]:
    outputs: list[torch.Tensor] = []
    with torch.no_grad(), watching(model, lambda _, output: outputs.append(output.clone())):
        model(x)
    return outputs


def test_an_element_counts_as_reaching_when_changing_it_changes_a_logit() -> None:
    model = network_of(planted()).double()
    x = noise(1, 3, 40, 40).double()
    sight = CoverageMeter(model)
    sight.backward(model(x))
    with torch.no_grad():
        before = model(x)
        for name, share in sight.reaching().shares.items():
            if not name.startswith(NORM.rpartition(".")[0]):
                continue
            parameter = elements_of(name, model)
            changed = 0
            for i in range(parameter.numel()):
                kept = parameter[i].clone()
                parameter[i] += 1e-6
                changed += not torch.equal(model(x), before)
                parameter[i] = kept
            assert share == changed / parameter.numel(), name


def test_only_the_middle_of_a_kernel_is_seen_on_a_map_of_one_pixel() -> None:
    model = network_of(state_dict_of())
    sight = CoverageMeter(model)
    with torch.no_grad(), sight.watching():
        model(noise(2, 3, 32, 32))
    assert sight.parameters().shares["features.denseblock4.denselayer1.conv2.weight"] <= 1 / 9
    assert sight.parameters().shares["features.conv0.weight"] == 1


def test_in_training_a_norm_shows_its_weight_where_its_input_varies() -> None:
    norm = torch.nn.BatchNorm2d(2)
    x = torch.stack([torch.ones(2, 4, 4), noise(2, 4, 4)], 1)
    sight = CoverageMeter(torch.nn.ModuleDict({"norm": norm.train()}))
    with sight.watching():
        norm(x)
    assert sight.dead_channels() == {"norm.weight": (0,)}


def test_several_inputs_see_more_than_one() -> None:
    model = network_of(state_dict_of())
    sight = CoverageMeter(model)
    totals = []
    for seed in range(3):
        with sight.watching():
            sight.backward(model(noise(1, 3, 32, 32, seed=seed)))
        totals.append((sight.parameters().total, sight.reaching().total))
    assert totals == sorted(totals)
    assert totals[-1][0] > totals[0][0]
    assert totals[-1][1] > totals[0][1]
