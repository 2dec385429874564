"""Coverage says which elements the proof sees, and is right about it."""

from __future__ import annotations

import torch
from checkpoints import SMALL, checkpoint_of, state_dict_of

from densenet_convert.densenet import DenseNet
from densenet_convert.layouts import TORCHVISION
from densenet_convert.load import load_model
from densenet_convert.proof.coverage import Sight
from densenet_convert.proof.layers import watching
from densenet_convert.proof.references import load_reference
from densenet_convert.proof.verification import verify_model
from densenet_convert.records import Proof
from densenet_convert.rename import rename_tensors

NORM = "features.denseblock2.denselayer2.norm2"


def proof_of(state: dict[str, torch.Tensor]) -> Proof:
    checkpoint = checkpoint_of(state)
    loaded = load_model(rename_tensors(checkpoint, TORCHVISION), SMALL)
    return verify_model(loaded, load_reference(checkpoint, TORCHVISION, SMALL), torch.device("cpu")).proof


def test_nearly_all_of_random_weights_is_seen() -> None:
    proof = proof_of(state_dict_of())
    assert proof.parameters.total > 0.98
    assert proof.statistics.total == 1


def test_every_parameter_has_a_share() -> None:
    shares = proof_of(state_dict_of()).parameters.shares
    assert set(shares) == {n for n in SMALL.tensor_shapes() if n.endswith(("weight", "bias"))}


def test_a_dead_channel_is_found() -> None:
    """Its norm never lets anything through, so its convolutions' weights can't matter."""
    state = state_dict_of()
    state[f"{NORM}.weight"][3] = 0
    state[f"{NORM}.bias"][3] = -1
    proof = proof_of(state)
    width = SMALL.bn_size * SMALL.growth_rate
    assert proof.parameters.shares[f"{NORM}.weight"] == (width - 1) / width
    assert proof.parameters.shares[f"{NORM}.bias"] == (width - 1) / width
    # conv1 fed that channel, conv2 read it: an element of every eight is unseen.
    assert proof.parameters.shares[NORM.replace("norm2", "conv1") + ".weight"] <= (width - 1) / width
    assert proof.parameters.shares[NORM.replace("norm2", "conv2") + ".weight"] <= (width - 1) / width
    # With a weight of 0 neither statistic of the channel can change the output.
    assert proof.statistics.shares[f"{NORM}.running_mean"] == (width - 1) / width
    assert proof.statistics.shares[f"{NORM}.running_var"] == (width - 1) / width
    assert proof.parameters.least[1] <= (width - 1) / width


def test_an_element_counts_as_seen_when_changing_it_changes_an_output() -> None:
    """Against the definition: a large change of each element of a layer, one at a time."""
    state = state_dict_of()
    state[f"{NORM}.weight"][3] = 0
    state[f"{NORM}.bias"][3] = -1
    model = DenseNet(SMALL)
    model.load_state_dict(state)
    model.double().eval()
    x = torch.rand(1, 3, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 4 - 2
    sight = Sight(model)
    with watching(model, sight.observe):
        sight.backward(model(x))
    with torch.no_grad():
        before = model(x)
        for name, seen in {**sight.parameters().shares}.items():
            if not name.startswith(NORM.rpartition(".")[0]):
                continue
            parameter = model.get_parameter(name).view(-1)
            changed = 0
            for i in range(parameter.numel()):
                kept = parameter[i].clone()
                parameter[i] += 1e-6
                changed += not torch.equal(model(x), before)
                parameter[i] = kept
            assert seen == changed / parameter.numel(), name


def test_several_inputs_see_more_than_one() -> None:
    model = DenseNet(SMALL)
    model.load_state_dict(state_dict_of())
    model.eval()
    sight = Sight(model)
    totals = []
    for seed in range(3):
        x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 4 - 2
        sight.backward(model(x))
        totals.append(sight.parameters().total)
    assert totals == sorted(totals)
    assert totals[-1] > totals[0]
