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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from measuring import arguments, make_checkpoints, report

ARCHITECTURES = ("densenet121", "densenet169")
BATCHES = (1, 32)
SIDE = 224
EAGER = "torch, eager"
ON_ANY = (EAGER, "torch, channels_last", "torch, compiled", "onnxruntime")
ON_CPU = ("OpenVINO", "OpenVINO, its default precision")
FEWER = {1: 5, 32: 1}  # batches for each of one image, and of 32


def prepare(folder: Path, name: str, device: str) -> None:
    """Writes a network's tensors, its files for the other runtimes, and its logits in float64.

    The files are those that `export` writes; here each error is measured, and not proven first.
    """
    import torch

    from densenet_convert.densenet import ARCHITECTURES, DenseNet
    from densenet_convert.proof.exported.ir_write import ir_files
    from densenet_convert.proof.exported.write import onnx_model

    (checkpoint,) = make_checkpoints(str(folder), 1, name)
    network = DenseNet(ARCHITECTURES[name]).eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True), strict=False)
    torch.save(network.state_dict(), folder / "net.pth")
    (folder / "name").write_text(name)
    model = onnx_model(network, torch.float32, (SIDE, SIDE), {})
    (folder / "net.onnx").write_bytes(model)
    if device == "cpu":
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

    from densenet_convert.densenet import ARCHITECTURES, DenseNet

    network: Any = DenseNet(ARCHITECTURES[(folder / "name").read_text()])
    network.load_state_dict(torch.load(folder / "net.pth", weights_only=True, mmap=True), assign=True)
    network.eval().to(device)
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


def compare(folder: Path, name: str, device: str, rounds: int) -> list[dict[str, Any]]:
    """Returns a row for each runtime and number of images."""
    kinds = ON_ANY + (ON_CPU if device == "cpu" else ())
    rows = []
    with ExitStack() as stack:
        running = {kind: stack.enter_context(server(kind, folder, device)) for kind in kinds}
        started = {kind: json.loads(answers.readline()) for kind, (_, answers) in running.items()}
        for batch in BATCHES:
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
        case ["--prepare", folder, name, device]:
            prepare(Path(folder), name, device)
            return
        case ["--serve", kind, folder, device]:
            serve(kind, Path(folder), device)
            return
    asked = arguments(__doc__, runs=3)
    rows = []
    for name in ARCHITECTURES:
        with TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--prepare", folder, name, asked.device]
            subprocess.run(command, check=True)
            rows += compare(Path(folder), name, asked.device, asked.runs)
    packages = ["onnxruntime", "openvino"] if asked.device == "cpu" else ["onnxruntime"]
    report({"rows": rows, "runtimes": {one: version(one) for one in packages}}, asked)


if __name__ == "__main__":
    main()
