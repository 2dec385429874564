"""The records of a proven network and of the folder that was written of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..claims import Claims
from ..records import Loaded
from ..results import Proof
from ..shown import Shown
from .receipt import config_from, describe_claims, describe_conversion, describe_proof
from .text import receipt_as_text, verdict
from .wording import network_name

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Verified(Shown):
    """A network that was shown to be the reference's function.  Only this can be written.

    Attributes:
        loaded: the network.
        proof: how it was shown.
        golden: the reference's outputs, as parity.safetensors holds them; None where they were not asked for.
        claims: what is said of it beside the proof.
        signed_by: who signed the folder, where that was asked and checked.
    """

    loaded: Loaded
    proof: Proof
    golden: Mapping[str, Tensor] | None = None
    claims: Claims = field(default_factory=Claims)
    signed_by: str | None = None

    def __str__(self) -> str:
        said = {
            **describe_conversion(self.loaded.renamed, self.loaded.config),
            **describe_claims(self.claims),
            "verification": {**describe_proof(self.proof), "files": {}},
            "files": {},
            "signed_by": self.signed_by,
        }
        return receipt_as_text(said)

    def _shown(self) -> dict[str, object]:
        """Its network, and what is proven."""
        config = self.loaded.config
        return {
            "network": network_name(config),
            "classes": config.num_classes,
            "verified": verdict(describe_proof(self.proof)),
        }


@dataclass(frozen=True, repr=False)
class Written(Shown):
    """A folder whose files agree with its receipt.  Only this can be published.

    Attributes:
        folder: where it is.
        receipt: the content of its conversion.json.
        skipped: whether a conversion found it there already, whole and as asked, and left it as it is.
    """

    folder: Path
    receipt: Mapping[str, Any]
    skipped: bool = False

    def __str__(self) -> str:
        return f"{self.folder}\n{receipt_as_text(self.receipt)}"

    def _shown(self) -> dict[str, object]:
        """Returns where it is, its network, and what is proven."""
        config = config_from(self.receipt["config"])
        return {
            "folder": self.folder,
            "network": network_name(config),
            "classes": config.num_classes,
            "verified": verdict(self.receipt["verification"]),
        }
