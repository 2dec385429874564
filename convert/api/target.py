"""The folder that a conversion is written to: what it is called, and what can't be done there."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import FolderError, LayoutError
from ..folder.card_fields import stated_card
from ..folder.receipt import FILE_NAME
from ..folder.write import check_target
from ..layouts.attempt import architecture_name
from ..proof.devices import choose_device
from ..proof.prove import ProofExtras
from ..records import AnyPath, InMemory, Options
from .plan import output_name


def folder_for(source: AnyPath | InMemory, output: AnyPath | None) -> Path:
    """Returns the folder to write: ``output``, or one in the working folder that is named after a file.

    Raises:
        FolderError: the source is in memory, and has no name.
    """
    if output is not None:
        return Path(output)
    if isinstance(source, str | os.PathLike):
        return Path(output_name(os.fspath(source)))
    raise FolderError("What is in memory has no name that its folder could have: state `output=...`.")


def is_there(folder: Path, options: Options) -> bool:
    """Whether the folder has a receipt, so that it is kept or refused; force alone replaces it."""
    return not options.force and os.path.lexists(folder / FILE_NAME)


def refuse_early(folder: Path, options: Options, extras: ProofExtras) -> None:
    """Refuses at once what could not be done in the end, as far as that is known without torch."""
    if options.only is not None and options.prefix is not None:
        raise LayoutError("`only=...` names the prefix already: leave `prefix=...` out.")
    if not is_there(folder, options):
        check_target(folder, force=options.force)
    extras.check()
    stated_card(options)
    if options.arch is not None:
        architecture_name(options.arch)
    if options.device not in ("auto", "cpu"):  # another one may be missing
        choose_device(options.device)
