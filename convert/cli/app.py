"""The command itself: the group of all commands, and what the console script runs."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper

import click

from . import check, comparison, convert, share


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="densenet-convert", prog_name="densenet-convert")
def main() -> None:
    """Turns a DenseNet checkpoint into a clean one, and proves that nothing was lost.

    \b
    Examples:
      densenet-convert torchvision --arch 169
      densenet-convert file my-densenet.pth
      densenet-convert inspect my-densenet.pth

    Exit codes: 0 done, 1 error, 2 usage, 3 parity failed, 4 different (compare).
    """


for command in (
    convert.torchvision,
    convert.file,
    share.push,
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
