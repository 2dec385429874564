"""``doctor``: what this installation can do, and what it lacks."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from ..columns import rows_as_text, wrapped
from ..errors import ConvertError, quoted
from ..layouts import known_layouts
from ..shown import Shown

NAME = "densenet-convert"
# Extras that add to what the command does; the others are for working on it.
EXTRAS = ("report", "monai", "torchxrayvision", "pytorchcv", "keras", "dask", "sign")


@dataclass(frozen=True)
class Device:
    """A device on which a proof can run; ``name`` is the value for ``device``."""

    name: str
    description: str


@dataclass(frozen=True)
class Package:
    """A package that is needed, always or for an extra.

    Attributes:
        name: as pip knows it.
        version: None where it is not installed.
        floor: the lowest version that will do; None for any.
        extra: that of ``pip install densenet-convert[extra]``; None where it is always needed.
        problem: what is wrong with it, and what to do; None where nothing is.
    """

    name: str
    version: str | None
    floor: str | None
    extra: str | None
    problem: str | None = None


@dataclass(frozen=True, repr=False)
class Examination(Shown):
    """The abilities of an installation, and what it lacks.

    Attributes:
        version: that of densenet-convert.
        python: its version.
        platform: system and processor.
        devices: that torch finds, and that compute.
        packages: in the order of setup.cfg.
        layouts: names of those that are known, those of other packages among them.
        problems: whatever keeps a conversion from running; empty where it would.
    """

    version: str
    python: str
    platform: str
    devices: tuple[Device, ...]
    packages: tuple[Package, ...]
    layouts: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return examination_as_text(self)

    def _shown(self) -> dict[str, object]:
        """Returns what there is, and whether a conversion would run."""
        return {
            "version": self.version,
            "python": self.python,
            "devices": ", ".join(one.name for one in self.devices),
            "status": "; ".join(self.problems) or "ready",
        }


def examine() -> Examination:
    """Looks at the packages, the devices and the layouts; nothing is downloaded or changed."""
    packages = tuple(_packages())
    problems = [f"{one.name}: {one.problem}" for one in packages if one.problem]
    devices: tuple[Device, ...] = ()
    try:
        devices = tuple(_devices())
    except Exception as error:  # whatever a broken installation raises
        problems.append(f"torch does not run: {quoted(' '.join(str(error).split()))}")
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
    for text in requires(NAME) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            yield _package(requirement, None)
            continue
        for extra in EXTRAS:
            if marker.evaluate({"extra": extra}):
                yield _package(requirement, extra)


def _package(requirement: Requirement, extra: str | None) -> Package:
    name = requirement.name
    floor = next((one.version for one in requirement.specifier if one.operator == ">="), None)
    try:
        found = version(name)
    except PackageNotFoundError:
        problem = None if extra else f"it is not installed: pip install {name}"
        return Package(name, None, floor, extra, problem)
    # A local build, such as 2.6.0+cu130, counts as the release, and so does what leads to it.
    if floor and Version(Version(found).base_version) < Version(floor):
        return Package(name, found, floor, extra, f"it is {found}, expected {floor} or later")
    return Package(name, found, floor, extra)


def _devices() -> Iterator[Device]:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    yield Device("cpu", f"{platform.machine()}, {capability}, {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        torch.ones(2, device=f"cuda:{index}").sum().item()  # a driver may list what it can't run on
        yield Device(f"cuda:{index}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB")


def examination_as_text(found: Examination) -> str:
    """One screen: versions, devices, packages, layouts, and what is wrong."""
    rows = [(one.name, one.description) for one in found.devices]
    rows += [(one.name, _installed(one)) for one in found.packages]
    rows.append(("layouts", ", ".join(found.layouts)))
    head = f"densenet-convert {found.version}, Python {found.python}, {found.platform}"
    end = [f"problem: {problem}" for problem in found.problems] or ["ready"]
    lines = [*wrapped(head), *rows_as_text(rows)]
    for line in end:
        lines += wrapped(line)
    return "\n".join(lines)


def _installed(package: Package) -> str:
    if package.version is None and package.extra:
        return f'not installed; pip install "densenet-convert[{package.extra}]"'
    floor = f">={package.floor}" if package.floor else ""
    return f"{package.version or 'not installed':<16}{floor:<10}{package.extra or ''}"
