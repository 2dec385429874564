"""``push``: publishes a converted folder on the Hugging Face Hub."""

from __future__ import annotations

import logging
from pathlib import Path

from ..claims import ON_VALUES
from ..errors import PublishError
from ..folder.card_fields import license_identifier
from ..folder.open import open_folder
from ..folder.receipt import config_from
from ..folder.signature import SIGSTORE, Signer, choose_signer
from ..folder.wording import network_name
from ..hub.records import Destination, Published
from ..records import AnyPath

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")


def push(
    folder: AnyPath,
    repo_id: str,
    *,
    license: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str = "main",
    commit_message: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    add: bool = False,
    sign: AnyPath | None = None,
) -> Published:
    """Publishes a converted folder on the Hugging Face Hub, fetches it back and compares every byte.

    The repository is made where it is missing. What it has already is not sent again.

    Args:
        folder: one that was converted.
        repo_id: ``"USER/NAME"``, or ``"NAME"`` for a repository of whoever signs in.
        license: the Hub's identifier of the license; required where the weights are not torchvision's own
            and the card names none.
        private: make the repository private; one that is there and public is refused.
        create_pr: open a pull request, or go on with the one of this message that is open.
        revision: branch, made where it is missing; with ``create_pr``, what the pull request is for.
        commit_message: by default the network, the converter and its version.
        token: by default that of the environment, or of the login.
        dry_run: look at the repository, change nothing, and say what would be sent.
        add: propose the conversion to a repository that holds the file that was converted: a pull request
            that adds the weights, their receipt and, where there is none, config.json, and nothing else.
        sign: sign what is sent, by the private key in this file, or by ``"sigstore"``: see ``sign``. The
            folder itself is left as it is.

    Raises:
        FolderError: a file is missing or was changed, or loaders would take another one for it.
        ClaimError: the Hub's list has no such license.
        PublishError: the folder holds random weights or no license is known, the repository holds other
            files or is public, or what came back differs.
        SignatureError: it can't be signed, or was changed since it was.
        HubError: the Hub refuses, fails or does not answer.
    """
    from ..hub.propose import propose_folder
    from ..hub.publish import MAIN, publish_folder

    if add and sign is not None:
        raise PublishError(
            "`add=True` and `sign=...` don't go together: what is added is a part of somebody else's "
            "repository. Leave `sign=...` out."
        )
    if add and (license is not None or private or create_pr or revision != MAIN):
        raise PublishError(
            "What is added is a pull request to the main branch, under the license that is there."
        )
    phases.info("reading %s", folder)
    written = open_folder(Path(folder))
    for remark in written.receipt["remarks"]:
        if remark["kind"] in ON_VALUES:
            log.warning("%s", remark["text"])
    phases.info("asking the Hub about %s", repo_id)
    token = token.strip() or None if token else None
    if license is not None:
        license = license_identifier(license)
    if add:
        to = Destination(repo_id, MAIN, commit_message or "", token=token)
        return propose_folder(written, to, dry_run=dry_run)
    converter = written.receipt["converter"]
    made = f"{network_name(config_from(written.receipt['config']))}, converted by {converter['name']}"
    message = commit_message or f"{made} {converter['version']}"
    to = Destination(repo_id, revision, message, license, private, create_pr, token, _signer(sign))
    return publish_folder(written, to, dry_run=dry_run)


def _signer(sign: AnyPath | None) -> Signer | None:
    if sign is None:
        return None
    by_sigstore = sign == SIGSTORE
    return choose_signer(None if by_sigstore else sign, by_sigstore)
