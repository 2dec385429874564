"""The axis of errors.

An error may be 0, infinite or no number, none of which a logarithmic axis has.  So logarithms
are drawn on a plain axis, with a row for 0 below and a row for what is not finite above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10

MOST_TICKS = 8
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class ErrorAxis:
    """Heights on the axis: powers of ten, and the rows around them.

    Attributes:
        low: the lowest power.
        high: the highest power.
        zero: whether there is a row for 0.
        endless: whether there is a row for what is not finite.
    """

    low: int
    high: int
    zero: bool
    endless: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> ErrorAxis:
        """Returns the axis that has a place for each of some errors."""
        powers = [log10(value) for value in values if 0 < value < inf] or [0.0]
        zero, endless = any(value == 0 for value in values), not all(map(isfinite, values))
        return cls(floor(min(powers)), ceil(max(powers)), zero, endless)

    @property
    def bottom(self) -> float:
        """The place of 0, or of the lowest power if there is no 0."""
        return self.low - self.zero * self._apart

    @property
    def top(self) -> float:
        """The place of what is not finite, or of the highest power if all is finite."""
        return self.high + self.endless * self._apart

    @property
    def _apart(self) -> float:
        return max(1.0, (self.high - self.low) / 10)

    def height(self, value: float) -> float:
        """Returns where an error is drawn."""
        if not isfinite(value):
            return self.top
        return log10(value) if value > 0 else self.bottom

    def ticks(self) -> list[tuple[float, str]]:
        """Returns the heights that bear a label, and their labels."""
        powers = range(self.low, self.high + 1, ceil((self.high - self.low + 1) / MOST_TICKS))
        ticks = [(float(power), f"10{str(power).translate(RAISED)}") for power in powers]
        if self.zero:
            ticks.append((self.bottom, "0"))
        if self.endless:
            ticks.append((self.top, "not finite"))
        return ticks
