"""The network under torch.fx, torch.export, torch.compile and ONNX.

Traced and exported graphs run the same kernels, so they are equal to the bit.  Compiled and
ONNX graphs fuse operations, so their results are held against a float64 run of the network:
their largest error may not exceed the float32 network's own by more than a factor.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.compiler.config
import torch.nn.functional as F
from torch import Tensor, nn

from densenet_convert.densenet import DenseNet, DenseNetConfig

CONFIG = DenseNetConfig(growth_rate=8, block_config=(1, 2), num_init_features=8, bn_size=2, num_classes=10)

# Both factors are about four times the worst of 24 runs: 12 networks, with AVX-512 and without
# vector instructions.  Both sides sum as many float32 terms, in another order: 1.8 times (ONNX 1.5).
# An epsilon of 1.1e-5 for 1e-5 is beyond it.
FORWARD_FACTOR = 8.0
# Eager batch norm on the CPU accumulates its sums in float64, a compiled one in float32, so its
# gradients and running statistics err more: 8.1 times.
TRAINING_FACTOR = 32.0
# A ReLU whose input rounds to the other side of 0 switches a whole gradient on or off, and so
# does a maximum that moves.  An input that comes so near to that in float64 is passed over; float32
# was seen to err by 9e-6 there.
KINK = 2e-5
INPUTS = 4

# torch 2.6 to 2.11 warn of uses of their own while they compile and export.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Skipping serialization of:UserWarning"),
    pytest.mark.filterwarnings(r"ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

COMPILER = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER) is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason=f"torch.compile needs a C++ compiler ({COMPILER}) and Python.h",
)


def network_with(**changes: Any) -> DenseNet:
    """A small network whose norms are neither 1 nor 0."""
    torch.manual_seed(0)
    network = DenseNet(DenseNetConfig(**{**vars(CONFIG), **changes})).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if ".norm" in name and tensor.dim():
                lowest = -0.5 if name.endswith(("bias", "running_mean")) else 0.5
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + lowest)
    return network


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 4 - 2


def largest_errors(
    run: Callable[[Tensor], dict[str, Tensor]],
    exact: Callable[[Tensor], dict[str, Tensor]],
    inputs: Iterable[Tensor],
) -> dict[str, float]:
    largest: dict[str, float] = {}
    for x in inputs:
        results, truth = run(x), exact(x.double())
        assert list(results) == list(truth)
        for name, value in results.items():
            assert value.dtype == torch.float32
            error = float((value.double() - truth[name]).abs().max())
            largest[name] = max(largest.get(name, 0.0), error)
    return largest


def assert_within(factor: float, errors: dict[str, float], eager: dict[str, float]) -> None:
    assert list(errors) == list(eager)
    beyond = {n: (e, eager[n]) for n, e in errors.items() if not e <= factor * eager[n]}  # a NaN fails
    assert not beyond, "(error, error of the eager network)"


def logits_of(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], dict[str, Tensor]]:
    def run(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"logits": network(x)}

    return run


def assert_logits_are_as_good_as_eager(candidate: Callable[[Tensor], Tensor], inputs: list[Tensor]) -> None:
    exact = logits_of(network_with().double())
    errors = largest_errors(logits_of(candidate), exact, inputs)
    assert_within(FORWARD_FACTOR, errors, largest_errors(logits_of(network_with()), exact, inputs))


# Graphs of the same kernels


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_symbolic_trace_equals_the_network_to_the_bit(mode: str, pool: str) -> None:
    network = network_with(transition_pool=pool, drop_rate=0.5, stem_padding=(2, 3)).train(mode == "train")
    traced = torch.fx.symbolic_trace(copy.deepcopy(network))
    assert list(traced.state_dict()) == list(network.state_dict())
    for seed, shape in enumerate([(2, 3, 64, 64), (3, 3, 33, 52)]):
        results = []
        for module in (traced, network):
            torch.manual_seed(seed)
            results.append(module(drawn(shape, seed)))
        assert torch.equal(*results)


def test_an_exported_program_equals_the_network_to_the_bit_at_any_batch_size() -> None:
    network = network_with()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (drawn((2, 3, 33, 52), 0),), dynamic_shapes={"x": {0: batch}})
    assert set(program.state_dict) == set(network.state_dict())
    exported = program.module()
    with torch.no_grad():
        for size in (1, 2, 5):
            x = drawn((size, 3, 33, 52), size)
            assert torch.equal(exported(x), network(x))


# ONNX


def test_an_onnx_export_is_as_close_to_float64_as_the_network_at_any_batch_size(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="ONNX export needs onnx")
    pytest.importorskip("onnxscript", reason="ONNX export needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="running an ONNX file needs onnxruntime")
    file = tmp_path / "network.onnx"
    program = torch.onnx.export(
        network_with(),
        (drawn((2, 3, 33, 52), 0),),
        dynamo=True,
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}},
        verbose=False,
    )
    assert program is not None
    program.save(file)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])

    assert_logits_are_as_good_as_eager(run, [drawn((size, 3, 33, 52), size) for size in (1, 2, 5)])


# torch.compile


@pytest.fixture
def _compiler_state() -> Iterator[None]:
    # The compiler's cache on disk takes code for one ATEN_CPU_CAPABILITY as good for another.
    with torch.compiler.config.patch(cache_key_tag=torch.backends.cpu.get_cpu_capability()):
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()


@needs_compiler
@pytest.mark.usefixtures("_compiler_state")
def test_a_compiled_network_is_one_graph_as_close_to_float64_as_the_network() -> None:
    compiled = torch.compile(network_with(), fullgraph=True)
    assert_logits_are_as_good_as_eager(compiled, [drawn((2, 3, 33, 52), seed) for seed in range(INPUTS)])


@needs_compiler
@pytest.mark.usefixtures("_compiler_state")
def test_a_compiled_training_step_is_as_close_to_float64_as_the_network_s() -> None:
    network, compiled = network_with(), network_with()
    steps = {
        "exact": step_of(double := network_with().double(), double),
        "eager": step_of(network, network),
        "compiled": step_of(compiled, torch.compile(compiled, fullgraph=True)),
    }
    inputs = inputs_off_the_kinks()
    eager = largest_errors(steps["eager"], steps["exact"], inputs)
    errors = largest_errors(steps["compiled"], steps["exact"], inputs)
    assert_within(FORWARD_FACTOR, {"logits": errors.pop("logits")}, {"logits": eager.pop("logits")})
    assert_within(TRAINING_FACTOR, errors, eager)


def step_of(network: DenseNet, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], dict[str, Tensor]]:
    """A training step from the same start each time: logits, gradients, running statistics."""
    start = copy.deepcopy(network.state_dict())

    def run(x: Tensor) -> dict[str, Tensor]:
        network.load_state_dict(start)
        network.train().zero_grad()
        logits = forward(x)
        (logits * drawn(tuple(logits.shape), 9).to(x.dtype)).sum().backward()
        results = {"logits": logits.detach()}
        results |= {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        results |= {name: b.clone() for name, b in network.named_buffers() if b.is_floating_point()}
        assert len(results) == 1 + len([n for n in start if not n.endswith("num_batches_tracked")])
        return results

    return run


def inputs_off_the_kinks() -> list[Tensor]:
    network = network_with().double().train()
    candidates = (drawn((2, 3, 32, 32), seed) for seed in range(20 * INPUTS))
    chosen = [x for x in candidates if distance_to_a_kink(network, x.double()) > KINK]
    assert len(chosen) >= INPUTS
    return chosen[:INPUTS]


def distance_to_a_kink(network: DenseNet, x: Tensor) -> float:
    """How near a ReLU's input comes to 0, or the second of a pool's window to the first."""
    distances: list[Tensor] = []

    def at_relu(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        distances.append(inputs[0].abs().min())

    def at_pool(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0]
        windows = F.unfold(F.pad(x, (1, 1, 1, 1)), 3, stride=2).view(len(x), x.shape[1], 9, -1)
        first, second = windows.topk(2, dim=2).values.unbind(2)
        distances.append((first - second)[first > 0].min())

    handles = [m.register_forward_pre_hook(at_relu) for m in network.modules() if isinstance(m, nn.ReLU)]
    handles.append(network.get_submodule("features.pool0").register_forward_pre_hook(at_pool))
    handles.append(
        network.get_submodule("features.norm5").register_forward_hook(lambda _m, _i, y: at_relu(_m, (y,)))
    )
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    return float(torch.stack(distances).min())
