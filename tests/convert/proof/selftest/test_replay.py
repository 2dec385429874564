"""Names that are made anew are those that recording the network with these tensors gives."""

# ruff: noqa: ARG005 (every function here takes the network and the input)
from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from checkpoints import SMALL, StateDict, checkpoint_of, renamed_as, state_dict_of
from torch import Tensor, nn

from densenet_convert.layouts import TORCHVISION
from densenet_convert.proof.every_input import Result, Results
from densenet_convert.proof.load import load_model
from densenet_convert.proof.recorder import INPUT, Recorder
from densenet_convert.proof.selftest.checks import FirstDifferences, Recorded, record_reference, run_checks
from densenet_convert.proof.selftest.exchanges import record_sound
from densenet_convert.proof.selftest.faults import pairs_of_one_shape
from densenet_convert.proof.selftest.judging import network_with
from densenet_convert.proof.selftest.replay import Leaves, Replay, SymbolicRecorder
from densenet_convert.records import Loaded
from densenet_convert.results import DIFFERS, EQUAL, UNKNOWN

TINY = replace(SMALL, block_config=(1, 2))
CPU = torch.device("cpu")
X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
Sound = tuple[Loaded, Recorded, tuple[Replay, Replay]]


def sound_network(**how: Any) -> Sound:
    """A small network whose counters differ, its reference, and what was recorded of both."""
    state = {n: t + i if n.endswith("tracked") else t for i, (n, t) in enumerate(state_dict_of(TINY).items())}
    loaded = load_model(renamed_as(TORCHVISION, checkpoint_of(state)), replace(TINY, **how))
    theirs = torchvision.models.DenseNet(4, TINY.block_config, 8, bn_size=2, num_classes=5, **how)
    theirs.load_state_dict(state)
    torch.manual_seed(0)
    recorded = record_reference(theirs.eval(), loaded.config, CPU)
    torch.manual_seed(0)
    return loaded, recorded, record_sound(loaded, recorded, CPU)


def recorded_with(tensors: StateDict, loaded: Loaded, recorded: Recorded) -> list[tuple[Recorder, Results]]:
    recorders = Recorder(), Recorder()
    torch.manual_seed(0)
    _, results = run_checks(network_with(loaded, tensors), recorded, FirstDifferences({}), recorders)
    return list(zip(recorders, results, strict=True))


def names_of(recorder: Recorder, results: Results) -> list[Any]:
    return [
        [(step.name, step.operator, step.leaves) for step in recorder.steps],
        {kind: [result.ours for result in some] for kind, some in results.items()},
    ]


HOW: dict[str, dict[str, Any]] = {
    "plain": {},
    "memory_efficient": {"memory_efficient": True},
    "with dropout": {"drop_rate": 0.2},
}


@pytest.fixture(scope="module")
def plain() -> Sound:
    return sound_network()


@pytest.mark.parametrize("how", HOW)
def test_names_made_anew_are_those_that_recording_gives(how: str, plain: Sound) -> None:
    loaded, recorded, replays = sound_network(**HOW[how]) if HOW[how] else plain
    tensors = dict(loaded.renamed.tensors)
    assert [replay.unknown for replay in replays] == [frozenset(), frozenset()]
    for replay, real in zip(replays, recorded_with(tensors, loaded, recorded), strict=True):
        assert names_of(*replay.named(Leaves(tensors))) == names_of(*real)
        assert {judgement.verdict for judgement in replay.judge(Leaves(tensors)).values()} == {EQUAL}
    pairs = list(pairs_of_one_shape(loaded.renamed))
    for a, b in Random(0).sample(pairs, 1 if HOW[how] else 3):
        given = {a: tensors[b], b: tensors[a]}
        for replay, real in zip(replays, recorded_with({**tensors, **given}, loaded, recorded), strict=True):
            assert names_of(*replay.named(Leaves(given))) == names_of(*real)


def test_a_replay_is_the_same_in_another_process(plain: Sound) -> None:
    loaded, _, replays = plain
    a, b = "features.norm0.weight", "features.norm0.bias"
    given = Leaves({a: loaded.renamed.tensors[b], b: loaded.renamed.tensors[a]})
    for replay in replays:
        there = pickle.loads(pickle.dumps(replay))
        assert names_of(*there.named(given)) == names_of(*replay.named(given))
        assert there.judge(given) == replay.judge(given)
        assert there.judge(given)["logits"].verdict == DIFFERS
        assert not there.is_sound(given)
        assert there.is_sound(Leaves({a: loaded.renamed.tensors[a]}))


