"""The sdist is the repository, the wheel is the two packages, and what tells of a release agrees with it.

``make dist`` holds the files that it built against this; otherwise they are built here, without a network.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
VERSION = CONFIG["metadata"]["version"]
NAME = f"densenet_convert-{VERSION}"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("only a checkout says what belongs to the repository")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def dist(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an sdist and of the wheel that was built from it."""
    if "DIST" in os.environ:
        return Path(os.environ["DIST"])
    folder = tmp_path_factory.mktemp("dist")
    for name in tracked:
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "tree" / name)
    _build("sdist", folder / "tree", folder)
    with tarfile.open(folder / f"{NAME}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    _build("wheel", folder / NAME, folder)
    return folder


def _build(kind: str, tree: Path, folder: Path) -> None:
    script = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", script], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_sdist_is_the_repository(dist: Path, tracked: list[str]) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        found = {member.name.removeprefix(f"{NAME}/") for member in archive if member.isfile()}
    made = {"PKG-INFO", *(name for name in found if name.startswith("densenet_convert.egg-info/"))}
    assert sorted(found - made) == sorted(tracked)


def test_the_wheel_is_the_two_packages(dist: Path, tracked: list[str]) -> None:
    homes = {"convert": "densenet_convert", "densenet": "densenet_convert/densenet"}
    parts = [name.partition("/") for name in tracked]
    expected = [f"{homes[home]}/{rest}" for home, _, rest in parts if home in homes]
    with ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        names = wheel.namelist()
        metadata = message_from_string(wheel.read(f"{NAME}.dist-info/METADATA").decode())
        commands = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()
        assert wheel.read(f"{NAME}.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert sorted(name for name in names if ".dist-info/" not in name) == sorted(expected)
    # Without these a type checker takes everything in it for Any.
    assert {"densenet_convert/py.typed", "densenet_convert/densenet/py.typed"} <= set(names)
    assert (metadata["Version"], metadata["License-Expression"]) == (VERSION, "BSD-3-Clause")
    assert "densenet-convert = densenet_convert.cli:run" in commands
    assert "densenet_parity = densenet_convert.pytest_plugin" in commands


def test_every_file_that_names_the_version_names_this_one() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION
    assert f"\n## {VERSION} - " in (ROOT / "CHANGELOG.md").read_text()
    assert f"densenet-convert@v{VERSION}\n" in (ROOT / "docs" / "ci.md").read_text()


def steps(workflow: Path) -> Iterator[dict[str, str]]:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_the_makefile_has_and_pins_its_actions(workflow: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        assert set(re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))) <= targets
        assert re.search(r"@v\d+(\.\d+)*$", step.get("uses", "@v0")), step["uses"]
