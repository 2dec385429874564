"""The commands that convert: torchvision and file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from ..records import ORIGIN_IMAGENET, ORIGIN_RANDOM
from .options import ANY_PATH, ARCHS, conversion_options, layout_names, proof_options, shared_options
from .reporting import Results, draw_bars, reporting_errors, set_up_logging
from .status import echo, progress_bar


@click.command()
@click.option(
    "--arch",
    "archs",
    type=click.Choice([*ARCHS, "all"]),
    multiple=True,
    required=True,
    help="Which DenseNet; can be repeated.",
)
@click.option(
    "--weights",
    type=click.Choice([ORIGIN_IMAGENET, ORIGIN_RANDOM]),
    help=f"torchvision's own (the default, {ORIGIN_IMAGENET}), or random ones to try the tool with.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="What random weights are drawn from.  [default: 0]"
)
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="A file of it instead, here or hf://USER/NAME/FILE, whatever its layout.",
)
@click.option(
    "--output",
    type=ANY_PATH,
    help="Folder to write, or with several architectures their parent.  [default: densenet169 and so on]",
)
@conversion_options
@proof_options
@shared_options
@click.pass_context
def torchvision(
    context: click.Context,
    /,
    archs: tuple[str, ...],
    weights: str | None,
    seed: int | None,
    checkpoint: str | None,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    report: Path | None,
    **options: Any,
) -> None:
    """Convert torchvision's weights, verify them and write a folder.

    \b
    Examples:
      densenet-convert torchvision --arch 169
      densenet-convert torchvision --arch all --output converted
      densenet-convert torchvision --arch 121 --checkpoint old.pth
      densenet-convert torchvision --arch 169 --weights random
    """
    chosen = list(ARCHS) if "all" in archs else [arch for arch in ARCHS if arch in archs]
    if checkpoint and (weights or len(chosen) > 1):
        raise click.UsageError("--checkpoint goes with one --arch and without --weights.")
    if seed is not None and weights != ORIGIN_RANDOM:
        raise click.UsageError("--seed goes with --weights random.")
    if report and len(chosen) > 1:
        raise click.UsageError("--report goes with one --arch.")
    folders = {arch: _folder(arch, output, several=len(chosen) > 1) for arch in chosen}

    results = Results("converted", as_json=as_json, quiet=quiet, verbose=verbose)
    for arch, folder in folders.items():
        with results.keeping_errors(folder):
            from ..api.convert import convert_torchvision

            written = convert_torchvision(
                arch,
                weights=weights or ORIGIN_IMAGENET,
                seed=seed or 0,
                checkpoint=checkpoint,
                output=folder,
                report=report,
                progress=progress_bar(quiet),
                **options,
            )
            results.add(folder, written.receipt, checkpoint)
    context.exit(results.finish())


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--output",
    type=ANY_PATH,
    help="Folder to write, or of several sources, and with --jobs, --dask and --jsonl, their parent.  "
    "[default: SOURCE's name without its end]",
)
@click.option("--arch", type=click.Choice(ARCHS), help="Which DenseNet it must be.  [default: by its shapes]")
@click.option(
    "--layout",
    metavar="NAME",
    shell_complete=layout_names,
    help="Which layout it must be in.  [default: the one that fits]",
)
@click.option("--prefix", help="What must stand before the names.  [default: what is found]")
@click.option("--only", metavar="PREFIX", help="Convert the DenseNet under this prefix, leave out the rest.")
@click.option(
    "--head",
    metavar="NAME",
    help="Whole name of the last layer, '' for the features alone.  [default: what heads are called]",
)
@click.option(
    "--final-relu/--no-final-relu",
    default=None,
    help="Whether a ReLU stands behind the last norm.  [default: as torchvision, where that is sure]",
)
@click.option("--key", metavar="KEYS", help="Where the state dict is, if there are several: ema.state_dict.")
@click.option("--jobs", type=click.IntRange(1), help="Processes for several sources.  [default: this one]")
@click.option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster that converts several sources.")
@click.option("--jsonl", is_flag=True, help="Print one JSON document a line, as each source is done.")
@conversion_options
@proof_options
@shared_options
@click.pass_context
def file(
    context: click.Context,
    /,
    sources: tuple[str, ...],
    output: Path | None,
    jobs: int | None,
    dask: str | None,
    jsonl: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Convert checkpoints, verify them and write a folder for each.

    SOURCE is a file, a folder of them, or hf://USER/NAME[@REVISION][/FILE] on the Hugging Face Hub.
    Its layout is found by its names and its network by its shapes.  Of several sources, what fails does
    not stop the rest, and what is converted already, with these options, is skipped.

    \b
    Examples:
      densenet-convert file my-densenet.pth
      densenet-convert file chest.pth --labels names.txt --multi-label
      densenet-convert file hf://timm/densenet121.tv_in1k
      densenet-convert file checkpoints --output converted --jobs 4
    """
    if options["only"] is not None and options["prefix"] is not None:
        raise click.UsageError("--only names the prefix already: leave --prefix out.")
    if jsonl and as_json:
        raise click.UsageError("--json and --jsonl are two ways to print: choose one.")
    if len(sources) > 1 or Path(sources[0]).is_dir() or jobs or dask or jsonl:
        if any([options.pop("images"), options.pop("report"), options.pop("outputs")]):
            raise click.UsageError("--images, --outputs and --report go with one source.")
        if jobs and dask:
            raise click.UsageError("--jobs and --dask are two ways to do it: choose one.")
        context.exit(
            _convert_many(sources, output or Path(), jobs, dask, jsonl, as_json, quiet, verbose, options)
        )
    from ..api.plan import output_name

    (source,) = sources
    with reporting_errors(as_json, folder=str(output or source)):
        folder = output or Path(output_name(source))

    results = Results("converted", as_json=as_json, quiet=quiet, verbose=verbose)
    with results.keeping_errors(folder):
        from ..api.convert import convert

        written = convert(source, folder, progress=progress_bar(quiet), **options)
        results.add(folder, written.receipt, source)
    context.exit(results.finish())


