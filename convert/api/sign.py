"""``sign``: signs a converted folder, and says what was verified in it."""

from __future__ import annotations

import logging
from pathlib import Path

from ..folder.files import CARD, card_was_edited
from ..folder.open import open_folder
from ..folder.others import say_uncovered
from ..folder.signature import choose_signer
from ..folder.signed import Signed, sign_folder
from ..records import AnyPath

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")


def sign(folder: AnyPath, *, private_key: AnyPath | None = None, sigstore: bool = False) -> Signed:
    """Signs a converted folder, by model-signing, so that others can check who made it.

    ``verification.intoto.json`` is written, which says what was verified, and ``model.sig``, which signs it
    and every file of the conversion. The same again keeps a signature that holds.

    Args:
        folder: one that was converted, here.
        private_key: file of an elliptic-curve key in PEM, which is not encrypted.
        sigstore: sign by the identity of a workflow, or of whoever signs in, and without a key; it is
            written to a public log for good.

    Raises:
        FolderError: the files and the receipt disagree, or the folder can't be written.
        SignatureError: the key can't be used, or the extra ``sign`` is not installed.

    Examples:
        >>> signed = dc.sign("densenet121", private_key="key.pem")
        >>> dc.verify("densenet121", public_key="key.pub").signed_by == signed.signed_by
        True
    """
    signer = choose_signer(private_key, sigstore)
    phases.info("reading %s", folder)
    written = open_folder(Path(folder))
    if card_was_edited(written.folder):
        log.warning("%s was edited: nothing in it is proven, and it is signed.", written.folder / CARD)
    if others := say_uncovered([path.name for path in written.folder.iterdir()], written.receipt):
        log.warning("%s: %s It is not signed.", folder, others)
    phases.info("signing %s", folder)
    return sign_folder(written, signer)
