"""doctor says what there is, and what keeps a conversion from running."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata

import pytest
import torch
from click.testing import CliRunner, Result
from packaging.requirements import Requirement

from densenet_convert.api import doctor
from densenet_convert.cli import main
from densenet_convert.errors import LayoutError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], catch_exceptions=False)


def versions(**found: str | None) -> Callable[[str], str]:
    """importlib.metadata's ``version``, with other answers; None is not installed."""

    def version(name: str) -> str:
        answer = found.get(name, metadata.version(name) if name not in found else None)
        if answer is None:
            raise metadata.PackageNotFoundError(name)
        return answer

    return version


def test_a_whole_installation_is_ready_and_fits_one_screen() -> None:
    result = run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"densenet-convert {metadata.version('densenet-convert')}, Python 3.")
    assert lines[-1] == "ready"
    assert len(lines) <= 24
    assert any(line.split()[:2] == ["torch", metadata.version("torch")] for line in lines)


def test_every_requirement_of_setup_cfg_is_understood() -> None:
    requirements = [Requirement(text) for text in metadata.requires("densenet-convert") or []]
    needed = {one.name for one in requirements if one.marker is None}
    optional = {one.name for one in requirements if one.marker is not None}
    found = doctor.examine().packages
    assert {one.name for one in found if one.extra is None} == needed
    assert {one.name for one in found if one.extra is not None} <= optional
    assert all(one.floor for one in found)


def test_what_an_extra_would_add_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", versions(keras=None))
    result = run()
    assert result.exit_code == 0
    assert 'not installed; pip install "densenet-convert[keras]"' in result.stdout


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"safetensors": None}, "safetensors: it is not installed: pip install safetensors"),
        ({"torch": "2.5.1+cu121"}, "torch: it is 2.5.1+cu121, expected 2.6 or later"),
        ({"h5py": "3.9.0"}, "h5py: it is 3.9.0, expected 3.10 or later"),
    ],
)
def test_what_is_missing_or_too_old_is_a_problem(
    found: dict[str, str | None], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "version", versions(**found))
    result = run()
    assert result.exit_code == 1
    assert f"problem: {problem}" in result.stdout.splitlines()
    document = json.loads(run("--json").stdout)
    assert document["status"] == "error"
    assert document["problems"] == [problem]


def test_a_torch_that_does_not_run_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", broken)
    result = run()
    assert result.exit_code == 1
    assert "problem: torch does not run: no kernel image is available" in result.stdout


def test_a_layout_that_can_not_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise LayoutError("The layout mine:X can't be imported.")

    monkeypatch.setattr(doctor, "known_layouts", broken)
    assert "problem: The layout mine:X can't be imported." in run().stdout
