"""The command line: parses, calls the pipeline, prints.  Nothing imports this module."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TypeVar

import click

from densenet_convert.densenet import ARCHITECTURES

from .records import PUBLISHED, RANDOM, Progress

ARCHS = tuple(name.removeprefix("densenet") for name in ARCHITECTURES)

# What can't be read gets our message, and exit code.
ANY_PATH = click.Path(path_type=Path, readable=False)

Receipt = Mapping[str, Any]
Command = TypeVar("Command", bound=Callable[..., Any])


def layout_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """What a shell completes the name of a layout to."""
    from densenet_convert.layouts import known_layouts

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
            help="Names of the classes, one a line.  [default: torchvision's for its own weights, else none]",
        ),
        click.option("--multi-label", is_flag=True, help="Several classes may hold at once: no softmax."),
        click.option(
            "--license",
            metavar="ID",
            help="For the model card, by the Hub's identifier.  [default: torchvision's for its own weights]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def proof_options(command: Command) -> Command:
    """The options of commands that prove a conversion."""
    options = [
        click.option(
            "--images", type=ANY_PATH, metavar="DIR", help="Compare both networks on these images as well."
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="densenet-convert", prog_name="densenet-convert")
def main() -> None:
    """Turns a DenseNet checkpoint into a clean one, and proves that nothing was lost.

    \b
    Examples:
      densenet-convert torchvision --arch 169
      densenet-convert file my-densenet.pth
      densenet-convert inspect my-densenet.pth

    Exit codes: 0 done, 1 error, 2 usage, 3 parity failed.
    """


@main.command()
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
    type=click.Choice([PUBLISHED, RANDOM]),
    help=f"torchvision's own (the default, {PUBLISHED}), or random ones to try the tool with.",
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
    chosen = [arch for arch in ARCHS if arch in archs or "all" in archs]
    if checkpoint and (weights or len(chosen) > 1):
        raise click.UsageError("--checkpoint goes with one --arch and without --weights.")
    if seed is not None and weights != RANDOM:
        raise click.UsageError("--seed goes with --weights random.")
    if report and len(chosen) > 1:
        raise click.UsageError("--report goes with one --arch.")
    folders = {arch: _folder(arch, output, several=len(chosen) > 1) for arch in chosen}

    def convert(arch: str) -> Receipt:
        from densenet_convert.pipeline import convert_torchvision

        written = convert_torchvision(
            arch,
            weights=weights or PUBLISHED,
            seed=seed or 0,
            checkpoint=checkpoint,
            output=folders[arch],
            report=report,
            progress=_progress(quiet),
            **options,
        )
        return written.receipt

    jobs = [(folder, partial(convert, arch)) for arch, folder in folders.items()]
    context.exit(_run(jobs, "converted", as_json=as_json, quiet=quiet, verbose=verbose))


@main.command()
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
    "--head", metavar="NAME", help="Whole name of the last layer.  [default: what heads are called]"
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
        images, report = options.pop("images"), options.pop("report")
        if images or report:
            raise click.UsageError("--images and --report go with one source.")
        if jobs and dask:
            raise click.UsageError("--jobs and --dask are two ways to do it: choose one.")
        context.exit(
            _convert_many(sources, output or Path(), jobs, dask, jsonl, as_json, quiet, verbose, options)
        )
    from densenet_convert.many import stem

    (source,) = sources
    with _told(as_json, folder=str(output or source)):
        folder = output or Path(stem(source))

    def convert() -> Receipt:
        from densenet_convert.pipeline import convert

        return convert(source, folder, progress=_progress(quiet), **options).receipt

    context.exit(_run([(folder, convert)], "converted", as_json=as_json, quiet=quiet, verbose=verbose))


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
    from densenet_convert import summary

    _log(verbose)
    _draw_bars(quiet)
    outcomes = []
    with _told(as_json or jsonl, None if jsonl else 2, folder=str(output)):
        from densenet_convert.executors import dask_executor, process_executor
        from densenet_convert.many import convert_many

        executor: Any = dask_executor(dask) if dask else process_executor(jobs) if jobs else nullcontext()
        with executor as chosen:
            for one in convert_many(sources, output, executor=chosen, progress=_progress(quiet), **options):
                outcomes.append(one)
                if jsonl:
                    click.echo(json.dumps(summary.outcome_as_json(one)))
                elif one.message is not None:
                    named = "" if one.source in one.message else f"{one.source}: "
                    click.echo(f"error: {named}{one.message}", err=True)
                elif not as_json and not quiet:
                    click.echo(f"{one.folder}: {one.status}, {one.network}")
    if as_json:
        click.echo(json.dumps(summary.outcomes_as_json(outcomes), indent=2))
    elif not quiet and not jsonl:
        click.echo(summary.outcomes_as_text(outcomes))
    return max((one.exit_code for one in outcomes), default=0)


@main.command()
@click.argument("folder")
@click.option("--repo-id", required=True, metavar="USER/NAME", help="The repository; it is made if missing.")
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
    repo_id: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Publish a converted FOLDER on the Hugging Face Hub, fetch it back and compare every byte.

    \b
    Examples:
      densenet-convert push densenet169 --repo-id USER/densenet169 --dry-run
      densenet-convert push densenet169 --repo-id USER/densenet169
      densenet-convert push chest --repo-id USER/chest --license mit --private
    """
    from densenet_convert import summary

    _log(verbose)
    _draw_bars(quiet)
    with _told(as_json, folder=folder):
        from densenet_convert.pipeline import push

        published = push(folder, repo_id, **options)
    for remark in published.remarks:
        click.echo(remark, err=True)
    if as_json:
        click.echo(json.dumps(summary.published_as_json(published, folder=folder), indent=2))
    elif not quiet:
        click.echo(summary.published_as_text(published))


