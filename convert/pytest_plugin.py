"""A plugin for pytest: that a converted folder is what its receipt says is a test like any other.

``pytest --densenet-parity FOLDER`` adds a test for each folder, and the fixture ``densenet_parity``
gives the verified network to tests of your own.  The fixture ``densenet_convert`` converts and proves
what is at hand.  Importing this module loads no torch, and a run
that does not ask for parity pays for nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from .errors import ParityError, explanation, is_expected

if TYPE_CHECKING:
    from .folder.records import Verified, Written
    from .records import AnyPath, InMemory
    from .results import Proof

FIXTURE = "densenet_parity"
GROUP = "densenet-parity"  # what the ids of the items begin with, and what -k selects them by
OPTION, DEVICE = "--densenet-parity", "--densenet-parity-device"
REFERENCE, SOURCE = "--densenet-parity-reference", "--densenet-parity-source"
REPORT, EXPORTED = "--densenet-parity-report", "--densenet-parity-exported"

# Options that are given once for each folder.
OF_EACH = {
    SOURCE: "The checkpoint that the folder was converted from",
    EXPORTED: "A network (.onnx, .xml or .pt2), to be compared with the folder that it was exported from",
}


class Failure(NamedTuple):
    """A verification that failed, and what is said of it: of a network that differs the layer first."""

    error: Exception
    message: str


# The result of each folder, which is verified once in a process.
_VERIFIED = pytest.StashKey[dict[str, "Verified | Failure"]]()


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
    group.addoption(
        REFERENCE,
        metavar="MODULE:FUNCTION",
        help="Compare each folder with your own network, which this function returns.",
    )
    for option, what in OF_EACH.items():
        said = f"{what}; of several folders one for each, in order."
        group.addoption(option, action="append", default=[], metavar="FILE", help=said)
    group.addoption(
        REPORT,
        metavar="PATH",
        help="Write a page about the proof, also where it fails: to PATH if that ends in .html, else to "
        "PATH/FOLDER.html.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses sources, exported files and a report that can't be those of the folders."""
    folders = _folders(config)
    for option in OF_EACH:
        given = config.getoption(option)
        if given and len(given) != len(folders):
            raise pytest.UsageError(
                f"{option} is given {len(given)} times, and {OPTION} names {len(folders)} folders: give it "
                "once for each folder, in the same order."
            )
    if len(set(_reports(config).values())) != len(_reports(config)):
        raise pytest.UsageError(
            f"{REPORT} would be one file for several folders. Name a folder, and folders of different names."
        )


# hookwrapper, for every pytest takes it: an old one would fail as it loads the plugin.
@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """Adds the items to what the session itself collects, so that they count as any other."""
    outcome = yield
    report = outcome.get_result()
    if isinstance(collector, pytest.Session) and report.passed:
        for folder in _folders(collector.config):
            report.result.append(ParityItem.from_parent(collector, name=folder, nodeid=f"{GROUP}::{folder}"))
        exported = collector.config.getoption(EXPORTED)
        for folder, file in zip(_folders(collector.config), exported, strict=False):
            named = {"name": file, "nodeid": f"{GROUP}::{folder}::{file}"}
            report.result.append(ExportedItem.from_parent(collector, folder=folder, **named))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folders = _folders(metafunc.config)
    if FIXTURE in metafunc.fixturenames and folders:
        metafunc.parametrize(FIXTURE, folders, indirect=True)


@pytest.fixture(scope="session")
def densenet_parity(request: pytest.FixtureRequest) -> Verified:
    """The verified conversion of each folder: ``loaded.model`` is the network, ``proof`` what was compared.

    All tests share it: leave the network in eval mode, as it is.
    """
    folders = _folders(request.config)
    if not folders:
        pytest.skip(f"no converted folder was named with {OPTION} FOLDER")
    # A unittest.TestCase and request.getfixturevalue are not repeated for each folder.
    if not hasattr(request, "param") and len(folders) > 1:
        pytest.fail(
            f"{len(folders)} folders were named with {OPTION}, and this test runs once. "
            f"Take {FIXTURE} as an argument of a function, which runs for each of them.",
            pytrace=False,
        )
    found = _verify(request.config, getattr(request, "param", folders[0]))
    if isinstance(found, Failure):
        pytest.fail(found.message, pytrace=False)
    return found


