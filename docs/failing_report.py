"""Makes a report of a proof that fails: the picture in verification.md is of its top.

Usage: python docs/failing_report.py PAGE.html

Two norms of a DenseNet-121 with random weights are exchanged while its tensors are renamed, as a wrong layout
would do.  Their shapes are the same, so they load without a word.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import densenet_convert as dc
from densenet_convert.api import convert
from densenet_convert.records import Renamed

ONE, OTHER = (f"features.denseblock3.denselayer{number}.norm2." for number in (12, 13))

rename = convert.rename_tensors


def exchanged(name: str) -> str:
    for mine, others in ((ONE, OTHER), (OTHER, ONE)):
        if name.startswith(mine):
            return others + name.removeprefix(mine)
    return name


def rename_wrongly(*arguments: Any) -> Renamed:
    right = rename(*arguments)
    tensors = {name: right.tensors[exchanged(name)] for name in right.tensors}
    trail = tuple(replace(trace, name=exchanged(trace.name)) for trace in right.trail)
    return replace(right, tensors=tensors, trail=trail)


def main() -> None:
    convert.rename_tensors = rename_wrongly
    with TemporaryDirectory() as folder:
        try:
            dc.convert_torchvision(
                121, weights="random", output=f"{folder}/densenet121", device="cpu", report=sys.argv[1]
            )
        except dc.ParityError:
            return
    raise SystemExit("The proof held, and there is nothing to show.")


if __name__ == "__main__":
    main()
