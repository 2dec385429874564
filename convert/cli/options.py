"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from densenet_convert.densenet import ARCHITECTURES

ARCHS = tuple(name.removeprefix("densenet") for name in ARCHITECTURES)
# click must not check that a path can be read: we report that ourselves, with exit code 1.
ANY_PATH = click.Path(path_type=Path, readable=False)

Command = TypeVar("Command", bound=Callable[..., Any])


def layout_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """What a shell completes the name of a layout to."""
    from ..layouts import known_layouts

    return [layout.name for layout in known_layouts() if layout.name.startswith(incomplete)]


def shared_options(command: Command) -> Command:
    """The options that every command has."""
    options = [
        click.option(
            "--device",
            default="auto",
            show_default=True,
            metavar="auto|cpu|cuda[:N]",
            help="Where the proof runs. auto is a GPU where there is one.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout."),
        click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and JSON)."),
        click.option("-v", "--verbose", is_flag=True, help="Say what is being done, on stderr."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def conversion_options(command: Command) -> Command:
    """The options of commands that write a folder."""
    options = [
        click.option("--force", is_flag=True, help="Replace a folder that exists."),
        click.option(
            "--golden",
            is_flag=True,
            help="Write the reference's outputs, for verify on any machine: parity.safetensors.",
        ),
        click.option(
            "--labels",
            metavar="imagenet1k|FILE",
            help="Names of the classes, one a line.  [default: torchvision's for its own weights, else of a "
            "config.json beside the source]",
        ),
        click.option("--multi-label", is_flag=True, help="Several classes may hold at once: no softmax."),
        click.option(
            "--license",
            metavar="ID",
            help="For the model card, by the Hub's identifier.  [default: torchvision's for its own weights, "
            "else that of a model card beside the source]",
        ),
        click.option(
            "--ignore-config",
            is_flag=True,
            help="Take nothing from a config.json or a model card beside the source.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _reference_options() -> list[Callable[[Command], Command]]:
    return [
        click.option(
            "--reference",
            metavar="MODULE:FUNCTION",
            help="Compare with your own network, which this function returns; it is imported and run.",
        ),
        click.option(
            "--reference-output",
            metavar="KEY",
            help="Which of its outputs, or which module of it.  [default: the one of the logits' shape]",
        ),
        click.option(
            "--reference-input-size",
            metavar="HEIGHT[xWIDTH]",
            help="Size of an input that it takes.  [default: those of the proof]",
        ),
    ]


def proof_options(command: Command) -> Command:
    """The options of commands that prove a conversion."""
    options = [
        *_reference_options(),
        click.option(
            "--images", type=ANY_PATH, metavar="DIR", help="Compare both networks on these images as well."
        ),
        click.option(
            "--outputs",
            type=ANY_PATH,
            metavar="FILE",
            help="Compare with outputs that your network gave elsewhere: safetensors with input and outputs.",
        ),
        click.option(
            "--report",
            type=ANY_PATH,
            metavar="FILE",
            help="Write a page about the proof, with plots, also where it fails; needs matplotlib.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command
