"""densenet-convert: turns a DenseNet checkpoint into a clean one, and proves that nothing was lost.

    source/    read_checkpoint         bytes to named tensors, by formats/
    layouts/   identify_network        which layout and network they are, by names, shapes, declared layers
               rename_tensors          to canonical names
    proof/     prove_parity            both networks are one function, against references/
    folder/    write_folder            written, read back and compared
    hub/       publish_folder          pushed, fetched back and compared

``api`` has the public functions, which call these steps in order; ``records`` holds
what passes between them.  Importing this package loads no torch: the public names are imported
when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import errors
    from .api.compare import compare
    from .api.compared import Comparison
    from .api.convert import convert, convert_torchvision
    from .api.describe import describe
    from .api.export import export
    from .api.exported import Exported
    from .api.inspected import Inspection
    from .api.inspection import inspect
    from .api.many import Outcome, convert_many
    from .api.push import push
    from .api.sign import sign
    from .api.verify import verify
    from .api.verify_exported import verify_exported
    from .densenet import DenseNet
    from .errors import ConvertError, ParityError
    from .folder.records import Verified, Written
    from .folder.signed import Signed
    from .hub.records import Published

    __version__: str

_HOMES = {
    "Comparison": "api.compared",
    "ConvertError": "errors",
    "DenseNet": "densenet",
    "Exported": "api.exported",
    "Inspection": "api.inspected",
    "Outcome": "api.many",
    "ParityError": "errors",
    "Published": "hub.records",
    "Signed": "folder.signed",
    "Verified": "folder.records",
    "Written": "folder.records",
    "compare": "api.compare",
    "convert": "api.convert",
    "convert_many": "api.many",
    "convert_torchvision": "api.convert",
    "describe": "api.describe",
    "export": "api.export",
    "inspect": "api.inspection",
    "push": "api.push",
    "sign": "api.sign",
    "verify": "api.verify",
    "verify_exported": "api.verify_exported",
}

__all__ = [
    "Comparison",
    "ConvertError",
    "DenseNet",
    "Exported",
    "Inspection",
    "Outcome",
    "ParityError",
    "Published",
    "Signed",
    "Verified",
    "Written",
    "__version__",
    "compare",
    "convert",
    "convert_many",
    "convert_torchvision",
    "describe",
    "errors",
    "export",
    "inspect",
    "push",
    "sign",
    "verify",
    "verify_exported",
]


if not TYPE_CHECKING:  # a checker would take any name for one that is there

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("densenet-convert")
        if name == "errors":
            return import_module(".errors", __name__)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
