"""The wheel works in a folder that has a convert.py and a densenet.py of its own, as our users' do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout gets no build folder."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("convert", "densenet"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(copy / "dist"), str(copy))
    return next((copy / "dist").glob("*.whl"))


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    names = [name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert all(name.startswith("densenet_convert/") for name in names)
    for name in (
        "cli/__init__.py",
        "py.typed",
        "layouts/tables/torchvision.py",
        "densenet/model.py",
        "densenet/py.typed",
    ):
        assert f"densenet_convert/{name}" in names


def test_the_command_and_pytest_run_beside_modules_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    _pip("install", "--no-deps", "--target", str(site), str(wheel))
    work.mkdir()
    for name in ("convert", "densenet"):
        (work / f"{name}.py").write_text("raise RuntimeError('the user has a module of this name')\n")
    (work / "test_user.py").write_text(
        "import densenet_convert, densenet_convert.densenet\n"
        f"def test_it_is_the_wheel(): assert densenet_convert.__file__.startswith({str(site)!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, str(site / "bin" / "densenet-convert")]
    conversion = ["torchvision", "--arch", "121", "--weights", "random", "--device", "cpu"]
    done = subprocess.run([*command, *conversion], cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "densenet121: converted" in done.stdout
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(tests, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
