"""The commands that describe a converted folder and pass it on: describe, push and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .options import ANY_PATH, claim_options, layout_names
from .reporting import Results, draw_bars, reporting_errors, set_up_logging


@click.command()
@click.argument("folder")
@click.argument("repository", metavar="[OWNER/]NAME", required=False)
@click.option("--repo-id", metavar="[OWNER/]NAME", help="The same; the repository is made if missing.")
@click.option("--add", is_flag=True, help="Propose it to a repository that holds the original.")
@click.option("--license", metavar="ID", help="By the Hub's identifier; required where it is not known.")
@click.option("--private", is_flag=True, help="Make the repository private; a public one is refused.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of a commit.")
@click.option("--revision", default="main", show_default=True, help="Branch; it is made if missing.")
@click.option("--commit-message", help="Of the one commit.  [default: the network and the converter]")
@click.option("--token", help="What signs in.  [default: HF_TOKEN, or the login of `hf auth login`]")
@click.option("--dry-run", is_flag=True, help="Print exactly what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and JSON).")
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done, on stderr.")
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
    """
    from . import documents, text

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
        click.echo(remark, err=True)
    if as_json:
        click.echo(json.dumps(documents.published_as_json(published, folder=folder), indent=2))
    elif not quiet:
        click.echo(text.published_as_text(published))


@click.command()
@click.argument("folder")
@claim_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and JSON).")
@click.option("-v", "--verbose", is_flag=True, help="Print every detail, and on stderr each step.")
@click.pass_context
def describe(
    context: click.Context, /, folder: str, as_json: bool, quiet: bool, verbose: bool, **options: Any
) -> None:
    """Change what a converted FOLDER says of labels, pre-processing, license and card; its weights stay.

    It is then what a conversion with these options would have been, byte for byte.  What is not given
    stays as it is.

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
@click.argument("folder")
@click.option(
    "--to",
    "layout",
    required=True,
    metavar="LAYOUT",
    shell_complete=layout_names,
    help="Such as torchvision-dotted, monai or keras.",
)
@click.option("--output", type=ANY_PATH, help="File to write.  [default: FOLDER-LAYOUT.pth]")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def export(folder: str, layout: str, output: Path | None, force: bool) -> None:
    """Write a converted FOLDER as a file that another library loads: the way back, bit for bit.

    \b
    Examples:
      densenet-convert export densenet169 --to torchvision-dotted
      densenet-convert export densenet121 --to monai --output monai.pth
    """
    draw_bars(quiet=False)
    with reporting_errors(folder=folder):
        from ..api.export import export

        written = export(folder, layout, output, force=force)
    click.echo(written)
