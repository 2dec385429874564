"""What this installation can do, and what it lacks."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from .errors import ConvertError, some
from .layouts import known_layouts
from .records import Device, Examination, Package

NAME = "densenet-convert"
# Extras that add to what the command does; the others are for working on it.
EXTRAS = ("report", "monai", "torchxrayvision", "keras", "dask")
REQUIREMENT = re.compile(r"""([\w.-]+)(?:>=([\d.]+))?(?:\s*;\s*extra\s*==\s*["'](.+)["'])?""")


def examine() -> Examination:
    """Looks at the packages, the devices and the layouts; nothing is downloaded or changed."""
    packages = tuple(_packages())
    problems = [f"{one.name}: {one.problem}" for one in packages if one.problem]
    devices: tuple[Device, ...] = ()
    try:
        devices = tuple(_devices())
    except Exception as error:  # whatever a broken installation raises
        problems.append(f"torch does not run: {some([' '.join(str(error).split())])}")
    try:
        layouts = tuple(layout.name for layout in known_layouts())
    except ConvertError as error:
        layouts = ()
        problems.append(str(error))
    return Examination(
        version=version(NAME),
        python=platform.python_version(),
        platform=platform.platform(),
        devices=devices,
        packages=packages,
        layouts=layouts,
        problems=tuple(problems),
    )


def _packages() -> Iterator[Package]:
    for requirement in requires(NAME) or ():
        match = REQUIREMENT.fullmatch(requirement)
        if match is None:
            continue
        name, floor, extra = match.groups()
        if extra is None or extra in EXTRAS:
            yield _package(name, floor, extra)


def _package(name: str, floor: str | None, extra: str | None) -> Package:
    try:
        found = version(name)
    except PackageNotFoundError:
        problem = None if extra else f"it is not installed: pip install {name}"
        return Package(name, None, floor, extra, problem)
    if floor and _numbers(found) < _numbers(floor):
        return Package(name, found, floor, extra, f"it is {found}, expected {floor} or later")
    return Package(name, found, floor, extra)


def _numbers(text: str) -> list[int]:
    """``[2, 6, 0]`` for ``"2.6.0+cu130"``."""
    release = text.partition("+")[0]
    return [int(digits) for digits in re.findall(r"\d+", release)[:3]]


def _devices() -> Iterator[Device]:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    yield Device("cpu", f"{platform.machine()}, {capability}, {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        torch.ones(2, device=f"cuda:{index}").sum().item()  # a driver may list what it can't run on
        yield Device(f"cuda:{index}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB")
