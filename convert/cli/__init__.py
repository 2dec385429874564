"""The command line: it parses options, calls ``api`` and prints the results.  Only ``__main__`` imports it.

app -> convert, check, share -> batch, options, complete, reporting -> text, documents
"""

from __future__ import annotations

from .app import main, run

__all__ = ["main", "run"]
