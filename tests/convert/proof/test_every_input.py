"""Equal names are equal results for every input; what no name can tell is left to the numbers."""

# ruff: noqa: ARG001, ARG005 (every function here takes the network and the input)
from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from checkpoints import SMALL, state_dict_of
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet
from densenet_convert.densenet.config import DenseNetConfig
from densenet_convert.proof.every_input import (
    DIFFERS,
    EQUAL,
    UNKNOWN,
    Judgement,
    Result,
    judge_results,
)
from densenet_convert.proof.operators import NORM_WRITES, NORMS
from densenet_convert.proof.recorder import Recorder

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
Function = Callable[[Tensor, Tensor], Tensor]


class Net(nn.Module):
    """Two parameters of one shape, and a function of the input and the first of them."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.a = nn.Parameter(torch.arange(1.0, 4.0))
        self.b = nn.Parameter(torch.arange(2.0, 5.0))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)  # type: ignore[arg-type]


def recorded(network: nn.Module, x: Tensor = X, *, train: bool = False) -> tuple[Recorder, Tensor]:
    recorder = Recorder()
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers()), "the input": x}
    recorder.add_leaves(tensors)
    network.train(train)
    with torch.set_grad_enabled(train), recorder.recording():
        return recorder, network(x)


def judged(ours: nn.Module, theirs: nn.Module, x: Tensor = X, *, train: bool = False) -> Judgement:
    torch.manual_seed(0)
    mine, our_output = recorded(ours, x, train=train)
    torch.manual_seed(0)
    other, their_output = recorded(theirs, x, train=train)
    output = Result("the output", mine.name_of(our_output), other.name_of(their_output))
    return judge_results(mine, other, {"logits": [output]})["logits"]


def scaled(net: Any, x: Tensor) -> Tensor:
    return x * net.a[:, None, None]


def through_a_view(net: Any, x: Tensor) -> Tensor:
    y = scaled(net, x)
    y[:, 0].zero_()
    return y


def base_after_view(net: Any, x: Tensor) -> Tensor:
    y = scaled(net, x)
    view = y[:, 0]
    y.add_(1)
    return view


def view_of_the_old(net: Any, x: Tensor) -> Tensor:
    y = scaled(net, x)
    view = y[:, 0].clone()
    y.add_(1)
    return view


def swapped_data(net: Any, x: Tensor) -> Tensor:
    y = scaled(net, x)
    y.data = x * net.b[:, None, None]
    return y * 1.0


def normed(net: Any, x: Tensor, *, momentum: float = 0.1) -> Tensor:
    F.batch_norm(x, net.mean, net.var, training=True, momentum=momentum)
    return net.mean * 1.0


def drawn_twice(net: Any, x: Tensor) -> Tensor:
    return F.dropout(x, 0.5) + F.dropout(x, 0.5)


def drawn_once(net: Any, x: Tensor) -> Tensor:
    y = F.dropout(x, 0.5)
    return y + y


def _foreach(x: Tensor, by: float) -> Tensor:
    both = [x.clone(), x * 2]
    torch._foreach_mul_(both, by)
    return both[0] + 1


def _channels_last(x: Tensor) -> Tensor:
    return (x * 3).contiguous(memory_format=torch.channels_last)


def _drawn(x: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return F.dropout(x, 0.5)


# Which of these is called equal to the other would be a hole in the proof.
DIFFERENT: dict[str, tuple[Function, Function]] = {
    "another parameter": (scaled, lambda net, x: x * net.b[:, None, None]),
    "another argument": (lambda net, x: F.leaky_relu(x, 0.1), lambda net, x: F.leaky_relu(x, 0.2)),
    "a ReLU more": (lambda net, x: F.relu(scaled(net, x)), scaled),
    "another order": (lambda net, x: F.relu(x).tanh(), lambda net, x: F.relu(x.tanh())),
    "a write through a view": (through_a_view, scaled),
    "a view before and after a write": (base_after_view, view_of_the_old),
    "data that was set": (swapped_data, lambda net, x: scaled(net, x) * 1.0),
    "statistics that were written": (normed, lambda net, x: net.mean * 1.0),
    "another momentum": (normed, lambda net, x: normed(net, x, momentum=0.2)),
    "one draw for two": (drawn_twice, drawn_once),
    "a constant": (lambda net, x: x * torch.tensor(2.0), lambda net, x: x * torch.tensor(3.0)),
    "a dtype in between": (lambda net, x: x.double().float() * 2, lambda net, x: x.half().float() * 2),
    "another dimension": (lambda net, x: x.mean((2, 3)), lambda net, x: x.mean((1, 2))),
    "another shape": (lambda net, x: x.mean((2, 3), keepdim=True), lambda net, x: x.mean((2, 3))),
    "concatenated otherwise": (lambda net, x: torch.cat([x, -x], 1), lambda net, x: torch.cat([-x, x], 1)),
    "concatenated along another": (lambda net, x: torch.cat([x, x], 2), lambda net, x: torch.cat([x, x], 3)),
    "a part of a concatenation": (
        lambda net, x: torch.cat([torch.cat([x, -x], 1)[:, :3], x], 1),
        lambda net, x: torch.cat([x, -x, x], 1),
    ),
    "another of two in a weighted sum": (
        lambda net, x: torch.add(x, net.a.sum().expand(2, 3, 8, 8), alpha=2),
        lambda net, x: torch.add(net.a.sum().expand(2, 3, 8, 8), x, alpha=2),
    ),
    "several written at once": (lambda net, x: _foreach(x, 2.0), lambda net, x: _foreach(x, 3.0)),
    "one of several results": (lambda net, x: x.max(1)[0], lambda net, x: x.max(1)[1] * 1.0),
    "layouts that a sum takes from its first": (
        lambda net, x: (x + _channels_last(x)).reshape(2, -1),
        lambda net, x: (_channels_last(x) + x).permute(0, 2, 3, 1).reshape(2, -1),
    ),
    "concatenated in other dtypes": (
        lambda net, x: torch.cat([torch.cat([(x * 1e9).long(), x], 1), x.double()], 1),
        lambda net, x: torch.cat([(x * 1e9).long(), x, x.double()], 1),
    ),
    "computed of other leaves": (
        lambda net, x: x * (net.a * 2)[:, None, None],
        lambda net, x: x * (net.b * 2)[:, None, None],
    ),
    "a leaf written": (lambda net, x: x * _added(net, 1), lambda net, x: x * _added(net, 2)),
    "another seed": (lambda net, x: _drawn(x, 1), lambda net, x: _drawn(x, 2)),
    "transposed": (lambda net, x: x.transpose(2, 3) * 1.0, lambda net, x: x * 1.0),
    "a difference turned round": (lambda net, x: x - net.a.sum(), lambda net, x: net.a.sum() - x),
}
# These are one function to the bit, and are known to be.
SAME: dict[str, tuple[Function, Function]] = {
    "in place": (lambda net, x: F.relu(scaled(net, x), inplace=True), lambda net, x: F.relu(scaled(net, x))),
    "flattened otherwise": (
        lambda net, x: scaled(net, x).flatten(1),
        lambda net, x: scaled(net, x).view(2, -1),
    ),
    "concatenated in steps": (
        lambda net, x: torch.cat([torch.cat([x, -x], 1), x.tanh()], 1),
        lambda net, x: torch.cat([x, -x, x.tanh()], 1),
    ),
    "concatenated alone": (lambda net, x: torch.cat([x], 1) * 2, lambda net, x: x * 2),
    "a mean with and without its sides": (
        lambda net, x: x.mean((2, 3), keepdim=True).flatten(1),
        lambda net, x: x.mean((3, 2)),
    ),
    "operands turned round": (lambda net, x: x + net.a.sum(), lambda net, x: net.a.sum() + x),
    "computed of leaves alone": (
        lambda net, x: x * (net.a * 2)[:, None, None],
        lambda net, x: x * (net.a + net.a)[:, None, None],
    ),
    "momentum in eval": (
        lambda net, x: F.batch_norm(x, net.mean, net.var, momentum=0.1),
        lambda net, x: F.batch_norm(x, net.mean, net.var, momentum=0.2),
    ),
    "an equal constant": (lambda net, x: x * torch.tensor(2.0), lambda net, x: x * torch.tensor(2.0)),
}
# What Python reads, or another setting, makes names worthless.
UNSEEN: dict[str, Function] = {
    "item": lambda net, x: x * x.sum().item(),
    "bool": lambda net, x: x * 2 if x.sum() > 0 else x,
    "tolist": lambda net, x: x * x.sum().tolist(),
    "numpy": lambda net, x: x * float(x.numpy().sum()),
    "float": lambda net, x: x * float(x.sum()),
    "equal": lambda net, x: x * 2 if torch.equal(x, -x) else x,
    "nonzero": lambda net, x: x * len(torch.nonzero(x)),
    "masked_select": lambda net, x: x * torch.masked_select(x, x > 0).numel(),
    "index": lambda net, x: x[x > 0].sum() * x,
    "makes a tensor of others": lambda net, x: x * torch.tensor([x.sum(), x.mean()]).sum(),
    "inference mode": lambda net, x: _in_inference_mode(x),
    "comes from no step": lambda net, x: x + torch.empty_like(x),
    "sparse": lambda net, x: x.to_sparse().to_dense(),
    "autocast": lambda net, x: _under_autocast(x),
}


def _added(net: Any, value: float) -> Tensor:
    with torch.no_grad():
        return net.mean.add_(value)[:, None, None]


def _in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x * 2


def _under_autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return x @ x.transpose(2, 3)


@pytest.mark.parametrize("what", DIFFERENT)
def test_two_functions_are_never_called_equal(what: str) -> None:
    ours, theirs = map(Net, DIFFERENT[what])
    assert judged(ours, theirs).verdict != EQUAL
    assert judged(theirs, ours).verdict != EQUAL


@pytest.mark.parametrize("what", SAME)
def test_one_function_in_other_words_is_equal_to_the_bit_and_is_called_so(what: str) -> None:
    ours, theirs = map(Net, SAME[what])
    assert torch.equal(ours(X), theirs(X))
    assert judged(ours, theirs) == Judgement(EQUAL)


@pytest.mark.parametrize("what", UNSEEN)
def test_what_python_reads_is_no_operation_and_nothing_is_known(what: str) -> None:
    found = judged(Net(UNSEEN[what]), Net(UNSEEN[what]))
    assert found.verdict == UNKNOWN
    assert found.because is not None
    assert what in found.because


def test_a_tensor_that_no_step_made_is_noted() -> None:
    hidden = torch.ones(3, 1, 1)
    found = judged(Net(lambda net, x: x * hidden), Net(lambda net, x: x * hidden))
    assert found.because == "of the converted network, a tensor of shape [3, 1, 1] comes from no step"


def test_of_leaves_that_share_a_storage_nothing_is_known() -> None:
    """Their bytes are named by the first of them, and another one might differ."""
    network = Net(scaled)
    both = torch.arange(6.0)
    network.a, network.b = nn.Parameter(both[:3]), nn.Parameter(both[3:])
    found = judged(network, network)
    assert found.because == "of the converted network, a is a part of what its storage holds"


def test_the_same_operator_of_another_tensor_differs_and_names_both() -> None:
    found = judged(Net(scaled), Net(lambda net, x: x * net.b[:, None, None]))
    assert found.verdict == DIFFERS
    assert found.because is not None
    assert "aten.mul.Tensor of the input, a" in found.because
    assert "aten.mul.Tensor of the input, b" in found.because


def test_of_two_tensors_of_the_same_bytes_the_one_that_is_read_is_named() -> None:
    ours = Net(lambda net, x: x * net.b[:, None, None])
    ours.b = nn.Parameter(ours.a.detach().clone())
    found = judged(ours, Net(lambda net, x: x * net.b[:, None, None]))
    assert found.verdict == DIFFERS
    assert found.because is not None
    assert "it runs aten.mul.Tensor of the input, b," in found.because


def test_a_buffer_that_no_step_reads_is_named() -> None:
    ours, theirs = Net(scaled), Net(scaled)
    mine, _ = recorded(ours)
    other, _ = recorded(theirs)
    names = mine.name_of(ours.var), other.name_of(theirs.mean)
    for is_leaf, verdict in ((True, DIFFERS), (False, UNKNOWN)):
        found = judge_results(mine, other, {"buffers": [Result("norm.var", *names, is_leaf)]})["buffers"]
        assert (found.verdict, found.where) == (verdict, "norm.var")


def test_another_operator_is_not_known_to_differ() -> None:
    assert (
        judged(Net(lambda net, x: x.mean((2, 3))), Net(lambda net, x: x.mean(3).mean(2))).verdict == UNKNOWN
    )


def test_a_branch_on_the_shape_is_not_seen_as_the_documents_say() -> None:
    branching = Net(lambda net, x: scaled(net, x) if x.shape[2] == 8 else x)
    assert judged(branching, Net(scaled)) == Judgement(EQUAL)
    assert judged(branching, Net(scaled), torch.rand(2, 3, 9, 9)).verdict != EQUAL


def test_what_looks_at_a_network_is_not_recorded() -> None:
    recorder = Recorder()
    recorder.add_leaves({"x": X})
    with recorder.recording(), recorder.pausing():
        assert float((X + 1).sum()) > 0
    assert (recorder.steps, recorder.unknown) == ([], None)


def test_no_storage_gets_the_name_of_one_that_is_gone() -> None:
    recorder = Recorder()
    recorder.add_leaves({"x": X})
    names = []
    with torch.no_grad(), recorder.recording():
        for i in range(50):  # the allocator gives the same memory again and again
            y = X + i
            names.append(recorder.name_of(y))
            del y
    assert len(set(names)) == 50


def test_the_list_of_operators_that_write_unsaid_is_that_of_torch() -> None:
    """Every norm of torch that takes running statistics says that it writes them, or is listed."""
    silent = set()
    for schema in torch._C._jit_get_all_schemas():
        names = [one.name for one in schema.arguments]
        says = any(one.alias_info is not None and one.alias_info.is_write for one in schema.arguments)
        takes = "running_mean" in names and ("training" in names or "train" in names)
        if schema.name.startswith("aten::") and takes and not says and "backward" not in schema.name:
            silent.add(schema.name.removeprefix("aten::"))
    listed = {name.split(".")[1] for name in NORMS}
    # Some are composed of the others, and some return what they would write.
    composed = {"batch_norm", "instance_norm", "_batch_norm_impl_index", "batch_norm_update_stats"}
    functional = {name for name in silent if "functional" in name or "no_training" in name}
    assert listed <= silent
    assert silent - listed - functional - composed == set()
    assert NORM_WRITES == (3, 4)


@pytest.fixture(scope="module")
def both() -> tuple[nn.Module, nn.Module]:
    theirs = torchvision.models.DenseNet(4, SMALL.block_config, 8, bn_size=2, num_classes=5)
    ours = DenseNet(SMALL)
    for network in (ours, theirs):
        network.load_state_dict(state_dict_of())
    return ours, theirs


@pytest.mark.parametrize("shape", [(1, 3, 29, 29), (3, 3, 75, 107), (2, 3, 64, 96)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_ours_is_torchvision_s_for_every_input_of_a_shape(
    shape: tuple[int, ...], dtype: torch.dtype, both: tuple[nn.Module, nn.Module]
) -> None:
    ours, theirs = (deepcopy(one).to(dtype) for one in both)
    assert judged(ours, theirs, torch.rand(shape).to(dtype)) == Judgement(EQUAL)


@pytest.mark.parametrize("how", [{"memory_efficient": True}, {"drop_rate": 0.2}])
def test_so_is_it_in_training_with_dropout_and_with_checkpointing(how: dict[str, Any]) -> None:
    config = DenseNetConfig(**{**vars(SMALL), **how})
    theirs = torchvision.models.DenseNet(4, SMALL.block_config, 8, bn_size=2, num_classes=5, **how)
    ours = DenseNet(config)
    for network in (ours, theirs):
        network.load_state_dict(state_dict_of())
    x = torch.rand(2, 3, 64, 96)
    assert judged(ours, theirs, x, train=True) == Judgement(EQUAL)


def test_two_tensors_behind_a_dead_channel_are_known_apart(both: tuple[nn.Module, nn.Module]) -> None:
    """No input shows an exchange there: the values are equal on all of them."""
    ours, theirs = map(deepcopy, both)
    with torch.no_grad():
        for network in (ours, theirs):
            norm = network.get_submodule("features.denseblock1.denselayer1.norm2")
            norm.weight.zero_()
            norm.bias.fill_(-1)
        ours.get_submodule("features.denseblock1.denselayer1.conv2").weight.mul_(2)
    x = torch.rand(2, 3, 64, 96)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    found = judged(ours, theirs, x)
    assert found.verdict == DIFFERS
    assert found.where == "features.denseblock1.denselayer1.conv2"
