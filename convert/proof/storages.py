"""Keeps the names of storages' contents: a name belongs to a storage's content and not to a tensor object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .naming import DIGEST, Name, geometry_of, is_whole, name_of_bytes

# The name of the input among the leaves.
INPUT = "the input"


def storage_of(tensor: Tensor) -> int:
    """Returns the address of a storage, which another one may get once it is gone: see ``Contents``."""
    address: int = tensor.untyped_storage()._cdata
    return address


class Contents:
    """Names of what storages hold, by their addresses, which no other storage gets while it is there."""

    def __init__(self) -> None:
        self._names: dict[int, Name] = {}
        self._kept: list[StorageWeakRef] = []

    def __contains__(self, storage: int) -> bool:
        return storage in self._names

    def __getitem__(self, storage: int) -> Name:
        return self._names[storage]

    def values(self) -> Iterable[Name]:
        """All names."""
        return self._names.values()

    def name(self, tensor: Tensor, name: Name) -> None:
        """Names what a tensor's storage holds from now on."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._names:
            self._kept.append(StorageWeakRef(storage))  # type: ignore[no-untyped-call]
        self._names[storage._cdata] = name

    def copy(self) -> Contents:
        """Another one of the same names."""
        other = Contents()
        other._names, other._kept = dict(self._names), list(self._kept)
        return other


@dataclass
class Storages:
    """Names what the storages of one network hold, while it runs.

    Attributes:
        unknown: the first reason for which names tell nothing; None where there is none.
        labels: what the leaves are called, by their storages.
        leaves: names of what is loaded, as it was before anything ran; recorders of one proof share them.
        held: names of what is held now.
        constants: names of what depends on leaves alone.
    """

    unknown: str | None = None
    labels: dict[int, str] = field(default_factory=dict)
    leaves: Contents = field(default_factory=Contents)
    held: Contents = field(default_factory=Contents)
    constants: set[Name] = field(default_factory=set)

    def add_leaves(self, tensors: Mapping[str, Tensor]) -> None:
        """Names tensors by their bytes: weights, buffers, the input; each comes with what it is called."""
        for label, tensor in tensors.items():
            storage = storage_of(tensor)
            if not is_whole(tensor):
                self.note(f"{label} is a part of what its storage holds")
            if storage not in self.leaves:
                self.leaves.name(tensor, name_of_bytes(tensor, INPUT if label == INPUT else ""))
            self.held.name(tensor, self.leaves[storage])
            if label != INPUT:
                self.constants.add(self.leaves[storage])
            self.labels.setdefault(storage, label)

    def name_of(self, tensor: Tensor) -> Name:
        """Returns the name of what a tensor holds now."""
        storage = storage_of(tensor)
        if storage not in self.held:
            self.note(f"a tensor of shape {list(tensor.shape)} comes from no step")
            return b"?"
        return self.held[storage] + geometry_of(tensor)

    def has_held(self, name: Name) -> bool:
        """Whether a storage holds, or held to its end, what this name stands for."""
        return name[:DIGEST] in self.held.values()

    def holds_leaf(self, tensor: Tensor) -> bool:
        """Whether a tensor is a leaf, as it was before anything ran."""
        storage = storage_of(tensor)
        return storage in self.labels and self.held[storage] == self.leaves[storage]

    def note(self, why: str) -> None:
        """Keeps the first reason for which names tell nothing."""
        self.unknown = self.unknown or why

    def leaves_among(self, read: Sequence[Tensor]) -> tuple[str, ...]:
        """Returns what the leaves among these tensors are called, in order."""
        labels = [self.labels.get(storage_of(one)) for one in read]
        return tuple(label for label in labels if label is not None)

    def name_constants(self, results: Iterable[Tensor]) -> None:
        """Names what depends on leaves alone by its bytes, as if it were a leaf."""
        for one in results:
            name = name_of_bytes(one)
            self.held.name(one, name)
            self.constants.add(name)
