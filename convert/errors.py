"""Everything that can go wrong, as one tree.

ConvertError                the root; the command line prints its message and exits with its exit_code
|- ReadError                the source can't be read as a checkpoint
|  `- SeveralError          it holds several state dicts, which differ
|- WeightsUnavailableError  the weights asked for can't be had
|- LayoutError              no layout explains the names, or more than one does
|- ArchitectureError        the tensors are not those of the network that was asked for
|- ValueRangeError          a tensor holds values that no trained network has
|- DeviceError              the device asked for is not there
|- FolderError              a folder can't be written, or disagrees with its receipt
|- HubError                 the Hub does not have it, or does not give it
|- PublishError             a folder or a repository is not fit for publishing, or what came back differs
|- LabelError               the names of the classes can't be had, or are not as many
|- ClaimError               what is said of a network (pre-processing, license, metrics) can't be so
|- ImageError               there are no images to compare, or one can't be read
|- ReportError              the report can't be made
|- RepairError              what was compared can't be repaired without a loss
|- OwnNetworkError          the owner's own network can't be had, or does not run
|- SignatureError           a folder is not signed by whom was named, or can't be signed
`- ParityError              the converted network is not the reference's function (exit code 3)

A message says where, what was expected, what was found, and what to do next.
"""

from __future__ import annotations

import copyreg
import re
from collections.abc import Collection


class ConvertError(Exception):
    """The root of all errors that are raised on purpose."""

    exit_code = 1


class ReadError(ConvertError):
    """The source can't be read as a checkpoint."""


class SeveralError(ReadError):
    """The source holds several state dicts, which differ.

    Attributes:
        keys: what leads to each of them, as ``key`` takes it.
    """

    def __init__(self, message: str, keys: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.keys = keys


class WeightsUnavailableError(ConvertError):
    """The weights asked for can't be had; others are never put in their place."""


class LayoutError(ConvertError):
    """No layout explains every name, or more than one does."""


class ArchitectureError(ConvertError):
    """A tensor is missing, unexpected or of another shape than the network's."""


class ValueRangeError(ConvertError):
    """A tensor holds values, or has a dtype, that no trained network has."""


class DeviceError(ConvertError):
    """The device asked for is not there."""


class FolderError(ConvertError):
    """A folder can't be written, or its files and its receipt disagree."""


class HubError(ConvertError):
    """The Hugging Face Hub does not have what was named, or does not give it."""


class PublishError(ConvertError):
    """A folder or a repository is not fit for publishing, or what came back from it differs."""


class LabelError(ConvertError):
    """The names of the classes can't be had, or are not as many as these."""


class ClaimError(ConvertError):
    """A statement about a network that can't be proven does not have the form that it must have."""


class ImageError(ConvertError):
    """There are no images to compare, or one can't be read."""


class ReportError(ConvertError):
    """The report can't be made."""


class OwnNetworkError(ConvertError):
    """The owner's own network can't be had, does not take the tensors, or does not run."""


class RepairError(ConvertError):
    """Two networks were compared, and one can't be made of the other without a loss."""


class SignatureError(ConvertError):
    """A folder is not signed, or not by whom was named, was changed since, or can't be signed."""


class ParityError(ConvertError):
    """The converted network and the reference differ.

    Attributes:
        where: canonical name of the first tensor or layer that differs, or ``"the output"``.
        largest: largest absolute difference there.
    """

    exit_code = 3

    advice = "The converter or this torch is at fault, not the checkpoint: report it with this message."

    def __init__(self, message: str, *, where: str, largest: float, advice: str = advice) -> None:
        super().__init__(f"{message} {advice}")
        self.where = where
        self.largest = largest

    def __reduce__(self) -> tuple[object, ...]:
        """Another process gets the whole message, to which nothing is to be added again."""
        return copyreg.__newobj__, (type(self), str(self)), self.__dict__  # type: ignore[attr-defined]


def is_expected(error: BaseException) -> bool:
    """Whether its own words say what is wrong: it was raised on purpose, or the machine lacks something."""
    return isinstance(error, ConvertError | OSError) or is_out_of_memory(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the machine's or a GPU's; torch has a class of its own for the latter alone."""
    words = r"out of memory|(not enough|allocate) memory|ALLOC_FAILED|bad_alloc|start new thread"
    by_message = isinstance(error, RuntimeError) and re.search(words, str(error)) is not None
    return by_message or isinstance(error, MemoryError)


def explanation(error: BaseException) -> str:
    """The message of an error, and what to do next where nothing in this package raised it.

    That of two networks that differ begins with the layer, by which its reader looks for the cause.
    """
    if isinstance(error, ParityError):
        return f"{error.where}: {error}"
    if is_out_of_memory(error):
        return "There is not enough memory. Free some, or take another `device=...`, and run again."
    if is_expected(error):
        return str(error)
    reason = quoted(" ".join(str(error).split())) or "no reason was given"
    return (
        f"{type(error).__name__}: {reason}. `densenet-convert doctor` says whether the installation is "
        "sound; if it is, report this."
    )


def first_few(names: Collection[str], limit: int = 3) -> str:
    """Returns the first names, each ``quoted``, and how many more there are: ``"a, b, c and 4 more"``."""
    shown = ", ".join(quoted(name) for name in list(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


def quoted(text: str, longest: int = 200) -> str:
    """Returns a stranger's text, safe for a terminal: escaped if it can't be printed, cut if it is long."""
    text = text if len(text) <= longest else f"{text[:longest]}..."
    return text if text.isprintable() else ascii(text)[1:-1]
