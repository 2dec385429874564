"""How a result is shown: in one line where Python prints it, and as a table in a notebook."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from html import escape

from .errors import quoted

# Letters of a value; a whole line stays within a few hundred.
LONGEST_VALUE = 80


class Shown:
    """A result that a public function returns; its ``str`` is what the command prints."""

    @abstractmethod
    def _shown(self) -> Mapping[str, object]:
        """Returns what a person wants to know of it, by what it is called; None is left out."""

    def __repr__(self) -> str:
        said = (f"{name}={quoted(text, LONGEST_VALUE)!r}" for name, text in self._texts())
        return f"{type(self).__name__}({', '.join(said)})"

    def _repr_html_(self) -> str:
        """The same as a table; it has no colours of its own, so that it is read on dark and on light."""
        lines = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(quoted(text, 400))}</td></tr>"
            for name, text in self._texts()
        )
        return f"<table><caption>{type(self).__name__}</caption>{lines}</table>"

    def _texts(self) -> list[tuple[str, str]]:
        return [(name, str(value)) for name, value in self._shown().items() if value not in (None, "")]
