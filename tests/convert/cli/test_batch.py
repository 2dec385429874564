"""What comes of several sources is printed as they were named, and what failed once more in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from densenet_convert.api.many import Outcome
from densenet_convert.cli import batch


@pytest.mark.parametrize(
    ("named", "printed", "expected"),
    [
        (["files"], "{here}/files/a.pth can't be read", "files/a.pth can't be read"),
        (["files/", "files/b"], "{here}/files/b/c.pth", "files/b/c.pth"),
        (
            ["./a.pth"],
            "densenet-convert file '{here}/a.pth' --only x.",
            "densenet-convert file './a.pth' --only x.",
        ),
        (["a", "a.pth"], "{here}/a.pth and {here}/a.", "a.pth and a."),
        (
            ["a"],
            "{here}/a-b {here}/a2 {here}/a.pth /x{here}/a",
            "{here}/a-b {here}/a2 {here}/a.pth /x{here}/a",
        ),
        (["{here}/a.pth"], "{here}/a.pth", "{here}/a.pth"),
        (["hf://x/y"], "hf://x/y: no", "hf://x/y: no"),
    ],
)
def test_a_path_is_printed_as_it_was_named(
    named: list[str], printed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [one.replace("{here}", str(tmp_path)) for one in (*named, printed, expected)]
    assert batch._as_given(filled[:-2])(filled[-2]) == filled[-1]


def test_failures_are_repeated_by_their_first_lines(capsys: pytest.CaptureFixture[str]) -> None:
    done = Outcome("/x/a.pth", "/x/a", "converted")
    failed = [
        Outcome("/x/b.pth", "/x/b", "failed", message="/x/b.pth is empty.\nMore.", exit_code=1),
        Outcome("/x/c.pth", "/x/c", "failed", message="No layout explains it:\ncommand", exit_code=1),
    ]
    batch._repeat_failures([done, *failed], str)
    assert capsys.readouterr().err == (
        "2 of 3 failed:\n  /x/b.pth is empty.\n  /x/c.pth: No layout explains it:\n"
    )
    batch._repeat_failures(failed[:1], str)
    batch._repeat_failures([done, done], str)
    assert capsys.readouterr().err == ""
