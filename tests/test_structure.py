"""The rules of the house: which module may import which, and what the package says of itself."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import densenet_convert

ROOT = Path(__file__).parents[1]
# From the top down: what stands in one row may import the rows below it, and nothing beside it.
ORDER = (
    ("__main__",),
    ("__init__", "pytest_plugin", "cli"),
    ("api",),
    ("proof",),
    ("source", "hub", "comparing"),
    ("layouts", "folder"),
    ("records", "tensors", "temporary", "torchvision_weights", "executors"),
    ("layout", "claims", "results", "shown", "columns"),
    ("errors", "formats"),
)
ROW = {room: row for row, rooms in enumerate(ORDER) for room in rooms}
# Who may import a library; whoever is not named here may not.
ALLOWED = {
    "click": {"cli"},
    "tqdm": {"cli"},
    "torchvision": {"proof", "torchvision_weights"},
    "timm": {"proof"},
    "monai": {"proof"},
    "keras": {"proof"},
    "torchxrayvision": {"proof"},
    "pytorchcv": {"proof"},
    "PIL": {"proof"},
    "onnx": {"proof"},
    "onnxruntime": {"proof"},
    "openvino": {"proof"},
    "distributed": {"executors"},
    "h5py": {"api"},
    "packaging": {"api", "proof"},
    "safetensors": {"folder"},
    "model_signing": {"folder"},
    "cryptography": {"folder"},
    "huggingface_hub": {"hub", "folder"},
    "pytest": {"pytest_plugin"},
}
# Lines of a function's body, docstring aside; of a class; and of a file.
LONGEST_BODY, LONGEST_CLASS, LONGEST_FILE = 30, 150, 300
# A class that goes through a format bit by bit, and a file that is one table of such bits.
LONG_CLASSES = {
    "Unpickler": "one method for each opcode, and what they share",
    "File": "one method for each structure of HDF5, which refer to one another",
}
LONG_FILES = {
    "convert/formats/unpickle.py": "the pickle machine and its table of opcodes",
    "convert/formats/objects.py": "the table of what pickles of torch and numpy call",
}
# A docstring says first what is returned or done.
INVERTED = re.compile(r"\s*(Of|That of|In what|Where|What)\b")
# "module:function", as layouts name what belongs to them.
REFERENCE = re.compile(r"(densenet_convert(?:\.\w+)*):(\w+)")


def modules() -> list[tuple[str, Path]]:
    """Returns every module of convert/, by its dotted name within the package."""
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


MODULES = modules()


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_imports_point_one_way(name: str, path: Path) -> None:
    room = name.split(".")[0]
    assert room in ROW, f"{name} stands in no row of ORDER"
    for imported in imports(name, path):
        target = imported.lstrip(".").split(".")[0]
        if not imported.startswith(".") or target in (room, "densenet"):
            continue
        assert ROW[target] > ROW[room], f"{name} imports {imported}, which is not below it"


def test_the_table_names_no_room_that_is_gone() -> None:
    assert {name.split(".")[0] for name, _ in MODULES} == ROW.keys()
    assert len(ROW) == sum(map(len, ORDER))


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports within functions count, and so do those for the type checker alone."""
    for folder in ("convert", "densenet"):
        paths = sorted((ROOT / folder).rglob("*.py"))
        named = {_dotted(path, folder): path for path in paths}
        graph = {name: set(_targets(name, path, named)) for name, path in named.items()}
        TopologicalSorter(graph).prepare()


def _dotted(path: Path, folder: str) -> str:
    parts = path.relative_to(ROOT / folder).with_suffix("").parts
    return ".".join(parts)


def _targets(name: str, path: Path, named: Mapping[str, Path]) -> Iterator[str]:
    """Yields the modules that are imported, and not the packages that are merely passed on the way."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        parts = name.split(".")[:-1]
        base = parts[: len(parts) - node.level + 1] + (node.module.split(".") if node.module else [])
        for alias in node.names:
            for target in (".".join([*base, alias.name]), ".".join(base), ".".join([*base, "__init__"])):
                if target in named:
                    if target != name:
                        yield target
                    break


def test_what_a_string_names_is_there() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [path.read_text() for folder in ("convert", "densenet") for path in (ROOT / folder).rglob("*.py")]
    texts += config["options.entry_points"].values()
    texts += [path.read_text() for path in (ROOT / "docs").glob("*.md")]
    found = {match.groups() for text in texts for match in REFERENCE.finditer(text)}
    assert len(found) > 5
    for module, name in sorted(found):
        assert hasattr(importlib.import_module(module), name), f"{module}:{name} does not exist"


def test_plugins_are_modules_that_are_there() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    _, _, module = config["options.entry_points"]["pytest11"].strip().partition(" = ")
    assert importlib.import_module(module).densenet_parity


def test_tests_lie_where_the_modules_lie() -> None:
    for folder in ("convert", "densenet"):
        rooms = {path.parent.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}
        for test in (ROOT / "tests" / folder).rglob("test_*.py"):
            assert test.parent.relative_to(ROOT / "tests" / folder) in rooms, f"{test} mirrors no room"


def test_no_identifier_is_called_by_a_word_that_says_nothing() -> None:
    others = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    for path in [*sources(), *others]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname")]
            bad = [name for name in names if isinstance(name, str) and re.search("told|heed", name)]
            assert not bad, f"{path}:{node.lineno} {bad}"  # type: ignore[attr-defined]


def sources() -> list[Path]:
    return [path for folder in ("convert", "densenet") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_is_short_and_plain(path: Path) -> None:
    text = path.read_text()
    name = path.relative_to(ROOT).as_posix()
    lines = text.count("\n")
    problems = [f"{name} has {lines} lines"] if lines > LONGEST_FILE and name not in LONG_FILES else []
    for node in ast.walk(ast.parse(text)):
        problems += [f"{name}:{getattr(node, 'lineno', 1)} {problem}" for problem in too_much(node)]
    assert not problems


def too_much(node: ast.AST) -> Iterator[str]:
    """Yields what makes a piece of code hard to follow."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and INVERTED.match(
        ast.get_docstring(node) or ""
    ):
        yield "has a docstring without a subject"
    if isinstance(node, ast.FunctionDef) and (lines := body_lines(node)) > LONGEST_BODY:
        yield f"{node.name} has {lines} lines"
    if isinstance(node, ast.ClassDef) and node.name not in LONG_CLASSES:
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > LONGEST_CLASS:
            yield f"{node.name} has {lines} lines"
    if isinstance(node, ast.IfExp) and any(isinstance(one, ast.IfExp) for one in inner(node)):
        yield "has a conditional expression within another"
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        conditions = [condition for part in node.generators for condition in part.ifs]
        if len(conditions) > 1:
            yield "has a comprehension with two conditions"
        if any(isinstance(one, ast.BoolOp) for condition in conditions for one in ast.walk(condition)):
            yield "has a comprehension with and, or in its condition"


def body_lines(node: ast.FunctionDef) -> int:
    """Returns the number of lines of a function's body, its docstring aside."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def inner(node: ast.AST) -> Iterator[ast.AST]:
    """Yields everything within a node, and not the node."""
    return (one for one in ast.walk(node) if one is not node)


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_a_library_is_imported_only_where_it_belongs(name: str, path: Path) -> None:
    room = name.split(".")[0]
    for imported in imports(name, path):
        allowed = ALLOWED.get(imported.split(".")[0])
        assert allowed is None or room in allowed, f"{name} imports {imported}"


def test_formats_need_no_torch() -> None:
    for name, path in MODULES:
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
