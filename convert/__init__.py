"""densenet-convert: turns a DenseNet checkpoint into a clean one, and proves that nothing was lost.

    read_checkpoint -> identify_layout -> heed -> rename_tensors -> load_model
        -> load_reference, verify_model -> write_folder
        -> publish_folder

``pipeline`` composes these steps; ``records`` holds what passes between them.
Importing this package loads no torch: the public names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import ConvertError, ParityError
    from .exporting import export
    from .inspection import inspect
    from .many import convert_many
    from .pipeline import convert, convert_torchvision, push, verify
    from .records import Inspection, Outcome, Published, Verified, Written

_HOMES = {
    "ConvertError": "errors",
    "Inspection": "records",
    "Outcome": "records",
    "ParityError": "errors",
    "Published": "records",
    "Verified": "records",
    "Written": "records",
    "convert": "pipeline",
    "convert_many": "many",
    "convert_torchvision": "pipeline",
    "export": "exporting",
    "inspect": "inspection",
    "push": "pipeline",
    "verify": "pipeline",
}

__all__ = [
    "ConvertError",
    "Inspection",
    "Outcome",
    "ParityError",
    "Published",
    "Verified",
    "Written",
    "convert",
    "convert_many",
    "convert_torchvision",
    "export",
    "inspect",
    "push",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
