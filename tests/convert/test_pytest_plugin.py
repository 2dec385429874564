"""The pytest plugin: a folder's parity is a test, and costs nothing where it is not asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

import pytest

from densenet_convert import pytest_plugin
from densenet_convert.api import verify, verify_exported
from densenet_convert.errors import ParityError

REPORT = "report.xml"


@pytest.fixture
def changed(converted: Path, tmp_path: Path) -> Path:
    """A copy of which one byte is another one."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in converted.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> Any:
    """Runs pytest in this process and in a folder of its own, with the plugin."""
    known = request.config.pluginmanager.has_plugin("densenet_parity")
    plugin = () if known else ("-p", pytest_plugin.__name__)

    def run(*arguments: object) -> pytest.RunResult:
        return pytester.runpytest_inprocess(*plugin, "-p", "no:xdist", *map(str, arguments))

    return run


def properties(pytester: pytest.Pytester, number: int = 0) -> dict[str, str]:
    cases = list(ElementTree.parse(pytester.path / REPORT).iter("testcase"))
    found = {}
    for item in cases[number].iter("property"):
        found[item.attrib["name"].removeprefix("densenet_parity.")] = item.attrib["value"]
    return found


def test_a_sound_folder_passes_and_says_in_the_report_what_was_compared(
    run: Any, pytester: pytest.Pytester, converted: Path
) -> None:
    run("--densenet-parity", converted, f"--junitxml={REPORT}").assert_outcomes(passed=1)
    found = properties(pytester)
    assert found["folder"] == str(converted)
    assert (found["device"], found["dtype"]) == ("cpu", "float32")
    assert found["largest_difference"] == "0.0"
    assert int(found["comparisons"]) > 300
    assert {found[f"every_input.{kind}"] for kind in ("logits", "gradients", "buffers")} == {"equal"}
    assert {"versions.torch", "versions.torchvision", "reference"} <= set(found)


def test_a_changed_byte_fails_with_the_message_and_no_traceback(
    run: Any, pytester: pytest.Pytester, changed: Path
) -> None:
    result = run("--densenet-parity", changed, f"--junitxml={REPORT}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*disagrees with its conversion.json: model.safetensors was changed*"])
    assert "Traceback" not in result.stdout.str()
    assert "pytest_plugin.py" not in result.stdout.str()
    assert properties(pytester) == {"folder": str(changed), "error": "FolderError"}


