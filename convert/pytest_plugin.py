"""A plugin for pytest: that a converted folder is what its receipt says is a test like any other.

``pytest --densenet-parity FOLDER`` adds a test for each folder, and the fixture ``densenet_parity``
gives the verified network to tests of your own.  Importing this module loads no torch, and a run
that does not ask for parity pays for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .errors import ConvertError, ParityError

if TYPE_CHECKING:
    from .records import Proof, Verified

FIXTURE = "densenet_parity"
OPTION, DEVICE = "--densenet-parity", "--densenet-parity-device"

# What came of each folder: it is verified once in a process.
_VERIFIED = pytest.StashKey[dict[str, "Verified | ConvertError"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("densenet-convert", "parity of converted DenseNets")
    group.addoption(
        OPTION,
        action="append",
        default=[],
        metavar="FOLDER",
        help="Verify a folder that densenet-convert wrote; can be repeated.",
    )
    group.addoption(
        DEVICE, default="auto", metavar="DEVICE", help="Where: auto, cpu or cuda[:N]. [default: auto]"
    )


@pytest.hookimpl(tryfirst=True)  # so that -k and the like see these items, too
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    for folder in _folders(config):
        items.append(ParityItem.from_parent(session, name=folder, nodeid=f"densenet-parity::{folder}"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folders = _folders(metafunc.config)
    if FIXTURE in metafunc.fixturenames and folders:
        metafunc.parametrize(FIXTURE, folders, indirect=True)


@pytest.fixture
def densenet_parity(request: pytest.FixtureRequest) -> Verified:
    """The verified conversion of each folder: ``loaded.model`` is the network, ``proof`` what was compared.

    All tests share it: leave the network in eval mode, as it is.
    """
    folder = getattr(request, "param", None)
    if folder is None:
        pytest.skip(f"no converted folder was named with {OPTION} FOLDER")
    found = _verify(request.config, folder)
    request.node.user_properties.extend(_properties(folder, found))
    if isinstance(found, ConvertError):
        pytest.fail(str(found), pytrace=False)
    return found


class ParityItem(pytest.Item):
    """The test of one folder."""

    def runtest(self) -> None:
        """Raises what the verification raised."""
        found = _verify(self.config, self.name)
        self.user_properties.extend(_properties(self.name, found))
        if isinstance(found, ConvertError):
            raise found

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The message alone, where the error is one that was raised on purpose."""
        if isinstance(excinfo.value, ConvertError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """Of no file and no line."""
        return "densenet-parity", None, f"densenet-parity: {self.name}"


def _folders(config: pytest.Config) -> list[str]:
    return list(dict.fromkeys(config.getoption(OPTION)))


def _verify(config: pytest.Config, folder: str) -> Verified | ConvertError:
    from .pipeline import verify

    known = config.stash.setdefault(_VERIFIED, {})
    if folder not in known:
        try:
            known[folder] = verify(folder, device=config.getoption(DEVICE))
        except ConvertError as error:
            known[folder] = error
    return known[folder]


def _properties(folder: str, found: Verified | ConvertError) -> Iterator[tuple[str, object]]:
    """What a report in JUnit's format says of it."""
    yield "densenet_parity.folder", folder
    if isinstance(found, ConvertError):
        yield "densenet_parity.error", type(found).__name__
        if isinstance(found, ParityError):
            yield "densenet_parity.where", found.where
        return
    for name, value in _facts(found.proof):
        yield f"densenet_parity.{name}", value


def _facts(proof: Proof) -> Iterator[tuple[str, object]]:
    yield "device", proof.device
    yield "dtype", proof.dtype
    yield "reference", proof.reference
    yield "comparisons", sum(proof.compared.values())
    yield "largest_difference", max(proof.largest.values())
    yield "coverage.parameters", proof.parameters.total
    yield "coverage.running_statistics", proof.statistics.total
    yield "coverage.reaching_logits", proof.reaching.total
    for name, version in proof.environment["versions"].items():
        yield f"versions.{name}", str(version)  # torch's is a class of its own, which xdist can't send
