"""The command that signs a converted folder, and the options by which verify and push take a signature."""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import complete
from .options import ANY_PATH, Command, decorated, working_options
from .reporting import draw_bars, reporting_errors, set_up_logging


def expected_options(command: Command) -> Command:
    """The options that say by whom a folder must be signed."""
    options = [
        click.option(
            "--public-key",
            type=ANY_PATH,
            metavar="KEY",
            shell_complete=complete.files,
            help="Require that this key signed the folder; KEY is a file.",
        ),
        click.option("--identity", metavar="NAME", help="Require that NAME signed it by Sigstore."),
        click.option("--identity-provider", metavar="ADDRESS", help="Who vouches for that identity."),
    ]
    return decorated(command, options)


@click.command()
@click.argument("folder", shell_complete=complete.folders)
@click.option(
    "--private-key",
    type=ANY_PATH,
    metavar="KEY",
    shell_complete=complete.files,
    help="File of an elliptic-curve key, in PEM.",
)
@click.option(
    "--sigstore",
    is_flag=True,
    help="Sign without a key, by your identity or a workflow's, which a public log then shows for good.",
)
@working_options
def sign(
    folder: str, private_key: Path | None, sigstore: bool, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Sign a converted FOLDER, so that others can check who made it; needs the extra sign.

    It writes verification.intoto.json, which says what was verified, and model.sig, which signs that and
    every file of the conversion.  model_signing verify takes it as well.

    \b
    A pair of keys:
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl pkey -in key.pem -pubout -out key.pub

    \b
    Examples:
      densenet-convert sign chest --private-key key.pem
      densenet-convert verify chest --public-key key.pub
    """
    from . import documents

    set_up_logging(verbose)
    draw_bars(as_json or quiet)
    with reporting_errors(as_json, folder=folder):
        from ..api.sign import sign

        signed = sign(folder, private_key=private_key, sigstore=sigstore)
    if as_json:
        click.echo(json.dumps(documents.signed_as_json(signed, folder=folder), indent=2))
    elif not quiet:
        click.echo(signed)