@main.command()
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
    with _told(folder=folder):
        from densenet_convert.exporting import export

        written = export(folder, layout, output, force=force)
    click.echo(written)


@main.command()
@click.argument("folder")
@click.option("--source", metavar="FILE", help="The checkpoint that was converted, here or hf://...")
@proof_options
@shared_options
@click.pass_context
def verify(
    context: click.Context,
    folder: str,
    source: str | None,
    images: Path | None,
    report: Path | None,
    device: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Repeat the proof of a converted FOLDER, against its source where that is given.

    \b
    Examples:
      densenet-convert verify densenet169
      densenet-convert verify densenet169 --source densenet169-b2777c0a.pth
      densenet-convert verify hf://USER/NAME@main
    """

    def repeat() -> Receipt:
        from densenet_convert import receipt
        from densenet_convert.hub import local_folder
        from densenet_convert.pipeline import verify

        here = local_folder(folder)
        verified = verify(
            here, source=source, device=device, images=images, report=report, progress=_progress(quiet)
        )
        written = receipt.unseal((here / receipt.FILE_NAME).read_bytes().decode())
        files = written["verification"].get("files", {})
        return {**written, "verification": {**receipt.describe_proof(verified.proof), "files": files}}

    context.exit(_run([(folder, repeat)], "verified", as_json=as_json, quiet=quiet, verbose=verbose))


@main.command()
@click.argument("file")
@click.option("--key", metavar="KEYS", help="Where the state dict is, if there are several: ema.state_dict.")
@click.option("--hashes", is_flag=True, help="Digest every tensor as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
@click.option("-v", "--verbose", is_flag=True, help="List every tensor.")
def inspect(file: str, key: str | None, hashes: bool, as_json: bool, verbose: bool) -> None:
    """Say what a checkpoint FILE holds; nothing in it is executed, and no torch is needed.

    \b
    Examples:
      densenet-convert inspect densenet169-b2777c0a.pth
      densenet-convert inspect model.ckpt --hashes --json
    """
    from densenet_convert import summary
    from densenet_convert.inspection import inspect

    with _told(as_json, path=file):
        found = inspect(file, key=key, hashes=hashes)
    if as_json:
        click.echo(json.dumps(summary.inspection_as_json(found), indent=2))
    else:
        click.echo(f"{file}\n{summary.inspection_as_text(found, verbose=verbose)}")


@main.command()
@click.argument("folder", type=ANY_PATH, required=False)
@shared_options
@click.pass_context
def prove(
    context: click.Context, folder: Path | None, device: str, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Prove the proof: inject every kind of fault into a conversion, and count what is caught.

    Without FOLDER a small network of random weights is taken, which takes minutes; with a
    converted FOLDER its own network, which takes much longer.  Nothing in FOLDER is changed.

    \b
    Examples:
      densenet-convert prove
      densenet-convert prove densenet121 --json
    """
    from densenet_convert import scoreboard

    _log(verbose)
    with _told(as_json, **({} if folder is None else {"folder": str(folder)})):
        from densenet_convert.proving import prove

        proven = prove(folder, device=device, progress=_progress(quiet))
    if as_json:
        click.echo(json.dumps(scoreboard.proven_as_json(proven), indent=2))
    elif not quiet:
        click.echo(scoreboard.proven_as_text(proven))
    if not proven.holds:
        click.echo(
            f"error: {len(proven.escaped)} faults were not caught, or not located, and "
            f"{len(proven.false_alarms)} clean runs failed. The proof has a hole: report it.",
            err=True,
        )
        context.exit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Say which versions, devices, extras and layouts there are, and what is missing.

    \b
    Examples:
      densenet-convert doctor
      densenet-convert doctor --json
    """
    from densenet_convert import summary
    from densenet_convert.doctor import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(summary.examination_as_json(found), indent=2))
    else:
        click.echo(summary.examination_as_text(found))
    context.exit(int(bool(found.problems)))


def _progress(quiet: bool) -> Progress | None:
    seen = sys.stderr is not None and sys.stderr.isatty()
    return _bar if seen and not quiet else None


def _draw_bars(quiet: bool) -> None:
    """The Hub's client draws its own, also where nobody looks at a terminal."""
    if _progress(quiet) is None:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # It would log addresses that sign in whoever has them, and repeat what an error says.
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"huggingface_hub\.")