def test_a_network_that_is_another_function_fails_and_is_located(
    run: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ParityError("It differs.", where="features.norm5", largest=1.0)

    monkeypatch.setattr(verify, "verify", fail)
    result = run("--densenet-parity", "any", f"--junitxml={REPORT}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["features.norm5: It differs.*"])
    assert properties(pytester)["where"] == "features.norm5"


def test_an_unexpected_error_is_a_line_that_names_the_file_of_its_traceback(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verify, "verify", lambda *_, **__: 1 / 0)
    result = run("--densenet-parity", "any", "--densenet-parity-report", tmp_path / "pages")
    result.assert_outcomes(failed=1)
    (written,) = (tmp_path / "pages").iterdir()
    result.stdout.fnmatch_lines([f"ZeroDivisionError: division by zero.*The traceback is in {written}"])
    assert "Traceback (most recent" not in result.stdout.str()
    assert written.read_text().endswith("ZeroDivisionError: division by zero\n")


def test_the_source_and_the_report_are_those_of_each_folder(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, tuple[str, Path]] = {}

    def note(folder: str, *, source: str, report: Path, **_: object) -> None:
        asked[folder] = source, report
        raise ParityError("It differs.", where="features.norm5", largest=1.0)

    monkeypatch.setattr(verify, "verify", note)
    both = ("--densenet-parity", "one/a", "--densenet-parity", "b")
    sources = ("--densenet-parity-source", "a.pth", "--densenet-parity-source", "b.pth")
    pages = tmp_path / "pages"
    run(*both, *sources, "--densenet-parity-report", pages).assert_outcomes(failed=2)
    assert asked == {"one/a": ("a.pth", pages / "a.html"), "b": ("b.pth", pages / "b.html")}
    page = tmp_path / "deep" / "page.html"
    run(*both[:2], *sources[:2], "--densenet-parity-report", page).assert_outcomes(failed=1)
    assert asked["one/a"] == ("a.pth", page)
    assert page.parent.is_dir()


def test_an_exported_network_is_a_test_of_its_own_that_names_the_layer_where_it_fails(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differ(file: str, folder: str) -> NoReturn:
        raise ParityError(f"{file} of {folder} differs.", where="features.norm5", largest=1.0)

    monkeypatch.setattr(verify, "verify", lambda *_, **__: pytest.skip("it is not this test's"))
    monkeypatch.setattr(verify_exported, "verify_exported", differ)
    done = run("--densenet-parity", "chest", "--densenet-parity-exported", "chest.onnx")
    done.assert_outcomes(failed=1, skipped=1)
    done.stdout.fnmatch_lines(["features.norm5: chest.onnx of chest differs.*"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--densenet-parity-exported", "a.onnx"], "*-exported is given 1 times, and*names 2 folders*"),
        (["--densenet-parity-source", "a.pth"], "*-source is given 1 times, and*names 2 folders*"),
        (["--densenet-parity-report", "page.html"], "*-report would be one file for several folders*"),
        (["--densenet-parity-report", "pages"], "*-report would be one file for several folders*"),
    ],
)
def test_what_can_t_be_of_each_folder_is_a_mistake_of_usage(
    options: list[str], message: str, run: Any
) -> None:
    result = run("--densenet-parity", "one/a", "--densenet-parity", "two/a", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_the_fixture_gives_the_network_and_the_proof(
    run: Any, pytester: pytest.Pytester, converted: Path, changed: Path
) -> None:
    pytester.makepyfile(
        """
        def test_mine(densenet_parity):
            assert not densenet_parity.loaded.model.training
            assert set(densenet_parity.proof.largest.values()) == {0.0}
        """
    )
    result = run("--densenet-parity", converted, "--densenet-parity", changed, f"--junitxml={REPORT}")
    result.assert_outcomes(passed=2, failed=1, errors=1)
    assert properties(pytester)["largest_difference"] == "0.0"


def test_the_fixture_is_there_for_fixtures_of_any_scope_and_where_nothing_is_parametrized(
    run: Any, pytester: pytest.Pytester, converted: Path
) -> None:
    pytester.makepyfile(
        """
        import unittest
        import pytest

        @pytest.fixture(scope="session")
        def network(densenet_parity):
            return densenet_parity.loaded.model

        def test_mine(network):
            assert not network.training

        def test_by_name(request):
            assert request.getfixturevalue("densenet_parity").proof

        @pytest.mark.usefixtures("densenet_parity")
        class TestOurs(unittest.TestCase):
            def test_it(self):
                pass
        """
    )
    run("--densenet-parity", converted, f"--junitxml={REPORT}").assert_outcomes(passed=4)
    assert properties(pytester)["folder"] == str(converted)


def test_a_test_that_runs_once_does_not_choose_among_several_folders(
    run: Any, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_mine(request): request.getfixturevalue('densenet_parity')")
    result = run("--densenet-parity", "a", "--densenet-parity", "b", "-k", "test_mine")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*2 folders were named*Take densenet_parity as an argument*"])


def test_a_skipped_test_says_nothing_of_a_folder_in_the_report(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.skip\ndef test_mine(densenet_parity): pass")
    run("--densenet-parity", "any", "-k", "test_mine", f"--junitxml={REPORT}")
    assert properties(pytester) == {}


def test_the_fixture_skips_where_no_folder_is_named(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_mine(densenet_parity): pass")
    result = run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no converted folder was named with --densenet-parity FOLDER*"])


def test_a_folder_is_verified_once_and_on_the_device_that_was_asked_for(
    run: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, converted: Path
) -> None:
    calls: list[tuple[str, str]] = []
    verified = verify.verify(converted)

    def count(folder: str, *, device: str, **others: None) -> Any:
        assert set(others.values()) == {None}
        calls.append((folder, device))
        return verified

    monkeypatch.setattr(verify, "verify", count)
    pytester.makepyfile("def test_a(densenet_parity): pass\ndef test_b(densenet_parity): pass")
    twice = ("--densenet-parity", converted) * 2
    run(*twice, "--densenet-parity-device", "cpu").assert_outcomes(passed=3)
    assert calls == [(str(converted), "cpu")]


def test_items_are_listed_counted_and_selected_as_any_other(
    run: Any, pytester: pytest.Pytester, converted: Path
) -> None:
    option = ("--densenet-parity", converted)
    run(*option, "--collect-only", "-q").stdout.fnmatch_lines(
        [f"densenet-parity::{converted}", "", "1 test collected*"]
    )
    file = pytester.makepyfile("def test_mine(): pass")
    run(*option, file).stdout.fnmatch_lines(["collected 2 items"])
    run(*option, file, "-k", "densenet-parity").assert_outcomes(passed=1, deselected=1)
    run(*option, file, "-k", converted.name).assert_outcomes(passed=1, deselected=1)
    run(*option, "-k", "nothing").stdout.fnmatch_lines(["collected 2 items / 2 deselected / 0 selected"])


def test_the_installed_plugin_works_with_xdist_and_warnings_as_errors(
    pytester: pytest.Pytester, converted: Path, changed: Path
) -> None:
    pytester.makepyfile("def test_mine(densenet_parity): assert densenet_parity.proof")
    options = ["-n", "2", "-W", "error", "-p", "no:cacheprovider", f"--junitxml={REPORT}"]
    folders = ["--densenet-parity", str(converted), "--densenet-parity", str(changed)]
    command = [sys.executable, "-m", "pytest", *options, *folders]
    result = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True)
    assert result.returncode == 1
    assert "1 failed, 2 passed, 1 error" in result.stdout
    assert "model.safetensors was changed" in result.stdout
    said = sorted(properties(pytester, number)["folder"] for number in range(4))
    assert said == sorted([str(converted), str(changed)] * 2)


def test_a_run_that_does_not_ask_for_parity_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sys\n"
        "def test_mine(request):\n"
        f"    assert {pytest_plugin.__name__!r} in sys.modules\n"
        "    assert not {'torch', 'densenet_convert.api.verify'} & set(sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


def test_a_network_at_hand_is_converted_by_the_fixture(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import own_networks, pytest
        from densenet_convert import ParityError

        def test_equal(densenet_convert):
            written = densenet_convert(own_networks.Own())
            assert written.receipt["verification"]["own_network"]["every_input"]["logits"] == "equal"

        def test_other_function(densenet_convert):
            with pytest.raises(ParityError):
                densenet_convert(own_networks.WithMaximum())
        """
    )
    run("--densenet-parity-device=cpu").assert_outcomes(passed=2)


def test_a_folder_is_compared_with_the_network_that_is_named(run: Any, converted: Path) -> None:
    asked = ("--densenet-parity", converted, "--densenet-parity-reference")
    run(*asked, "own_networks:of_other_classes").assert_outcomes(failed=1)
