"""The rules of the house: which module may import which, and what the package says of itself."""

from __future__ import annotations

import ast
import configparser
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import densenet_convert

ROOT = Path(__file__).parents[1]
STEPS = {
    "read",
    "identify",
    "told",
    "rename",
    "load",
    "write",
    "download",
    "random_weights",
    "publish",
    "proof",
}
COMPOSERS = {"pipeline", "parity", "inspection", "exporting", "many", "proving", "pytest_plugin", "cli"}
# Who may import a library; whoever is not named here may not.
ALLOWED = {
    "click": {"cli"},
    "tqdm": {"cli"},
    "torchvision": {"proof", "published"},
    "timm": {"proof"},
    "monai": {"proof"},
    "keras": {"proof"},
    "torchxrayvision": {"proof"},
    "distributed": {"executors"},
    "h5py": {"exporting"},
    "safetensors": {"write"},
    "huggingface_hub": {"hub", "card", "publish"},
}


def modules() -> list[tuple[str, Path]]:
    """Every module of convert/, by its dotted name within the package."""
    paths = sorted((ROOT / "convert").rglob("*.py"))
    return [(".".join(p.relative_to(ROOT / "convert").with_suffix("").parts), p) for p in paths]


def imports(name: str, path: Path) -> Iterator[str]:
    """What a module imports, anywhere in it; the package's own as ``.name``."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                targets = [node.module] if node.module else [alias.name for alias in node.names]
                yield from ("." + ".".join([*base, target]) for target in targets)
            elif node.module and node.module.startswith("densenet_convert"):
                inner = node.module.removeprefix("densenet_convert").lstrip(".")
                yield from ("." + (inner or alias.name) for alias in node.names)
            elif node.module:
                yield node.module


@pytest.mark.parametrize(("name", "path"), modules())
def test_imports_point_one_way(name: str, path: Path) -> None:
    part = name.split(".")[0]
    for imported in imports(name, path):
        target = imported.lstrip(".").split(".")[0]
        if not imported.startswith(".") or target == part:
            continue
        assert target != "cli", f"{name} imports the command line"
        if part in STEPS:
            assert target not in STEPS | COMPOSERS, f"the step {name} imports {target}"
        if part not in STEPS | COMPOSERS | {"__init__"}:
            assert target not in STEPS | COMPOSERS, f"{name} imports the step {target}"


@pytest.mark.parametrize(("name", "path"), modules())
def test_a_library_is_imported_only_where_it_belongs(name: str, path: Path) -> None:
    part = name.split(".")[0]
    for imported in imports(name, path):
        allowed = ALLOWED.get(imported.split(".")[0])
        assert allowed is None or part in allowed, f"{name} imports {imported}"


def test_formats_need_no_torch() -> None:
    for name, path in modules():
        if name.startswith("formats"):
            assert not any(imported.split(".")[0] == "torch" for imported in imports(name, path))


def test_the_network_imports_torch_only() -> None:
    for path in (ROOT / "densenet").glob("*.py"):
        fetching = {"safetensors", "huggingface_hub"} if path.stem == "hub" else set()
        outside = sys.stdlib_module_names | {"torch"} | fetching
        for imported in imports(path.stem, path):
            assert imported.startswith(".") or imported.split(".")[0] in outside, f"{path} imports {imported}"


def test_setup_cfg_lists_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = set()
    for folder, package in (("convert", "densenet_convert"), ("densenet", "densenet_convert.densenet")):
        for path in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([package, *path.parent.relative_to(ROOT / folder).parts]))
    assert listed == found


def test_the_public_names_are_there_and_no_others() -> None:
    assert dir(densenet_convert) == sorted(densenet_convert.__all__)
    for module in ("densenet_convert", "densenet_convert.densenet"):
        package = importlib.import_module(module)
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = package.nothing


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, densenet_convert; dir(densenet_convert); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
