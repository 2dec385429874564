"""The commands that look at what is there: verify, inspect, prove and doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .options import ANY_PATH, proof_options, shared_options
from .reporting import Results, draw_bars, reporting_errors, set_up_logging
from .status import progress_bar


@click.command()
@click.argument("folder")
@click.option("--source", metavar="FILE", help="The checkpoint that was converted, here or hf://...")
@proof_options
@shared_options
@click.pass_context
def verify(
    context: click.Context,
    /,
    folder: str,
    source: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Repeat the proof of a converted FOLDER, against its source where that is given.

    \b
    Examples:
      densenet-convert verify densenet169
      densenet-convert verify densenet169 --source densenet169-b2777c0a.pth
      densenet-convert verify hf://USER/NAME@main
    """
    results = Results("verified", as_json=as_json, quiet=quiet, verbose=verbose)
    with results.keeping_errors(folder):
        from ..api.verify import receipt_with, verify
        from ..hub.fetch import local_folder

        here = local_folder(folder)
        verified = verify(here, source=source, progress=progress_bar(quiet), **options)
        results.add(folder, receipt_with(verified.proof, here), source)
    context.exit(results.finish())


@click.command()
@click.argument("file")
@click.option("--key", metavar="KEYS", help="Where the state dict is, if there are several: ema.state_dict.")
@click.option("--hashes", is_flag=True, help="Digest every tensor as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
@click.option("-v", "--verbose", is_flag=True, help="Print every detail, and every tensor.")
def inspect(file: str, key: str | None, hashes: bool, as_json: bool, verbose: bool) -> None:
    """Say what a checkpoint FILE holds; nothing in it is executed, and no torch is needed.

    \b
    Examples:
      densenet-convert inspect densenet169-b2777c0a.pth
      densenet-convert inspect model.ckpt --hashes --json
    """
    from ..api.inspection import inspect
    from . import documents, text

    draw_bars(as_json)
    with reporting_errors(as_json, path=file):
        found = inspect(file, key=key, hashes=hashes)
    if as_json:
        click.echo(json.dumps(documents.inspection_as_json(found), indent=2))
    else:
        click.echo(text.inspection_as_text(found, file, key=key, verbose=verbose))


@click.command()
@click.argument("folder", type=ANY_PATH, required=False)
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
    from . import documents, tables

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
        click.echo(tables.self_test_as_text(tested))
    if not tested.holds:
        click.echo(
            f"error: {len(tested.escaped)} faults were not caught, or not located, and "
            f"{len(tested.false_alarms)} clean runs failed. The proof has a hole: report it.",
            err=True,
        )
        context.exit(1)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Say which versions, devices, extras and layouts there are, and what is missing.

    \b
    Examples:
      densenet-convert doctor
      densenet-convert doctor --json
    """
    from ..api.doctor import examine
    from . import documents, text

    found = examine()
    if as_json:
        click.echo(json.dumps(documents.examination_as_json(found), indent=2))
    else:
        click.echo(text.examination_as_text(found))
    context.exit(int(bool(found.problems)))
