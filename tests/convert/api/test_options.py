"""An option is written once: the fields of Options are what the public functions and the commands take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields

import pytest

import densenet_convert as dc
from densenet_convert.cli import main
from densenet_convert.records import Options

FIELDS = {field.name for field in fields(Options)}
# What each takes beside the options, and what it does not take of them.
BESIDE: dict[str, set[str]] = {
    "convert": {"source", "output", "report", "images", "outputs", "progress"},
    "convert_many": {"sources", "output", "executor", "progress"},
    "convert_torchvision": {
        "output",
        "weights",
        "seed",
        "checkpoint",
        "report",
        "images",
        "outputs",
        "progress",
    },
    "file": {"sources", "output", "report", "images", "outputs", "jobs", "dask"},
    "torchvision": {"named", "output", "weights", "seed", "checkpoint", "report", "images", "outputs"},
}
# torchvision's own names need no layout, prefix, part, head or key, and their last ReLU is known.
WITHOUT = {"layout", "prefix", "only", "head", "final_relu", "key"}
# How a command prints.
PRINTING = {"as_json", "jsonl", "quiet", "verbose"}


@pytest.mark.parametrize("function", [dc.convert, dc.convert_many, dc.convert_torchvision])
def test_a_public_function_takes_every_option(function: Callable[..., object]) -> None:
    name = function.__name__
    expected = FIELDS - (WITHOUT if name == "convert_torchvision" else set())
    assert set(inspect.signature(function).parameters) - BESIDE[name] == expected


@pytest.mark.parametrize("function", [dc.convert, dc.convert_many])
def test_a_public_function_has_the_defaults_of_the_options(function: Callable[..., object]) -> None:
    parameters = inspect.signature(function).parameters
    assert all(parameters[field.name].default == field.default for field in fields(Options))


@pytest.mark.parametrize("command", ["file", "torchvision"])
def test_a_command_takes_every_option(command: str) -> None:
    expected = FIELDS - (WITHOUT if command == "torchvision" else set())
    names = {"arch" if one.name == "archs" else one.name for one in main.commands[command].params}
    assert names - BESIDE[command] - PRINTING == expected
