"""Time, error and memory of one network in each runtime: torch three ways, onnxruntime and OpenVINO.

Usage: python benchmarks/inference.py [--runs N] [--device cpu|cuda] [--output FILE.json]

DenseNet-121 and 169 of random weights at 224x224, with 1 and 32 images.  Each runtime is a process of its
own, which is asked for one batch at a time, in alternation with the others.  The error is the largest of the
logits against float64, on one image; memory is what the process took at most above what it had once torch was
imported, with the network.
Ratios are to torch's eager mode in the same run.  Every runtime computes in float32.  OpenVINO by its own
default takes bfloat16 where the processor has it: that is a row of its own.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

from measuring import arguments, report

if TYPE_CHECKING:
    from densenet_convert.densenet import DenseNetConfig

NETWORKS = ("densenet121", "densenet169")
BATCHES = (1, 32)
SIDE = 224
EAGER = "torch, eager"
ON_ANY = (EAGER, "torch, channels_last", "torch, compiled", "onnxruntime")
ON_CPU = ("OpenVINO", "OpenVINO, its default precision")
FEWER = {1: 5, 32: 1}  # batches for each of one image, and of 32


def kinds_on(device: str) -> list[str]:
    """Returns the runtimes that are installed for a device."""
    needs = {
        "onnxruntime": ("onnxruntime", "onnxscript"),
        **dict.fromkeys(ON_CPU, ("openvino", "onnxscript")),
    }
    kinds = ON_ANY + (ON_CPU if device == "cpu" else ())
    return [kind for kind in kinds if all(map(find_spec, needs.get(kind, ())))]


def prepare(folder: Path, config: DenseNetConfig, kinds: Sequence[str]) -> None:
    """Writes a network's tensors, its files for the other runtimes, and its logits in float64.

    The files are those that `export` writes; here each error is measured, and not proven first.
    """
    import torch

    from densenet_convert.proof.exported.ir_write import ir_files
    from densenet_convert.proof.exported.write import onnx_model
    from densenet_convert.source.random_weights import random_network

    network = random_network(config, 0).eval()
    network.save_pretrained(folder / "net")
    if "onnxruntime" in kinds:
        model = onnx_model(network, torch.float32, (SIDE, SIDE), {})
        (folder / "net.onnx").write_bytes(model)
        if ON_CPU[0] in kinds:
            for suffix, data in zip((".xml", ".bin"), ir_files(model, False, {}), strict=True):
                (folder / f"net{suffix}").write_bytes(data)
    with torch.no_grad():
        torch.save(network.double()(_images(1).double()), folder / "exact.pt")


def _images(count: int) -> Any:
    import torch

    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def runner(kind: str, folder: Path, device: str) -> Callable[[Any], Any]:
    """Returns what computes logits of images; both are on the device."""
    if kind.startswith("OpenVINO"):
        from densenet_convert.proof.exported.ir_run import openvino

        settings = {} if "default" in kind else {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino().Core().compile_model(folder / "net.xml", "CPU", settings)
        return lambda x: compiled([x.numpy()])[0]
    if kind == "onnxruntime":
        import onnxruntime

        cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
        provider = cuda if device == "cuda" else "CPUExecutionProvider"
        session = onnxruntime.InferenceSession(folder / "net.onnx", providers=[provider])
        return lambda x: session.run(None, {"input": x.cpu().numpy()})[0]
    return _by_torch(kind, folder, device)


def _by_torch(kind: str, folder: Path, device: str) -> Callable[[Any], Any]:
    import torch

    from densenet_convert.densenet import DenseNet

    network: Any = DenseNet.from_pretrained(folder / "net").to(device)
    layout = torch.channels_last if "channels_last" in kind else torch.contiguous_format
    network = network.to(memory_format=layout)
    run = torch.compile(network) if "compiled" in kind else network

    def compute(x: Any) -> Any:
        with torch.inference_mode():
            result = run(x.contiguous(memory_format=layout))
        return result.cpu()

    return compute


def serve(kind: str, folder: Path, device: str) -> None:
    """Answers each line, a number of images, with the seconds that a batch takes."""
    warnings.simplefilter("ignore")
    import torch

    before = _peak(device)
    run = runner(kind, folder, device)
    exact = torch.load(folder / "exact.pt", weights_only=True)
    start = time.perf_counter()
    found = torch.as_tensor(run(_images(1).to(device)))
    first = {"first": time.perf_counter() - start, "error": (found - exact).abs().max().item()}
    print(json.dumps(first), flush=True)
    for line in sys.stdin:
        count = int(line)
        x = _images(count).to(device)
        seconds = min(_timed(run, x) for _ in range(FEWER[count]))
        print(json.dumps({"seconds": seconds, "peak_mib": _peak(device) - before}), flush=True)


def _timed(run: Callable[[Any], Any], x: Any) -> float:
    start = time.perf_counter()
    run(x)
    return time.perf_counter() - start


def _peak(device: str) -> float:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import torch

    return torch.cuda.max_memory_allocated() / (1 << 20)


@contextmanager
def server(kind: str, folder: Path, device: str) -> Iterator[tuple[IO[str], IO[str]]]:
    command = [sys.executable, __file__, "--serve", kind, str(folder), device]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdin, process.stdout
        process.stdin.close()


def compare(
    name: str, config: DenseNetConfig, device: str, rounds: int, batches: Sequence[int], kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns a row for each runtime and number of images."""
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        # A process takes the peak of its parent's memory with it, so this one stays small.
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            apart.submit(prepare, folder, config, kinds).result()
        running = {kind: stack.enter_context(server(kind, folder, device)) for kind in kinds}
        started = {kind: json.loads(answers.readline()) for kind, (_, answers) in running.items()}
        for batch in batches:
            samples: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
            for turn in range(rounds + 1):
                for kind, (asked, answers) in running.items():
                    print(batch, file=asked, flush=True)
                    answer = json.loads(answers.readline())
                    if turn:  # the first of a shape may compile
                        samples[kind].append(answer)
            for kind, found in samples.items():
                seconds = statistics.median(one["seconds"] for one in found)
                pairs = zip(found, samples[EAGER], strict=True)
                ratio = statistics.median(one["seconds"] / eager["seconds"] for one, eager in pairs)
                row = {"network": name, "batch": batch, "runtime": kind, "seconds": seconds, "ratio": ratio}
                rows.append({**row, **started[kind], "peak_mib": found[-1]["peak_mib"]})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    match sys.argv[1:]:
        case ["--serve", kind, folder, device]:
            serve(kind, Path(folder), device)
            return
    asked = arguments(__doc__, runs=3)
    from densenet_convert.densenet import ARCHITECTURES

    rows, kinds = [], kinds_on(asked.device)
    for name in NETWORKS:
        rows += compare(name, ARCHITECTURES[name], asked.device, asked.runs, BATCHES, kinds)
    packages = [one for one in ("onnxruntime", "openvino") if find_spec(one)]
    report({"rows": rows, "runtimes": {one: version(one) for one in packages}}, asked)


if __name__ == "__main__":
    main()