@pytest.fixture(scope="session")
def densenet_convert(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Written]:
    """A function that converts and proves what ``convert`` takes, such as a network at hand.

    It takes the source and the options of ``convert``, writes into a temporary folder, and returns what was
    written; a proof that fails raises ``ParityError``.
    """
    from .api.convert import convert

    def run(source: AnyPath | InMemory, **options: Any) -> Written:
        folder = tmp_path_factory.mktemp("densenet") / "converted"
        return convert(source, folder, **{"device": request.config.getoption(DEVICE), **options})

    return run


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Tells the report of what each test took from the fixture, which itself runs once for all of them."""
    known = item.config.stash.get(_VERIFIED, None)
    callspec = getattr(item, "callspec", None)
    if known and callspec and FIXTURE in callspec.params:
        folder = callspec.params[FIXTURE]
        if folder in known:  # it is not where a test was skipped before
            item.user_properties.extend(_properties(folder, known[folder]))


class ParityItem(pytest.Item):
    """The test of one folder."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.extra_keyword_matches.add(GROUP)

    def runtest(self) -> None:
        """Fails with the message alone, and no traceback."""
        found = _verify(self.config, self.name)
        self.user_properties.extend(_properties(self.name, found))
        if isinstance(found, Failure):
            pytest.fail(found.message, pytrace=False)

    def reportinfo(self) -> tuple[str, None, str]:
        """Returns a heading that names no file and no line."""
        return GROUP, None, f"{GROUP}: {self.name}"


class ExportedItem(pytest.Item):
    """The test of one exported network."""

    def __init__(self, *, folder: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.extra_keyword_matches.add(GROUP)
        self.folder = folder

    def runtest(self) -> None:
        """Fails with the message alone, which names the layer first."""
        from .api.verify_exported import verify_exported

        self.user_properties.append(("densenet_parity.exported", self.name))
        try:
            proof = verify_exported(self.name, self.folder).proof
        except Exception as error:  # of whatever kind: nobody reads pages of torch's own code
            if isinstance(error, ParityError):
                self.user_properties.append(("densenet_parity.where", error.where))
            pytest.fail(_message(error, None), pytrace=False)
        for name in ("runtime", "format", "dtype", "tensors", "layers"):
            self.user_properties.append((f"densenet_parity.{name}", getattr(proof, name)))

    def reportinfo(self) -> tuple[str, None, str]:
        """Returns a heading that names no file and no line."""
        return GROUP, None, f"{GROUP}: {self.name}"


def _folders(config: pytest.Config) -> list[str]:
    return list(dict.fromkeys(config.getoption(OPTION)))


def _reports(config: pytest.Config) -> dict[str, Path]:
    """Returns where the page about each folder is written."""
    asked = config.getoption(REPORT)
    if not asked:
        return {}
    single = Path(asked).suffix == ".html"
    folders = _folders(config)
    return {one: Path(asked) if single else Path(asked, f"{Path(one).name}.html") for one in folders}


def _verify(config: pytest.Config, folder: str) -> Verified | Failure:
    known = config.stash.setdefault(_VERIFIED, {})
    if folder not in known:
        report = _reports(config).get(folder)
        try:
            known[folder] = _verify_anew(config, folder, report)
        except Exception as error:  # of whatever kind: nobody reads pages of torch's own code
            known[folder] = Failure(error, _message(error, report))
    return known[folder]


def _verify_anew(config: pytest.Config, folder: str, report: Path | None) -> Verified:
    from .api.verify import verify

    sources = dict(zip(_folders(config), config.getoption(SOURCE), strict=False))
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
    return verify(
        folder,
        device=config.getoption(DEVICE),
        reference=config.getoption(REFERENCE),
        source=sources.get(folder),
        report=report,
    )


def _message(error: Exception, report: Path | None) -> str:
    """Returns what is said of an error, in one line; a traceback goes to a file that the line names."""
    if is_expected(error):
        return explanation(error)
    with tempfile.NamedTemporaryFile(
        "w",
        prefix="densenet-parity-",
        suffix=".txt",
        dir=None if report is None else report.parent,
        delete=False,
        encoding="utf-8",
    ) as file:
        file.write("".join(format_exception(error)))
    return f"{explanation(error)} The traceback is in {file.name}"


def _properties(folder: str, found: Verified | Failure) -> Iterator[tuple[str, object]]:
    """Yields the properties that a report in JUnit's format shows."""
    yield "densenet_parity.folder", folder
    if isinstance(found, Failure):
        yield "densenet_parity.error", type(found.error).__name__
        if isinstance(found.error, ParityError):
            yield "densenet_parity.where", found.error.where
        return
    for name, value in _facts(found.proof):
        yield f"densenet_parity.{name}", value


def _facts(proof: Proof) -> Iterator[tuple[str, object]]:
    yield "device", proof.device
    yield "dtype", proof.dtype
    yield "reference", proof.reference
    yield "comparisons", sum(proof.compared.values())
    yield "largest_difference", max(proof.largest.values())
    for kind in ("logits", "gradients", "buffers"):
        yield f"every_input.{kind}", getattr(proof.every_input, kind)
    for kind in ("parameters", "statistics", "reaching"):
        if (coverage := getattr(proof, kind)) is not None:
            yield f"coverage.{kind}", coverage.total
    for name, version in proof.environment["versions"].items():
        yield f"versions.{name}", str(version)  # torch's is a class of its own, which xdist can't send
