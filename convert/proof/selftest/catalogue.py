"""The catalogue of faults of one conversion: of the table, of values and of the network."""

from __future__ import annotations

from random import Random

from ...records import Loaded
from .faults import Draw, Fault, accounting, exchanges, transforms, values
from .network_faults import network_faults


def all_faults(clean: Loaded, sites: int, seed: int = 0) -> list[Fault]:
    """Returns the catalogue for one network.

    Args:
        clean: a sound conversion, into which the faults go.
        sites: of a kind of fault that fits at many places, so many are drawn.
        seed: what places and values are drawn from.
    """
    draw = Draw(Random(seed), sites)
    # One after the other: they draw from the same numbers.
    return [
        *exchanges(clean, draw),
        *accounting(clean, draw),
        *transforms(clean, draw),
        *values(clean, draw),
        *network_faults(clean, draw),
    ]
