"""The command, as a user runs it: what it prints where, what it writes, and how it exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import torchvision
from checkpoints import in_2017_names, save, state_dict_of
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from schemas import validate

from densenet_convert.api.plan import output_name
from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES, DenseNet, DenseNetConfig
from densenet_convert.proof import verification
from densenet_convert.source.random_weights import random_checkpoint

ARCHS = ["121", "161", "169", "201"]
RANDOM_121 = ["torchvision", "--arch", "121", "--weights", "random", "--device", "cpu"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def collecting_garbage() -> Iterator[None]:
    """The command turns the collector off, for the process is its own."""
    import gc

    yield
    gc.enable()
    gc.unfreeze()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def wrong_architecture(path: Path) -> Path:
    return save(in_2017_names(state_dict_of()), path)


@pytest.mark.parametrize("arch", ARCHS)
def test_random_weights_go_all_the_way(arch: str, tmp_path: Path) -> None:
    result = run("torchvision", "--arch", arch, "--weights", "random", "--device", "cpu", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    name = f"densenet{arch}"
    assert document["status"] == "converted"
    assert document["folder"] == name
    assert document["source"]["origin"] == "random"
    assert document["source"]["seed"] == 0
    assert document["source"]["layout"] == "torchvision-dotted"
    proof = document["verification"]
    assert proof["reference"].startswith("torchvision's own loader")
    assert set(proof["largest_difference"].values()) == {0.0}
    assert proof["every_input"] == dict.fromkeys(("logits", "gradients", "buffers"), "equal")
    weights = load_file(tmp_path / name / "model.safetensors")
    torchvision.models.get_model(name).load_state_dict(weights, strict=True)
    DenseNet(ARCHITECTURES[name]).load_state_dict(weights, strict=True)
    assert "imagenet" not in (tmp_path / name / "conversion.json").read_text().lower()


def test_the_summary_goes_to_stdout_and_nothing_to_stderr_without_a_terminal() -> None:
    result = run(*RANDOM_121)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "densenet121: converted",
        "  source      random weights, seed 0, 32.4 MB: layout torchvision-dotted",
        "  network     DenseNet-121, 1,000 classes",
        "  verdict     equal to torchvision's network with these weights, to the last bit",
        "  files       model.safetensors, config.json, README.md, conversion.json",
    ]


def test_quiet_prints_nothing_and_verbose_says_what_is_done(source: Path) -> None:
    arguments = ["file", str(source), "--output", "new", "--device", "cpu", "--force"]
    assert run(*arguments, "-q").output == ""
    loud = subprocess.run(
        [sys.executable, "-c", "from densenet_convert.cli import main; main()", *arguments, "-v"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "new: converted" in loud.stdout
    assert "comparing on cpu with torchvision's modules in a tree" in loud.stderr
    assert "loading torch\n" in loud.stderr
    for detail in (
        "  format      torch-legacy, sha256 ",
        "  tensors     127: ",
        "  on          eval 2x3x91x123, train 2x3x64x96\n",
        "  difference  0\n",
        "  known       logits, gradients and buffers are equal for every input of these shapes\n",
    ):
        assert detail in loud.stdout


def test_a_checkpoint_at_hand_with_any_number_of_classes_is_converted_and_verified(tmp_path: Path) -> None:
    config = DenseNetConfig(num_classes=14)
    path = save(in_2017_names(state_dict_of(config), counted=True), tmp_path / "chexnet.pth")
    arguments = ["--arch", "121", "--checkpoint", str(path), "--output", "chexnet", "--device", "cpu"]
    result = run("torchvision", *arguments)
    assert result.exit_code == 0
    assert f"  source      {path}, 28." in result.stdout
    assert "  network     DenseNet-121, 14 classes\n" in result.stdout
    again = run("verify", "chexnet", "--source", str(path), "--device", "cpu")
    assert again.exit_code == 0
    assert "chexnet: verified" in again.stdout


def test_several_architectures_make_one_document_and_a_folder_each(tmp_path: Path) -> None:
    (tmp_path / "all" / "densenet169").mkdir(parents=True)
    result = run(*RANDOM_121, "--arch", "169", "--output", "all", "--seed", "5", "--json")
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)["conversions"]
    assert (first["folder"], first["status"]) == ("all/densenet121", "converted")
    assert first["source"]["seed"] == 5
    assert (second["folder"], second["status"]) == ("all/densenet169", "error")
    assert second["error"]["type"] == "FolderError"
    assert "exists and is left alone" in result.stderr


def test_a_network_that_is_another_function_exits_with_3_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = verification.compare_bytes

    def with_a_fault(renamed: Any, model: DenseNet, tally: Any) -> None:
        sound(renamed, model, tally)
        model.get_submodule("features.denseblock2.denselayer3.norm2").eps = 1e-3

    monkeypatch.setattr(verification, "compare_bytes", with_a_fault)
    result = run(*RANDOM_121, "--json")
    assert result.exit_code == 3
    assert list(tmp_path.iterdir()) == []
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "ParityError"
    assert error["exit_code"] == 3
    assert (
        "at features.denseblock2.denselayer3.norm2 (from features.denseblock2.denselayer3.norm.2."
        in (error["message"])
    )
    assert result.stderr == f"error: {error['message']}\n"


def test_weights_that_cant_be_had_are_an_error_that_names_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from densenet_convert.source import read

    monkeypatch.setattr(read, "weights_url", lambda _: "http://127.0.0.1:9/densenet121-a639ec97.pth")
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    try:
        result = run("torchvision", "--arch", "121", "--device", "cpu")
    finally:
        torch.hub.set_dir(before)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "can't be downloaded" in result.stderr
    assert "--checkpoint" in result.stderr
    assert "--weights random" in result.stderr
    assert not (tmp_path / "densenet121").exists()


def test_a_corrupt_file_in_the_cache_is_refused(tmp_path: Path) -> None:
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "checkpoints" / "densenet121-a639ec97.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(random_checkpoint(ARCHITECTURES["densenet121"], 0))
    try:
        result = run("torchvision", "--arch", "121", "--device", "cpu")
    finally:
        torch.hub.set_dir(before)
    assert result.exit_code == 1
    assert "is corrupt: its SHA-256 should begin with a639ec97" in result.stderr
    assert not (tmp_path / "densenet121").exists()


def test_another_architecture_is_refused_in_one_line(tmp_path: Path) -> None:
    path = wrong_architecture(tmp_path / "small.pth")
    result = run("torchvision", "--arch", "121", "--checkpoint", str(path), "--device", "cpu")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: This is a DenseNet with blocks (2, 3, 1, 2)")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("device", ["cuda:99", "meta", "nonsense"])
def test_a_device_that_is_not_there_is_an_error_and_never_replaced(device: str, tmp_path: Path) -> None:
    result = run("torchvision", "--arch", "121", "--weights", "random", "--device", device)
    assert result.exit_code == 1
    assert device in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["torchvision"],
        ["torchvision", "--arch", "122"],
        ["torchvision", "--arch", "121", "--weights", "IMAGENET1K_V2"],
        ["torchvision", "--arch", "121", "--seed", "1"],
        ["torchvision", "--arch", "121", "--weights", "random", "--seed", "-1"],
        ["torchvision", "--arch", "121", "--weights", "random", "--checkpoint", "a.pth"],
        ["torchvision", "--arch", "all", "--checkpoint", "a.pth"],
        ["verify"],
        ["convert"],
        ["none.pth"],
        ["torchvision", "122"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_verify_refuses_a_changed_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    result = run("verify", "folder", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["type"] == "FolderError"
    assert "conversion.json is missing" in result.stderr


COMMANDS = {
    "api.convert.convert_torchvision": ["torchvision", "--arch", "121", "--weights", "random"],
    "api.convert.convert": ["file", "x.pth"],
    "api.many.convert_many": ["file", "x.pth", "y.pth"],
    "api.verify.verify": ["verify", "."],
    "api.push.push": ["push", ".", "--repo-id", "USER/NAME"],
    "api.inspection.inspect": ["inspect", "x.pth"],
    "proof.selftest.run.run_self_test": ["prove"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_that_nobody_expected_is_a_document_too_and_keeps_its_traceback(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise_in(name, RuntimeError("operator torchvision::nms does not exist"), monkeypatch)
    result = run(*COMMANDS[name], "--json")
    assert result.exit_code == 1
    validate(json.loads(result.stdout), "error")
    message = "error: RuntimeError: operator torchvision::nms does not exist. `densenet-convert doctor` says"
    assert result.stderr.startswith("Traceback")
    assert message in result.stderr


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), OSError("full")]
)
def test_what_the_machine_lacks_is_said_without_a_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise_in("api.convert.convert", error, monkeypatch)
    result = run("file", "x.pth")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert ("full" if isinstance(error, OSError) else "There is not enough memory.") in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["file", "x.pth", "--only", "a", "--prefix", "b"], 2, "--only names the prefix already"),
        (["file", "hf://foo", "--json"], 1, "expected hf://USER/NAME"),
        (["inspect", "hf://foo", "--json"], 1, "expected hf://USER/NAME"),
        (["export", "hf://foo", "--to", "monai"], 1, "expected hf://USER/NAME"),
        (["file", "empty", "--jsonl"], 1, "holds no checkpoint"),
    ],
)
def test_what_cant_be_begun_is_reported_as_any_error(arguments: list[str], code: int, message: str) -> None:
    Path("empty").mkdir()
    result = run(*arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    if "--json" in arguments:
        validate(json.loads(result.stdout), "error")
    if "--jsonl" in arguments:
        (line,) = result.stdout.splitlines()
        validate(json.loads(line), "error")


def _raise_in(name: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(f"densenet_convert.{name}", fail)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["torchvision", "--help"]])
def test_help_and_version_import_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from densenet_convert.cli import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert "densenet-convert" in done.stdout or "Usage" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="closes a descriptor as a POSIX shell does")
@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["verify", "nowhere"], 1), (["no"], 2)])
def test_the_console_script_passes_the_exit_code_on_without_a_stdout(arguments: list[str], code: int) -> None:
    command = [sys.executable, "-c", "from densenet_convert.cli import run; run()", *arguments]
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="closes a descriptor as a POSIX shell does")
def test_the_console_script_works_without_a_stderr_and_prints_what_an_encoding_lacks(tmp_path: Path) -> None:
    save(in_2017_names(state_dict_of()), tmp_path / "模型.pth")
    command = [sys.executable, "-c", "from densenet_convert.cli import run; run()", "file", "模型.pth"]
    done = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *command, "--device", "cpu"],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(r"\u6a21\u578b: converted")


def test_a_process_that_is_asked_to_end_leaves_no_temporary_folder(tmp_path: Path) -> None:
    code = (
        "import os, signal; from densenet_convert import cli; from densenet_convert.folder import write\n"
        "write.read_back = lambda _: os.kill(os.getpid(), signal.SIGTERM)\n"
        "cli.run()"
    )
    path = save(in_2017_names(state_dict_of(DenseNetConfig(num_classes=2))), tmp_path / "source.pth")
    arguments = ["torchvision", "--arch", "121", "--checkpoint", str(path), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["source.pth"]


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("here/chest.pth.tar", "chest"),
        ("densenet169-b2777c0a.pth", "densenet169-b2777c0a"),
        ("v1.2.ckpt", "v1.2"),
        ("model", "model"),
        ("hf://timm/densenet121.tv_in1k", "densenet121"),
        ("hf://user/chest@v2", "chest"),
        ("hf://user/chest@v2/files/best.pt", "best"),
        ("hf://user/chest@refs/pr/1", "chest"),
        ("chest.best.pth", "chest.best"),
    ],
)
def test_a_folder_is_named_after_its_source(source: str, folder: str) -> None:
    assert output_name(source) == folder


def test_file_converts_what_it_finds_by_its_names_and_shapes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    save(in_2017_names(state_dict_of()), tmp_path / "old.pth")
    document = json.loads(run("file", "old.pth", "--license", "mit", "--json").stdout)
    assert (document["status"], document["folder"]) == ("converted", "old")
    assert document["source"]["layout"] == "torchvision-dotted"
    assert "license: mit" in Path("old/README.md").read_text()
    again = run("file", "old.pth")
    assert again.exit_code == 1
    assert "old exists and was converted otherwise than is asked: it has the license mit" in again.stderr


def test_several_sources_are_converted_and_what_fails_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for i in range(2):
        save(in_2017_names(state_dict_of(seed=i)), tmp_path / "files" / f"{i}.pth")
    (tmp_path / "files" / "broken.pth").write_bytes(b"no checkpoint")
    done = run("file", "files", "--output", "out")
    assert done.exit_code == 1
    assert done.stdout.endswith("3 sources: 2 converted, 0 skipped, 1 failed, in out\n")
    assert done.stderr.count("error: ") == 1
    assert "error: files/broken.pth can't be read" in done.stderr
    assert "1 of 3 failed:\n  files/broken.pth can't be read: " in done.stderr
    assert str(tmp_path) not in done.output
    lines = [
        json.loads(line) for line in run("file", "files", "--output", "out", "--jsonl").stdout.splitlines()
    ]
    assert sorted(line["status"] for line in lines) == ["failed", "skipped", "skipped"]
    again = json.loads(run("file", "files/0.pth", "files/1.pth", "--output", "out", "--json").stdout)
    assert [one["status"] for one in again["conversions"]] == ["skipped", "skipped"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a.pth", "b.pth", "--images", "."], "go with one source"),
        (["a.pth", "b.pth", "--report", "r.html"], "go with one source"),
        (["a.pth", "b.pth", "--jobs", "2", "--dask", "tcp://x:1"], "choose one"),
        (["a.pth", "--jobs", "2", "--report", "r.html"], "go with one source"),
        (["a.pth", "b.pth", "--json", "--jsonl"], "choose one"),
    ],
)
def test_options_of_one_and_of_several_sources_are_kept_apart(options: list[str], message: str) -> None:
    done = run("file", *options)
    assert done.exit_code == 2
    assert message in done.stderr


def test_several_sources_are_written_into_one_folder_that_is_named(tmp_path: Path) -> None:
    save(state_dict_of(), tmp_path / "a.pth")
    done = run("a.pth", str(tmp_path / "b.pth"), "--device", "cpu")
    assert done.stdout == (
        "converted/a: converted, DenseNet\n2 sources: 1 converted, 0 skipped, 1 failed, in converted\n"
    )
    assert f"1 of 2 failed:\n  {tmp_path / 'b.pth'} can't be read: " in done.stderr


def test_a_plan_that_cannot_be_carried_out_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    done = run("file", "x/a.pth", "y/a.pth", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] == "FolderError"
    assert run("file", "x").exit_code == 1


@pytest.mark.parametrize(
    "words", [["verify"], ["convert", "verify"], ["./verify"], ["hf://verify"], ["x.pth"]]
)
def test_a_file_needs_no_command_and_a_commands_name_goes_before_it(words: list[str]) -> None:
    Path("verify").mkdir()
    Path("x.pth").write_text("no checkpoint")
    done = run(*words)
    said = {
        "verify": (2, "Missing argument 'FOLDER'"),
        "convert": (1, "verify holds no checkpoint"),
        "./verify": (1, "./verify holds no checkpoint"),
        "hf://verify": (1, "expected hf://USER/NAME"),
        "x.pth": (1, "x.pth can't be read: it begins with"),
    }
    code, message = said[words[0]]
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr


def test_a_file_without_a_command_takes_the_options_of_file(tmp_path: Path) -> None:
    save(state_dict_of(), tmp_path / "chest.pth")
    Path("names.txt").write_text("\n".join("abcde"))
    done = run("chest.pth", "--labels", "names.txt", "-o", "out", "--device", "cpu", "--json")
    assert (done.exit_code, json.loads(done.stdout)["folder"]) == (0, "out")
    for again in (["-o", "out", "--labels", "names.txt"], ["-o", "out", "-f"]):
        assert run("convert", "chest.pth", *again, "--device", "cpu", "-q").exit_code == 0


def test_what_is_neither_a_command_nor_there_is_wrong_usage() -> None:
    done = run("chest.pth")
    assert done.exit_code == 2
    assert "No such command 'chest.pth'. There is no file or folder of this name, either." in done.stderr


@pytest.mark.parametrize(
    "words", [["121", "169"], ["densenet121", "--arch", "densenet169"], ["--arch", "169", "121"]]
)
def test_architectures_are_named_with_or_without_a_word_before_them(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def fail(arch: str, **_: object) -> None:
        asked.append(arch)
        raise OSError("enough")

    monkeypatch.setattr("densenet_convert.api.convert.convert_torchvision", fail)
    run("torchvision", *words)
    assert asked == ["121", "169"]


def test_short_options_are_there() -> None:
    assert run("-V").stdout.startswith("densenet-convert, version ")
    for name in ("torchvision", "file", "export"):
        flags = {flag for one in main.commands[name].params for flag in one.opts}
        assert flags >= {"-o", "-f", "-q", "-v"}


@pytest.mark.parametrize("command", [None, *main.commands])
def test_every_help_has_examples_and_fits_80_columns(command: str | None) -> None:
    text = run(*([command] if command else []), "--help").stdout
    assert "Examples:\n    densenet-convert" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        pytest.param(
            ["exprot", "x"],
            "Did you mean 'export'?",
            marks=pytest.mark.skipif(
                not hasattr(click.exceptions, "NoSuchCommand"), reason="click before 8.4 suggests no command"
            ),
        ),
        (["file", "x", "--lable", "y"], "--labels"),
        (["torchvision", "--arch", "168"], "'169'"),
        (["file", "x.pth", "--layout", "monia"], "monai"),
    ],
)
def test_a_typo_gets_a_suggestion(arguments: list[str], advice: str, tmp_path: Path) -> None:
    save(state_dict_of(), tmp_path / "x.pth")
    done = run(*arguments)
    assert done.exit_code in (1, 2)
    assert advice in done.stderr


def test_nothing_that_is_printed_is_coloured(tmp_path: Path) -> None:
    for arguments in (["--help"], ["doctor"], ["inspect", str(tmp_path)], ["file", "none.pth"]):
        assert "\x1b" not in CliRunner().invoke(main, arguments, color=True).output
