"""The commands that convert: torchvision and file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..records import ORIGIN_IMAGENET, ORIGIN_RANDOM
from . import complete
from .batch import PARENT, Printing, convert_batch
from .options import ANY_PATH, ARCHS, Architecture, conversion_options, proof_options, shared_options
from .reporting import Results, reporting_errors
from .status import progress_bar

ARCH = Architecture([*ARCHS, "all"])


@click.command()
@click.argument("named", nargs=-1, type=ARCH, metavar="[121|161|169|201|all]...")
@click.option("--arch", "archs", type=ARCH, multiple=True, help="The same as an option; can be repeated.")
@click.option(
    "--weights",
    type=click.Choice([ORIGIN_IMAGENET, ORIGIN_RANDOM]),
    help=f"torchvision's own (the default, {ORIGIN_IMAGENET}), or random ones to try the tool with.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of random weights.  [default: 0]")
@click.option(
    "--checkpoint",
    metavar="FILE",
    shell_complete=complete.files,
    help="Convert this file instead, here or hf://USER/NAME/FILE, in any layout.",
)
@click.option(
    "-o",
    "--output",
    type=ANY_PATH,
    shell_complete=complete.folders,
    help="Folder to write, or with several architectures their parent.  [default: densenet169 and so on]",
)
@conversion_options
@proof_options
@shared_options
@click.pass_context
def torchvision(
    context: click.Context,
    /,
    named: tuple[str, ...],
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

    A conversion that is there already, whole and with these options, is skipped.  With --images, --outputs,
    --report and --reference it is an error, which prints the verify command to use.

    \b
    Examples:
      densenet-convert torchvision 169
      densenet-convert torchvision all --output converted
      densenet-convert torchvision 121 --checkpoint old.pth
      densenet-convert torchvision 169 --weights random
    """
    chosen = _chosen({*named, *archs})
    if checkpoint and (weights or len(chosen) > 1):
        raise click.UsageError("--checkpoint goes with one architecture and without --weights.")
    if seed is not None and weights != ORIGIN_RANDOM:
        raise click.UsageError("--seed goes with --weights random.")
    if report and len(chosen) > 1:
        raise click.UsageError("--report goes with one architecture.")
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
            results.add(folder, written.receipt, checkpoint, skipped=written.skipped)
    context.exit(results.finish())


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", shell_complete=complete.files)
@click.option(
    "-o",
    "--output",
    type=ANY_PATH,
    shell_complete=complete.folders,
    help="Folder to write; with several sources, --jobs, --dask or --jsonl the folder that holds theirs.  "
    f"[default: SOURCE's name without its end; of several, {PARENT}]",
)
@click.option(
    "--arch", type=Architecture(ARCHS), help="Require this DenseNet.  [default: the one that the shapes tell]"
)
@click.option(
    "--layout",
    metavar="NAME",
    shell_complete=complete.layouts,
    help="Require this layout.  [default: the one that fits]",
)
@click.option("--prefix", help="Require this in front of all names.  [default: what is found]")
@click.option(
    "--only", metavar="PREFIX", help="Convert the DenseNet under this prefix, and leave out the rest."
)
@click.option(
    "--head",
    metavar="NAME",
    help="Take this layer as the last one, by its whole name; '' takes the features alone.  "
    "[default: found by its name]",
)
@click.option(
    "--final-relu/--no-final-relu",
    default=None,
    help="Say whether a ReLU runs behind the last norm.  [default: as in torchvision, if that is sure]",
)
@click.option(
    "--key", metavar="KEYS", help="Take this state dict if the file holds several: ema.state_dict, models.1."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Convert several sources in so many processes.  [default: in this one]",
)
@click.option(
    "--dask", metavar="ADDRESS", help="Convert several sources on the Dask cluster of this scheduler."
)
@click.option("--jsonl", is_flag=True, help="Print one JSON document a line as soon as a source is done.")
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
    Names tell its layout, and shapes its network.  If one of several sources fails, the rest goes on.
    The word file may be left out, or be convert.

    A conversion that is there already, whole and with these options, is skipped.  With --images, --outputs,
    --report and, for one source, --reference it is an error, which prints the verify command to use.

    \b
    Examples:
      densenet-convert my-densenet.pth
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
        printing = Printing(as_json, jsonl, quiet, verbose)
        context.exit(convert_batch(sources, output or Path(PARENT), jobs, dask, printing, options))
    from ..api.plan import output_name

    (source,) = sources
    with reporting_errors(as_json, folder=str(output or source)):
        folder = output or Path(output_name(source))

    results = Results("converted", as_json=as_json, quiet=quiet, verbose=verbose)
    with results.keeping_errors(folder):
        from ..api.convert import convert

        written = convert(source, folder, progress=progress_bar(quiet), **options)
        results.add(folder, written.receipt, source, skipped=written.skipped)
    context.exit(results.finish())


def _chosen(asked: set[str]) -> list[str]:
    """Returns the architectures that are asked for, each once."""
    if not asked:
        raise click.UsageError(f"Name an architecture: {', '.join(ARCHS)} or all.")
    return list(ARCHS) if "all" in asked else [arch for arch in ARCHS if arch in asked]


def _folder(arch: str, output: Path | None, *, several: bool) -> Path:
    name = f"densenet{arch}"
    if output is None:
        return Path(name)
    return output / name if several else output