def _convert_many(
    sources: Sequence[str],
    output: Path,
    jobs: int | None,
    dask: str | None,
    jsonl: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    options: Mapping[str, Any],
) -> int:
    """Prints what comes of each source, and returns the highest exit code."""
    from . import documents, text

    set_up_logging(verbose)
    draw_bars(quiet)
    outcomes = []
    with reporting_errors(as_json or jsonl, None if jsonl else 2, folder=str(output)):
        from ..api.many import convert_many

        with _executor(jobs, dask) as executor:
            for one in convert_many(
                sources, output, executor=executor, progress=progress_bar(quiet), **options
            ):
                outcomes.append(one)
                if jsonl:
                    echo(json.dumps(documents.outcome_as_json(one)))
                elif one.message is not None:
                    named = "" if one.source in one.message else f"{one.source}: "
                    echo(f"error: {named}{one.message}", err=True)
                elif not as_json and not quiet:
                    echo(f"{one.folder}: {one.status}, {one.network}")
    if as_json:
        click.echo(json.dumps(documents.outcomes_as_json(outcomes), indent=2))
    elif not quiet and not jsonl:
        click.echo(text.outcomes_as_text(outcomes))
    return max((one.exit_code for one in outcomes), default=0)


def _executor(jobs: int | None, dask: str | None) -> AbstractContextManager[Executor | None]:
    """Returns what runs the conversions; None within it is this process."""
    from ..executors import dask_executor, process_executor

    if dask:
        return dask_executor(dask)
    if jobs:
        return process_executor(jobs)
    return nullcontext()


def _folder(arch: str, output: Path | None, *, several: bool) -> Path:
    name = f"densenet{arch}"
    if output is None:
        return Path(name)
    return output / name if several else output
