"""The commands that describe a converted folder and pass it on: describe, push and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from . import complete
from .keywords import as_command
from .options import ANY_PATH, claim_options, working_options
from .reporting import Results, draw_bars, reporting_errors, set_up_logging, show_exported


@click.command()
@click.argument("folder", shell_complete=complete.folders)
@click.argument("repository", metavar="[OWNER/]NAME", required=False)
@click.option(
    "--repo-id",
    metavar="[OWNER/]NAME",
    help="The same as an option.  The repository is made if it is missing.",
)
@click.option("--add", is_flag=True, help="Propose it to a repository that holds the original.")
@click.option(
    "--license",
    metavar="ID",
    shell_complete=complete.licenses,
    help="License, by the Hub's identifier; required if the folder does not know it.",
)
@click.option("--private", is_flag=True, help="Make the repository private; a public one is refused.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of a commit.")
@click.option("--revision", default="main", show_default=True, help="Branch; it is made if it is missing.")
@click.option("--commit-message", help="Message of the commit.  [default: the network and the converter]")
@click.option("--token", help="Access token.  [default: HF_TOKEN, or the login of `hf auth login`]")
@click.option(
    "--sign",
    metavar="KEY|sigstore",
    shell_complete=complete.files,
    help="Sign what is sent, by the private key in the file KEY; see densenet-convert sign.",
)
@click.option("--dry-run", is_flag=True, help="Print exactly what would be sent, and send nothing.")
@working_options
def push(
    folder: str,
    repository: str | None,
    repo_id: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Publish a converted FOLDER on the Hugging Face Hub, fetch it back and compare every byte.

    A NAME without an owner is your own repository.  With --add it opens a pull request, which adds the
    conversion to a repository that holds the file that was converted, and deletes and replaces nothing.

    \b
    Examples:
      densenet-convert push densenet169 USER/densenet169 --dry-run
      densenet-convert push densenet169 densenet169
      densenet-convert push chest USER/chest --license mit --private
      densenet-convert push chest SOMEBODY/chest --add
      densenet-convert push chest USER/chest --sign key.pem
    """
    from . import documents

    if repository is not None and repo_id not in (None, repository):
        raise click.UsageError(f"Two repositories are named, {repository} and {repo_id}: choose one.")
    named = repository or repo_id
    if named is None:
        raise click.UsageError("Name the repository: OWNER/NAME, or NAME for one of your own.")
    set_up_logging(verbose)
    draw_bars(quiet)
    with reporting_errors(as_json, folder=folder):
        from ..api.push import push

        published = push(folder, named, **options)
    for remark in published.remarks:
        click.echo(as_command(remark), err=True)
    if as_json:
        click.echo(json.dumps(documents.published_as_json(published, folder=folder), indent=2))
    elif not quiet:
        click.echo(published)


@click.command()
@click.argument("folder", shell_complete=complete.folders)
@claim_options
@working_options
@click.pass_context
def describe(
    context: click.Context, /, folder: str, as_json: bool, quiet: bool, verbose: bool, **options: Any
) -> None:
    """Change what a converted FOLDER says of labels, pre-processing, license and card; its weights stay.

    The folder is then byte for byte what a conversion with these options would have written.  What you don't
    state stays as it is.

    \b
    Examples:
      densenet-convert describe chest --mean 0.5 --std 0.5 --input-size 320
      densenet-convert describe chest --labels names.csv --license apache-2.0
      densenet-convert describe chest --dataset USER/x-rays --metric accuracy=0.91
    """
    results = Results("described", as_json=as_json, quiet=quiet, verbose=verbose)
    with results.keeping_errors(folder):
        from ..api.describe import describe

        results.add(folder, describe(folder, **options).receipt)
    context.exit(results.finish())


@click.command()
@click.argument("folder", shell_complete=complete.folders)
@click.option(
    "--to",
    "layout",
    required=True,
    metavar="LAYOUT|onnx|openvino|pt2",
    shell_complete=complete.exports,
    help="Layout of the file (torchvision-dotted, monai, keras, ...), or onnx, openvino or pt2.",
)
@click.option(
    "-o",
    "--output",
    type=ANY_PATH,
    help="File to write.  [default: FOLDER-LAYOUT.pth, FOLDER.onnx, .xml or .pt2]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="Precision of such a network's weights.  [default: float32]",
)
@click.option("--dynamic-size", is_flag=True, help="Leave height and width of such a network's input free.")
@click.option("-f", "--force", is_flag=True, help="Replace a file that exists.")
@working_options
def export(
    folder: str,
    layout: str,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Write a converted FOLDER as a file that another library loads, or that another runtime runs.

    A layout's file holds the tensors, bit for bit.  One in ONNX's format, OpenVINO's or torch.export's holds
    the network; it is proven before it is written: every tensor, every layer alone (of torch.export's the
    output, to the bit), and the whole on several inputs.

    \b
    Examples:
      densenet-convert export densenet169 --to torchvision-dotted
      densenet-convert export densenet121 --to monai --output monai.pth
      densenet-convert export densenet121 --to onnx --dynamic-size
    """
    from ..api.exported import RUNTIMES

    if layout not in RUNTIMES and (options["dtype"] or options["dynamic_size"]):
        raise click.UsageError(f"--dtype and --dynamic-size go with --to {', '.join(RUNTIMES)} alone.")
    set_up_logging(verbose)
    draw_bars(as_json or quiet)
    with reporting_errors(as_json, folder=folder):
        from ..api.export import export

        written = export(folder, layout, output, **options)
    show_exported(written, "exported", folder, as_json=as_json, quiet=quiet)
