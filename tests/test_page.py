"""docs/gpu.md is what benchmarks/page.py makes of the recorded run, and says of which state that is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
import page


def test_the_page_is_what_is_made_of_what_is_recorded() -> None:
    if (page.RESULTS / "gpu.json").exists():
        commit = page.load("gpu")["commit"]
        if commit and "does not have" in page.standing(commit):
            pytest.skip(f"{commit} is not in the history that is here")
    text = (page.DOCS / "gpu.md").read_text()
    assert page.gpu_page(text, page.gpu()) == text, "run benchmarks/page.py"


def test_a_page_is_made_of_a_run_and_says_whether_it_is_of_this_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = [
        {"case": "a", "ours_ms": 1.23456, "from_to": [1.0, 20000.0], "peak": None},
        {"case": "b", "problem": "x | y\nz"},
    ]
    step = {"name": "times", "status": "failed", "seconds": 1.0, "limit": 180, "results": results}
    tests = {**step, "name": "tests", "results": [{"case": "t", "outcome": "passed", "seconds": 1.0}]}
    record = {**dict.fromkeys(("command", "machine", "device", "driver", "date")), "versions": {}}
    commit = "0" * 40
    text = json.dumps({**record, "commit": commit, "steps": [tests, step]})
    (tmp_path / "gpu.json").write_text(text)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    made = page.gpu()
    assert "Commit 0000000: this history does not have it." in made
    assert "| a | 1.235 | 1 to 20,000 |  |  |" in made
    assert "| b |  |  |  | x \\| y z |" in made
    assert "| t |" not in made
    for code, said in ((0, "is as it was"), (1, "another than this")):
        monkeypatch.setattr(
            page.subprocess, "run", lambda *_, code=code, **__: subprocess.CompletedProcess([], code)
        )
        assert said in page.standing(commit)
    assert "not committed" in page.standing(f"{commit}-dirty")
    assert page.standing(None) == "Of an unknown commit."
