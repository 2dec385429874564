"""Turns results into the text that people read; numbers are rounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..api.many import Outcome


def outcomes_as_text(outcomes: Sequence[Outcome]) -> str:
    """``"3 sources: 1 converted, 1 skipped, 1 failed"``."""
    counts = Counter(outcome.status for outcome in outcomes)
    counted = ", ".join(f"{counts[status]:,} {status}" for status in ("converted", "skipped", "failed"))
    return f"{len(outcomes):,} sources: {counted}"
