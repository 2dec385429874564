"""`make gpu` as far as a CPU can take it: every step, what it writes and when, and how a step is ended."""

from __future__ import annotations

import json
import re
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import gpu_steps
import pytest
import torch

ROOT = Path(__file__).parents[1]
# By its path: tests/gpu is another gpu.
_spec = spec_from_file_location("gpu_script", ROOT / "benchmarks" / "gpu.py")
assert _spec is not None
assert _spec.loader is not None
gpu: Any = module_from_spec(_spec)
_spec.loader.exec_module(gpu)

QUICK = ["--device", "cpu", "--quick"]
SOUND: dict[str, Any] = {
    "device": "cpu",
    "dtype": "float32",
    "reference": "torchvision's own loader",
    "largest_difference": {"logits": 0.0, "gradients": 0.0},
    "flags": {
        "deterministic_algorithms": True,
        "cudnn.deterministic": True,
        "cuda.matmul.fp32_precision": "ieee",
    },
}


def test_every_step_runs_passes_and_is_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gpu.json"
    assert gpu.main([*QUICK, "--output", str(file)]) == 0, capfd.readouterr().out
    text = file.read_text()
    found = json.loads(text)
    assert [(step["name"], step["status"]) for step in found["steps"]] == [(n, "passed") for n in gpu.LIMITS]
    assert all(step["results"] for step in found["steps"])
    assert not [r for step in found["steps"] for r in step["results"] if "problem" in r]
    fields = {"command", "machine", "device", "driver", "versions", "commit", "date", "steps"}
    assert found.keys() == fields
    assert found["device"] == "cpu"
    assert found["versions"].keys() == {"python", "torch", "torchvision", "safetensors", "cuda", "cudnn"}
    for private in (ROOT, Path.home(), gettempdir()):
        assert f"{private}/" not in text
    first = capfd.readouterr().out.partition("\n")[0]
    limits = [int(n) for n in re.findall(r"\d+", first)]
    assert limits[0] == sum(limits[1:]) <= 480


def test_a_step_that_fails_is_reported_and_the_rest_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "gpu.json"
    written = []

    def stub(_asked: object, emit: Any) -> None:
        written.append([step["status"] for step in json.loads(file.read_text())["steps"]])
        emit({"case": "one"})
        if len(written) == 3:
            raise ValueError(f"nothing in {tmp_path}/densenet121")

    monkeypatch.setattr(gpu_steps, "STEPS", dict.fromkeys(gpu.LIMITS, stub))
    assert gpu.main([*QUICK, "--output", str(file)]) == 1
    steps = json.loads(file.read_text())["steps"]
    assert [step["status"] for step in steps] == ["passed", "passed", "failed", *["passed"] * 4]
    assert steps[2]["results"][1]["problem"] == "ValueError: nothing in .../densenet121"
    # As each step begins: those before it are there, it is cut short until it ends, the rest skipped.
    assert written[3] == ["passed", "passed", "failed", "cut short", *["skipped"] * 3]


def test_a_case_that_fails_leaves_the_others_of_its_step() -> None:
    said: list[dict[str, Any]] = []
    gpu_steps.each({"one": lambda: {"x": 1 / 0}, "two": lambda: {"x": 2}}, said.append)
    assert said == [
        {"case": "one", "problem": "ZeroDivisionError: division by zero"},
        {"case": "two", "x": 2},
    ]


def test_a_step_that_hangs_is_ended_and_keeps_what_it_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a child that would hold its pipe open."""

    def hang(_name: str, _asked: object, limit: float, emit: Any) -> Any:
        return gpu.hear(["sh", "-c", """echo '{"case": "one"}'; sleep 100"""], limit, emit)

    monkeypatch.setattr(gpu, "LIMITS", {"times": 0.5, gpu.LAST: 0.5})
    monkeypatch.setattr(gpu, "run_apart", hang)
    asked = gpu_steps.Asked(torch.device("cpu"))
    record: dict[str, Any] = {}
    start = time.monotonic()
    assert gpu.run_all(asked, record, tmp_path / "gpu.json", start) == 1
    assert time.monotonic() - start < 10
    assert json.loads((tmp_path / "gpu.json").read_text()) == record
    for step in record["steps"]:
        assert step["status"] == "cut short"
        assert step["results"] == [{"case": "one"}]


def test_a_process_that_dies_is_a_failure_and_one_that_ends_is_not() -> None:
    said: list[dict[str, Any]] = []
    assert gpu.hear(["sh", "-c", "exit 3"], 10, said.append)
    assert said == [{"case": "the process", "problem": "it ended with 3 before its end"}]
    said.clear()
    assert gpu.hear(["sh", "-c", "echo '{\"end\": true}'; sleep 100"], 10, said.append)
    assert said == []


def test_without_a_gpu_nothing_is_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cuda", "--output", str(tmp_path / "gpu.json")]) == 2
    assert "finds no CUDA device here" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.parametrize(
    "unsound",
    [
        {"device": "NVIDIA H200"},
        {"dtype": "float64"},
        {"reference": "MONAI"},
        {"largest_difference": {"logits": 0.0, "gradients": 1e-9}},
        {"flags": {**SOUND["flags"], "cudnn.deterministic": False}},
        {"flags": {**SOUND["flags"], "cuda.matmul.fp32_precision": "tf32"}},
        {"flags": {**SOUND["flags"], "cudnn.allow_tf32": True}},
    ],
)
def test_a_conversion_is_held_to_what_is_claimed_of_it(unsound: dict[str, Any]) -> None:
    assert gpu_steps.difference_of(SOUND, torch.device("cpu")) == 0
    with pytest.raises(AssertionError):
        gpu_steps.difference_of({**SOUND, **unsound}, torch.device("cpu"))
