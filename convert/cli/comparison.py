"""The command compare, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import quoted
from . import complete
from .options import ANY_PATH, shared_options
from .reporting import draw_bars, reporting_errors, set_up_logging

if TYPE_CHECKING:
    from ..api.compared import Comparison

DIFFERENT = 4
HOME = "https://pypi.org/project/densenet-convert/"


@click.command()
@click.argument("a", shell_complete=complete.files)
@click.argument("b", shell_complete=complete.files)
@click.option("--key-a", metavar="KEYS", help="Take this state dict of A if it holds several: state_dict.")
@click.option("--key-b", metavar="KEYS", help="Take this state dict of B if it holds several: ema.")
@click.option(
    "--repair",
    type=ANY_PATH,
    metavar="OUTPUT",
    shell_complete=complete.folders,
    help="Undo the exchange that was found in B, convert and prove the result, and write it to this folder.",
)
@click.option("-f", "--force", is_flag=True, help="Replace the folder of --repair if it exists.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a discussion on the Hub.")
@shared_options
@click.pass_context
def compare(
    context: click.Context,
    /,
    a: str,
    b: str,
    repair: Path | None,
    as_json: bool,
    markdown: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Say whether A and B are the same network, and if not, why; no torch is needed.

    A and B are checkpoints, converted folders or hf://USER/NAME[@REVISION][/FILE], in any layouts and
    formats.  Exit codes: 0 the same, or repaired; 4 different; 1 error.

    \b
    Examples:
      densenet-convert compare mine.pth theirs.safetensors
      densenet-convert compare run.ckpt run.ckpt --key-a state_dict --key-b ema
      densenet-convert compare densenet121 suspect.h5 --repair mended
    """
    if as_json and markdown:
        raise click.UsageError("--json and --markdown are two ways to print: choose one.")
    set_up_logging(verbose)
    draw_bars(quiet or as_json)
    with reporting_errors(as_json, path=f"{a} {b}"):
        from ..api.compare import compare

        found = compare(a, b, repair=repair, **options)
    if as_json:
        click.echo(json.dumps(comparison_as_json(found), indent=2))
    elif markdown:
        click.echo(comparison_as_markdown(found))
    elif not quiet:
        from ..api.compared import comparison_as_text

        click.echo(comparison_as_text(found, verbose=verbose))
    context.exit(0 if found.same or found.repaired else DIFFERENT)


def comparison_as_json(found: Comparison) -> dict[str, Any]:
    """All of it; of the repaired folder its place."""
    from dataclasses import asdict, replace

    from .documents import SCHEMA_VERSION

    status = "repaired" if found.repaired else found.verdict
    folder = None if found.repaired is None else str(found.repaired.folder)
    document = asdict(replace(found, repaired=None))
    return {"schema_version": SCHEMA_VERSION, "status": status, **document, "repaired": folder}


def comparison_as_markdown(found: Comparison) -> str:
    """The same as Markdown, for a discussion."""
    from ..api.compared import part_rows

    lines = [f"**{found.verdict}**: A is `{_inline(found.a)}`, B is `{_inline(found.b)}`.", ""]
    lines += [f"- *{one.cause}*: {_escaped(one.text)}" for one in found.differences]
    lines += ["", "| stage | tensors | equal | relative distance |", "|---|---:|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in part_rows(found.stages)]
    lines += ["", f"Compared by digests and values with [densenet-convert]({HOME})."]
    return "\n".join(lines)


def _inline(text: str) -> str:
    return quoted(text).replace("`", "'")


def _escaped(text: str) -> str:
    """Returns a sentence of ours in which nothing is Markdown: names hold underscores."""
    return text.replace("_", r"\_").replace("*", r"\*").replace("<", "&lt;")
