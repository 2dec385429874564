"""``python -m densenet_convert`` is the command ``densenet-convert``."""

from __future__ import annotations

from .cli import run

if __name__ == "__main__":
    run()
