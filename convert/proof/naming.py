"""Names of tensors and of operations: digests of bytes, of operators, and of what they take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..tensors import tensor_bytes

Name = bytes
# Bytes of a digest.
DIGEST = 16
# Kinds of arguments that are no tensors: their words are their value.
PLAIN = (
    *(bool, int, float, complex, str, type(None)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)


class UnknownArgumentError(Exception):
    """An argument has no words that are its value."""


def digest_of(operator: str, reads: Iterable[Name], words: Iterable[str]) -> Name:
    """Each part comes with its length, so that no two lists of parts are one text."""
    parts = [operation_bytes(operator, words)]
    for read in reads:
        parts += (length_bytes(read), read)
    return digest_of_bytes(b"".join(parts))


def operation_bytes(operator: str, words: Iterable[str]) -> bytes:
    """Returns the bytes of an operation that are digested beside the names that it reads."""
    text = "\0".join([operator, *(f"{len(word)} {word}" for word in words)])
    return len(text).to_bytes(4, "little") + text.encode()


def length_bytes(read: Name) -> bytes:
    """Returns the bytes that are digested in front of a name that is read."""
    return len(read).to_bytes(4, "little")


def digest_of_bytes(parts: bytes) -> Name:
    return hashlib.blake2b(parts, digest_size=DIGEST).digest()


class Made(NamedTuple):
    """How a name was made of others: what ``digest_of`` took, and whether ``reads`` were put in order."""

    name: Name
    operator: str
    reads: tuple[Name, ...]
    words: tuple[str, ...]
    turns: bool


@dataclass
class Names:
    """Makes names of others.

    Attributes:
        made: how each was made, in order.
        parts: of whole concatenations their arguments, in words, and what they were made of, by their names.
    """

    made: list[Made] = field(default_factory=list)
    parts: dict[Name, tuple[str, list[Name]]] = field(default_factory=dict)

    def make(self, operator: str, reads: list[Name], words: list[str], *, turns: bool = False) -> Name:
        """Returns the name of an operation; ``turns``: the order of what it reads changes nothing."""
        name = digest_of(operator, sorted(reads) if turns else reads, words)
        self.made.append(Made(name, operator, tuple(reads), tuple(words), turns))
        return name

    def parts_of(self, read: Name, words: list[str]) -> list[Name]:
        """Returns the parts of a whole concatenation along the same dimension; torch may copy twice."""
        arguments, parts = self.parts.get(read, ("", []))
        return parts if parts and arguments == " ".join(words) else [read]


def name_of_bytes(tensor: Tensor, kind: str = "") -> Name:
    """Returns the name of a tensor's content; an input and a weight of the same bytes differ in ``kind``."""
    # Processors compute it, 2.6 times as fast as blake2b, which is the faster one for few bytes.
    digest = hashlib.sha256(f"{kind} {tensor.dtype} {list(tensor.shape)} ".encode())
    digest.update(tensor_bytes(tensor.cpu()))
    return digest.digest()[:DIGEST]


def geometry_of(tensor: Tensor) -> Name:
    return _geometry_words(
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
        (tensor.is_conj(), tensor.is_neg()),
    )


@lru_cache(maxsize=4096)
def _geometry_words(*parts: Any) -> Name:
    return repr(parts).encode()


def is_whole(tensor: Tensor) -> bool:
    """Whether a tensor is all of its storage, in order."""
    return tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes


def walk_arguments(value: Any, tensors: list[Tensor], words: list[str]) -> None:
    """Collects tensors, and everything else in words, in order.

    Raises:
        UnknownArgumentError: an argument has no words that are its value.
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        words.append("*")
    elif isinstance(value, list | tuple):
        words.append(f"({len(value)}")
        for one in value:
            walk_arguments(one, tensors, words)
    elif isinstance(value, dict):
        for key, one in value.items():
            words.append(key)
            walk_arguments(one, tensors, words)
    elif isinstance(value, PLAIN):
        words.append(repr(value))
    else:  # its words may be those of this run alone, such as an address
        raise UnknownArgumentError(f"an operator takes a {type(value).__name__}")


def mean_words(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    """The dimensions of a mean in order, without keepdim: neither changes a bit of it."""
    tensor, dimensions = args[0], args[1] if len(args) > 1 else kwargs.get("dim")
    if dimensions is None or not tensor.ndim:
        places = list(range(tensor.ndim))
    else:
        places = sorted(one % tensor.ndim for one in dimensions)
    return [*map(str, places), str(kwargs.get("dtype"))]


def state_of_generators() -> str:
    """Returns the state from which torch draws next, on the CPU and on the current GPU."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states.append(torch.cuda.get_rng_state())
    return " ".join(name_of_bytes(state).hex() for state in states)
