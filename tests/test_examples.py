"""The examples in the docstrings run, in the order in which a reader would run them."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import densenet_convert as dc
from densenet_convert import densenet

# The later ones use what the earlier ones wrote.
EXAMPLES: list[Callable[..., object]] = [
    densenet.DenseNetConfig,
    densenet.architecture_of,
    densenet.infer_config,
    densenet.DenseNet,
    dc.convert_torchvision,
    dc.verify,
    densenet.DenseNet.from_pretrained,
    dc.export,
    dc.inspect,
    dc.convert,
    dc.compare,
    dc.convert_many,
]


def test_the_examples_of_the_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"dc": dc, "torch": torch, **{name: getattr(densenet, name) for name in densenet.__all__}}
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for documented in EXAMPLES:
        (example,) = finder.find(documented, globs=dict(names), name=documented.__name__)
        assert example.examples, f"{documented.__name__} has no example"
        assert not runner.run(example).failed, documented.__name__
