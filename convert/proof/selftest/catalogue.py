"""The catalogue of faults of one conversion: of the table, of values and of the network."""

from __future__ import annotations

from random import Random

from ...records import Loaded
from .faults import Fault, accounting, exchanges, transforms, values
from .network_faults import network_faults


def all_faults(clean: Loaded, pairs: int | None, seed: int = 0) -> list[Fault]:
    """Returns the catalogue for one network.

    Args:
        clean: a sound conversion, into which the faults go.
        pairs: number of pairs of one shape to exchange beside those inside a layer; None for all of them.
        seed: what places and values are drawn from.
    """
    random = Random(seed)
    # One after the other: they draw from the same numbers.
    return [
        *exchanges(clean, pairs, random),
        *accounting(clean, random),
        *transforms(clean, random),
        *values(clean, random),
        *network_faults(clean, random),
    ]
