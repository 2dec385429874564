"""Checkpoint files of every kind, each around a small but complete network: sound ones, and ones to refuse.

The bytes come from torch, pickle, numpy and safetensors, or from the opcodes and headers
spelled out in ``opcodes``; nothing of the package writes them.  A case is a small function
in a registry, so that a test can be named without its file; importing this fills the
registries.  Making a file runs nothing of it.
"""

from __future__ import annotations

from pathlib import Path

from checkpoints import StateDict

from corpus import refused_archives, refused_pickles, sound_files
from corpus.registry import EITHER, REFUSED, SOUND, Refused, Sound, raw

__all__ = ["EITHER", "REFUSED", "SOUND", "Refused", "Sound", "StateDict", "raw", "refused", "sound"]
# Imported for the cases that they register.
del refused_archives, refused_pickles, sound_files


def sound(folder: Path) -> dict[str, Sound]:
    """Writes every sound file."""
    return {name: make(folder) for name, make in SOUND.items()}


def refused(folder: Path) -> dict[str, Refused]:
    """Writes every file to be refused; what would run code would make ``folder / "ran"``."""
    return {name: make(folder) for name, make in REFUSED.items()}
