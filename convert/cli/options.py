"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from densenet_convert.densenet import ARCHITECTURES

from . import complete

ARCHS = tuple(name.removeprefix("densenet") for name in ARCHITECTURES)
# click must not check that a path can be read: we report that ourselves, with exit code 1.
ANY_PATH = click.Path(path_type=Path, readable=False)

Command = TypeVar("Command", bound=Callable[..., Any])


class Architecture(click.Choice[str]):
    """The number of a DenseNet, which may stand behind its word: 169, or densenet169."""

    def normalize_choice(self, choice: Any, ctx: click.Context | None) -> str:
        """Returns the number alone."""
        return super().normalize_choice(choice, ctx).removeprefix("densenet")


def decorated(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """Returns the command with the options, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


def printing_options(command: Command) -> Command:
    """The options that every command has: how it prints what it has to say."""
    return decorated(
        command,
        [
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout."),
            click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and JSON)."),
        ],
    )


def working_options(command: Command) -> Command:
    """The same, and one for the commands that take several steps."""
    verbose = click.option(
        "-v", "--verbose", is_flag=True, help="Print every detail, and on stderr each step."
    )
    return decorated(command, [printing_options, verbose])


def shared_options(command: Command) -> Command:
    """The same, and where the proof runs."""
    device = click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda[:N]",
        shell_complete=complete.devices,
        help="The proof runs there; auto takes a GPU if there is one.",
    )
    return decorated(command, [device, working_options])


def conversion_options(command: Command) -> Command:
    """The options of commands that write a folder."""
    options = [
        click.option("-f", "--force", is_flag=True, help="Replace a folder that exists."),
        click.option(
            "--golden",
            is_flag=True,
            help="Also write the reference's outputs, with which verify compares any machine: "
            "parity.safetensors.",
        ),
        click.option(
            "--ignore-config",
            is_flag=True,
            help="Take nothing from a config.json or a model card beside the source.",
        ),
    ]
    return claim_options(decorated(command, options))


def claim_options(command: Command) -> Command:
    """The options that say of a network what no proof tells."""
    return decorated(command, [*_label_options(), *_preprocessing_options(), *_card_options()])


def _label_options() -> list[Callable[[Command], Command]]:
    return [
        click.option(
            "--labels",
            metavar="imagenet1k|checkpoint|FILE",
            shell_complete=complete.labels,
            help="Names of the classes: torchvision's, the checkpoint's, or a file: one a line, JSON, or a "
            "CSV with a column name or label.  [default: torchvision's for its own weights, else of a "
            "config.json beside the source]",
        ),
        click.option(
            "--multi-label",
            is_flag=True,
            help="Say that several classes may hold at once, so that no softmax is run.",
        ),
    ]


def _preprocessing_options() -> list[Callable[[Command], Command]]:
    known = "[default: that of a config.json beside the source, else torchvision's]"
    return [
        click.option("--mean", metavar="M[,M,M]", help=f"Mean with which images are normalised.  {known}"),
        click.option(
            "--std",
            metavar="S[,S,S]",
            help="Deviation with which they are normalised, for each channel or for all.",
        ),
        click.option("--input-size", metavar="HEIGHT[xWIDTH]", help="Size of the images in training."),
        click.option(
            "--interpolation",
            metavar="NAME",
            shell_complete=complete.interpolations,
            help="Filter that resizes images: bilinear, bicubic, ...",
        ),
        click.option(
            "--crop-pct", type=float, metavar="SHARE", help="Share of the resized image that the crop keeps."
        ),
    ]


def _card_options() -> list[Callable[[Command], Command]]:
    return [
        click.option(
            "--license",
            metavar="ID",
            shell_complete=complete.licenses,
            help="License for the model card, by the Hub's identifier.  [default: torchvision's for its own "
            "weights, "
            "else that of a model card beside the source]",
        ),
        click.option("--license-name", metavar="NAME", help="Name of the license, with --license other."),
        click.option(
            "--license-link", metavar="ADDRESS", help="Address of the license's text, with --license other."
        ),
        click.option(
            "--dataset",
            "datasets",
            multiple=True,
            metavar="ID",
            help="Data that it was trained on, for the model card; can be repeated.",
        ),
        click.option("--base-model", metavar="ID", help="Model that it was made from, for the model card."),
        *_repeated_card_options(),
    ]


def _repeated_card_options() -> list[Callable[[Command], Command]]:
    return [
        click.option(
            "--metric",
            "metrics",
            multiple=True,
            metavar="NAME=VALUE[@DATASET]",
            help="A result that you measured, for the model card; can be repeated.",
        ),
        click.option(
            "--card-section",
            "card_sections",
            multiple=True,
            metavar="FILE",
            shell_complete=complete.files,
            help="Markdown for the card, such as intended-use.md or limits.md; can be repeated.",
        ),
    ]


def _reference_options() -> list[Callable[[Command], Command]]:
    return [
        click.option(
            "--reference",
            metavar="MODULE:FUNCTION",
            shell_complete=complete.functions,
            help="Compare with your own network, which this function returns; it is imported and run.",
        ),
        click.option(
            "--reference-output",
            metavar="KEY",
            help="Compare this output of your network, or this module of it.  "
            "[default: the output of the logits' shape]",
        ),
        click.option(
            "--reference-input-size",
            metavar="HEIGHT[xWIDTH]",
            help="Run your network on inputs of this size.  [default: the sizes of the proof]",
        ),
    ]


def proof_options(command: Command) -> Command:
    """The options of commands that prove a conversion."""
    options = [
        *_reference_options(),
        click.option(
            "--images",
            type=ANY_PATH,
            metavar="DIR",
            shell_complete=complete.folders,
            help="Compare both networks on these images as well.",
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
            help="Write a page about the proof, with plots, also if it fails.",
        ),
    ]
    return decorated(command, options)
