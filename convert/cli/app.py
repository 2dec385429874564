"""The command itself: the group of all commands, and what the console script runs."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper

import click
from click.shell_completion import CompletionItem

from . import check, comparison, complete, convert, share, signing


class Commands(click.Group):
    """The commands; a file, a folder or an address in the place of one is for the command ``file``."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of this name; ``convert`` is another name of ``file``."""
        return super().get_command(ctx, "file" if cmd_name == "convert" else cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns a command, and what is left for it; a command's name goes before a file of that name.

        Raises:
            UsageError: the first word is neither.
        """
        first = args[0]
        if self.get_command(ctx, first) or first.startswith("-"):
            return super().resolve_command(ctx, args)
        from ..hub.fetch import SCHEME

        if first.startswith(SCHEME) or os.path.lexists(first):
            return super().resolve_command(ctx, ["file", *args])
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            message = f"{error.format_message()} There is no file or folder of this name, either."
            raise click.UsageError(message, ctx) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Returns the commands, and the files that begin alike."""
        return complete.with_files(super().shell_complete(ctx, incomplete), incomplete)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="FILE|COMMAND [ARGS]...",
)
@click.version_option(None, "-V", "--version", package_name="densenet-convert", prog_name="densenet-convert")
def main() -> None:
    """Turns a DenseNet checkpoint into a clean one, and proves that nothing was lost.

    \b
    Examples:
      densenet-convert my-densenet.pth
      densenet-convert torchvision 169
      densenet-convert inspect my-densenet.pth

    The name of a file is enough: it is converted as by the command file.

    Exit codes: 0 done, 1 error, 2 usage, 3 parity failed, 4 different (compare).
    """


for command in (
    convert.torchvision,
    convert.file,
    share.push,
    signing.sign,
    share.describe,
    share.export,
    check.verify,
    check.inspect,
    comparison.compare,
    check.prove,
    check.doctor,
):
    main.add_command(command)


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