def _bar(items: Sequence[Any], what: str) -> Iterable[Any]:
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(items, desc=what, leave=False)
    return bar


def run() -> None:
    """The console script: ``main``, and then the end of the process at once.

    Taking torch's objects and libraries apart takes half a second, and frees what the
    system frees anyway.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may hold what a console's encoding does not
            stream.reconfigure(errors="backslashreplace")
    # Temporary folders go when the process is asked to end, as they do on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    code: object = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except OSError as error:
        if sys.stderr is not None:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 (click may be what failed)
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:  # what was printed did not arrive
        code = code or 1
    os._exit(code if isinstance(code, int) else int(code is not None))


def _log(verbose: bool) -> None:
    # Ours alone: what an HTTP client logs holds addresses that sign in whoever has them.
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("densenet_convert").setLevel(logging.INFO if verbose else logging.WARNING)


def _folder(arch: str, output: Path | None, *, several: bool) -> Path:
    name = f"densenet{arch}"
    if output is None:
        return Path(name)
    return output / name if several else output


def _run(
    jobs: Sequence[tuple[Path | str, Callable[[], Receipt]]],
    status: str,
    *,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Runs each job, prints what came of it, and returns the highest exit code."""
    from densenet_convert import summary

    _log(verbose)
    _draw_bars(quiet)
    # A process that ends soon: collecting its cycles costs more than it frees.
    gc.disable()
    documents: list[dict[str, Any]] = []
    code = 0
    for folder, job in jobs:
        try:
            receipt = job()
        except Exception as error:
            document = _explain(error, folder=str(folder))
            code = max(code, document["error"]["exit_code"])
            documents.append(document)
        else:
            documents.append(summary.as_json(receipt, status=status, folder=str(folder)))
            if not as_json and not quiet:
                click.echo(f"{folder}: {status}\n{summary.as_text(receipt)}")
    if as_json:
        many = {"schema_version": summary.SCHEMA_VERSION, "conversions": documents}
        click.echo(json.dumps(documents[0] if len(jobs) == 1 else many, indent=2))
    return code


@contextmanager
def _told(as_json: bool = False, indent: int | None = 2, /, **where: str) -> Iterator[None]:
    """Where the work within fails, says why, as JSON too where that is asked for, and ends the command."""
    try:
        yield
    except Exception as error:
        document = _explain(error, **where)
        if as_json:
            click.echo(json.dumps(document, indent=indent))
        click.get_current_context().exit(document["error"]["exit_code"])


def _explain(error: Exception, **where: str) -> dict[str, Any]:
    """Prints why, with a traceback where nobody expected it, and returns the document of it."""
    from traceback import format_exception

    from densenet_convert import summary
    from densenet_convert.errors import is_expected

    if isinstance(error, BrokenPipeError):  # whoever read what was printed has gone
        raise error
    if not is_expected(error):
        click.echo("".join(format_exception(error)), err=True, nl=False)
    document = summary.error_as_json(error, **where)
    click.echo(f"error: {document['error']['message']}", err=True)
    return document