def test_of_a_tensor_that_lies_otherwise_in_memory_nothing_is_known(plain: Sound) -> None:
    loaded, _, (in_eval, _) = plain
    weight = loaded.renamed.tensors["classifier.weight"]
    turned = weight.as_strided(weight.shape, (1, weight.shape[0]))
    for judgement in in_eval.judge(Leaves({"classifier.weight": turned})).values():
        assert judgement.verdict == UNKNOWN


def test_two_counters_are_known_apart_by_what_the_buffers_hold(plain: Sound) -> None:
    loaded, _, (in_eval, in_training) = plain
    a, b = "features.norm0.num_batches_tracked", "features.norm5.num_batches_tracked"
    given = Leaves({a: loaded.renamed.tensors[b], b: loaded.renamed.tensors[a]})
    evaluated = in_eval.judge(given)
    assert evaluated["logits"].verdict == EQUAL
    assert evaluated["buffers"][::2] == (DIFFERS, a)
    trained = in_training.judge(given)
    assert trained["logits"].verdict == EQUAL
    assert (trained["buffers"].verdict, trained["buffers"].where) == (UNKNOWN, a)


class Net(nn.Module):
    """A function of two parameters of one shape, two buffers and the input."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.a = nn.Parameter(torch.arange(1.0, 4.0))
        self.b = nn.Parameter(torch.arange(2.0, 5.0))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def written_in_part(net: Any, x: Tensor) -> Tensor:
    y = x * net.a[:, None, None]
    y[:, 0] = net.b.sum()
    return y


def statistics(net: Any, x: Tensor) -> Tensor:
    return F.batch_norm(x, net.mean, net.var, net.a, net.b, training=True) + net.mean[:, None, None]


def concatenated(net: Any, x: Tensor) -> Tensor:
    inner = torch.cat([x, x * net.a[:, None, None]], 1)
    return torch.cat([torch.cat([inner, x * net.b[:, None, None]], 1), torch.cat([inner[:, :3]], 1)], 1)


FUNCTIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "operands that may be turned round": lambda net, x: (net.a + net.b) * x.sum(),
    "operands with a constant": lambda net, x: torch.tensor([2.0, 3.0, 4.0]) * net.a + net.b,
    "operands with a weight": lambda net, x: torch.add(net.a, net.b, alpha=2),
    "concatenations of concatenations": concatenated,
    "a write through a view": written_in_part,
    "statistics that are written": statistics,
    "draws": lambda net, x: F.dropout(x * net.a[:, None, None], 0.5) + F.dropout(net.b, 0.5)[:, None, None],
    "a mean": lambda net, x: (x * net.a[:, None, None]).mean((3, 2), keepdim=True),
    "one of several results": lambda net, x: torch.stack([net.a, net.b]).max(0)[0],
    "in place": lambda net, x: F.relu(x * net.b[:, None, None], inplace=True),
    "a leaf": lambda net, x: net.a,
}


def run_recorded(network: nn.Module, recorder: Recorder) -> tuple[StateDict, Tensor]:
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers()), INPUT: X}
    held = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    torch.manual_seed(0)
    recorder.add_leaves(tensors)
    with recorder.recording():  # with gradients, or what depends on leaves alone would be no step
        return held, network(X)


@pytest.mark.parametrize("what", FUNCTIONS)
def test_every_way_to_name_a_step_is_gone_again(what: str) -> None:
    ours, theirs, other = SymbolicRecorder(), Recorder(), Recorder()
    networks = [Net(FUNCTIONS[what]) for _ in range(3)]
    networks[2].a, networks[2].b = networks[2].b, networks[2].a
    tensors, symbolic = run_recorded(networks[0], ours)
    _, output = run_recorded(networks[1], theirs)
    swapped, exchanged = run_recorded(networks[2], other)
    names = {"logits": [Result("the output", ours.name_of(symbolic), theirs.name_of(output))]}
    replay = Replay(ours, theirs, names, Leaves(tensors))
    assert replay.unknown == frozenset()
    steps, results = replay.named(Leaves({name: swapped[name] for name in ("a", "b")}))
    assert [step.name for step in steps.steps] == [step.name for step in other.steps]
    assert results["logits"][0].ours == other.name_of(exchanged)
