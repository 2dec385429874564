"""The commands that look at what is there: verify, inspect, prove and doctor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from . import complete
from .keywords import as_command
from .options import ANY_PATH, printing_options, proof_options, shared_options
from .reporting import Results, draw_bars, explain_error, reporting_errors, set_up_logging, show_exported
from .signing import expected_options
from .status import echo, progress_bar


@click.command()
@click.argument("folder", shell_complete=complete.files)
@click.option(
    "--source",
    metavar="FILE",
    shell_complete=complete.files,
    help="The checkpoint that was converted, here or hf://...",
)
@click.option(
    "--against",
    metavar="FOLDER",
    shell_complete=complete.folders,
    help="Compare an exported network, named in place of a folder, with the converted folder that it is of.",
)
@proof_options
@expected_options
@shared_options
@click.pass_context
def verify(
    context: click.Context,
    /,
    folder: str,
    source: str | None,
    against: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Repeat the proof of a converted FOLDER, against its source if you name it.

    With --against, FOLDER is a file in ONNX's format, OpenVINO's or torch.export's, whoever exported it:
    its weights, its layers and its output are compared with the converted folder.

    \b
    Examples:
      densenet-convert verify densenet169
      densenet-convert verify densenet169 --source densenet169-b2777c0a.pth
      densenet-convert verify hf://USER/NAME@main
      densenet-convert verify hf://USER/NAME --public-key key.pub
      densenet-convert verify model.onnx --against densenet169
      densenet-convert verify model.xml --against densenet169
    """
    if against is not None:
        _refuse_others(context)
        _verify_exported(folder, against, as_json=as_json, quiet=quiet, verbose=verbose)
        return
    results = Results("verified", as_json=as_json, quiet=quiet, verbose=verbose)
    with results.keeping_errors(folder):
        from ..api.verify import receipt_with, verify
        from ..hub.fetch import local_folder

        here = local_folder(folder)
        verified = verify(here, source=source, progress=progress_bar(quiet), **options)
        receipt = {**receipt_with(verified.proof, here), "signed_by": verified.signed_by}
        results.add(folder, receipt, source)
    context.exit(results.finish())


def _refuse_others(context: click.Context) -> None:
    """Refuses the options of the other proof."""
    kept = {"folder", "against", "as_json", "quiet", "verbose"}
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in kept and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} does not go with --against.")


def _verify_exported(file: str, folder: str, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    set_up_logging(verbose)
    draw_bars(as_json or quiet)
    with reporting_errors(as_json, path=file):
        from ..api.verify_exported import verify_exported

        verified = verify_exported(file, folder)
    show_exported(verified, "verified", folder, as_json=as_json, quiet=quiet)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete.files)
@click.option(
    "--key", metavar="KEYS", help="Take this state dict if the file holds several: ema.state_dict, models.1."
)
@click.option("--hashes", is_flag=True, help="Also print the SHA-256 of every tensor.")
@printing_options
@click.option("-v", "--verbose", is_flag=True, help="Print every detail, and every tensor.")
@click.pass_context
def inspect(
    context: click.Context,
    /,
    files: tuple[str, ...],
    key: str | None,
    hashes: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Say what checkpoints hold; nothing in them is executed, and no torch is needed.

    FILE is a checkpoint, a converted folder, or a folder that holds such.  Nothing is proven.

    \b
    Examples:
      densenet-convert inspect densenet169-b2777c0a.pth
      densenet-convert inspect checkpoints converted/chest
      densenet-convert inspect model.ckpt --hashes --json
    """
    from ..api.inspected import inspection_as_text
    from ..api.inspection import inspect
    from ..api.plan import sources_in
    from . import documents

    draw_bars(as_json or quiet)
    found: list[dict[str, Any]] = []
    several = len(files) > 1
    for named in files:
        paths = []
        with _keeping_errors(found, named):
            paths = sources_in(named)
            several = several or paths != [named]
        for path in paths:
            with _keeping_errors(found, path):
                one = inspect(path, key=key, hashes=hashes)
                if one.problem is not None:
                    one = replace(one, problem=as_command(one.problem))
                found.append(documents.inspection_as_json(one))
                if not as_json and not quiet:
                    echo(as_command(inspection_as_text(one, path, key=key, verbose=verbose)))
    if as_json:
        click.echo(json.dumps(documents.inspections_as_json(found) if several else found[0], indent=2))
    context.exit(max(one["error"]["exit_code"] if "error" in one else 0 for one in found))


@contextmanager
def _keeping_errors(found: list[dict[str, Any]], path: str) -> Iterator[None]:
    """An error that is raised in the block is printed, and is what was found of this path."""
    try:
        yield
    except Exception as error:
        found.append(explain_error(error, path=path))


@click.command()
@click.argument("folder", type=ANY_PATH, required=False, shell_complete=complete.folders)
@shared_options
@click.pass_context
def prove(
    context: click.Context, folder: Path | None, device: str, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Prove the proof: inject every kind of fault into a conversion, and count what is caught.

    Every two tensors of one shape are exchanged, and faults of values, of the network and of files
    are drawn.  Without FOLDER a small network of random weights is taken, with a converted FOLDER
    its own; both take minutes.  Nothing in FOLDER is changed.  The small network runs with one thread,
    whatever OMP_NUM_THREADS says: threads would wait for one another longer than they compute.

    \b
    Examples:
      densenet-convert prove
      densenet-convert prove densenet121 --json
    """
    from . import documents

    set_up_logging(verbose)
    draw_bars(quiet)
    with reporting_errors(as_json, **({} if folder is None else {"folder": str(folder)})):
        if folder is not None:
            from ..folder.open import open_folder

            open_folder(folder)  # refused before torch is loaded
        from ..tensors import announce_torch

        announce_torch()
        from ..proof.selftest.run import run_self_test

        tested = run_self_test(folder, device=device, progress=progress_bar(quiet))
    if as_json:
        click.echo(json.dumps(documents.self_test_as_json(tested), indent=2))
    elif not quiet:
        click.echo(tested)
    if not tested.holds:
        click.echo(
            f"error: {len(tested.escaped)} faults were not caught, or not located, and "
            f"{len(tested.false_alarms)} clean runs failed. The proof has a hole: report it.",
            err=True,
        )
        context.exit(1)


@click.command()
@printing_options
@click.pass_context
def doctor(context: click.Context, as_json: bool, quiet: bool) -> None:
    """Print the versions, devices, extras and layouts that are there, and what is missing.

    \b
    Examples:
      densenet-convert doctor
      densenet-convert doctor --json
    """
    from ..api.doctor import examine
    from . import documents

    found = examine()
    if as_json:
        click.echo(json.dumps(documents.examination_as_json(found), indent=2))
    elif not quiet:
        click.echo(found)
    for problem in found.problems if quiet else ():
        click.echo(f"error: {problem}", err=True)
    context.exit(int(bool(found.problems)))
