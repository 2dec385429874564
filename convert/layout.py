"""A layout is a table that gives each tensor of a source its name here; a reading applies it to one source.

A source may be wrapped: its names may stand under a prefix, its head may have a name of its own, and
it may be a part of something larger.  That is a ``Reading``, and it goes with any table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

HEAD = "classifier"
# torchvision's name for all but the head.
FEATURES = "features."
# A layer, or one in a Sequential.
BESIDE_FEATURES = re.compile(r"[^./]+(?:[./]\d+)*(?:[./][^./]+)?", re.ASCII)
# The groups in a template, and a backslash, which is none.
GROUP = re.compile(r"\\\\|\\g<(\w+)>|\\([1-9]\d?)", re.ASCII)
# Names of a module within another that runs it as it is: torch.compile, activation checkpointing and
# FSDP of PyTorch, fairscale, Opacus and DataParallel.
WRAPPERS = frozenset(
    ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_fpw_module", "_module", "module")
)


@dataclass(frozen=True)
class Rule:
    """Renames every source name that ``pattern`` matches as a whole.

    Attributes:
        pattern: regular expression, matched with ``fullmatch`` over ASCII.
        target: the canonical name, a template as ``re.Match.expand`` takes it.
        axes: the source's axes in canonical order, as ``torch.Tensor.permute`` takes them;
            None where they are in it.
        numbers: for a group of the pattern, what is added to the number in it, or a table of what stands for
            the text in it: a name whose text the table lacks is not matched.
    """

    pattern: str
    target: str = r"\g<0>"
    axes: tuple[int, ...] | None = None
    numbers: Mapping[int, int | Mapping[str, str]] = field(default_factory=dict, hash=False)

    def target_of(self, match: re.Match[str]) -> str | None:
        """Returns the canonical name of what the pattern matched; None where a table has no entry for it."""
        if not self.numbers:
            return match.expand(self.target)
        groups = [match[0], *match.groups()]
        for number, change in self.numbers.items():
            text = match[number]
            groups[number] = str(int(text) + change) if isinstance(change, int) else change.get(text)
            if groups[number] is None:
                return None

        def group(found: re.Match[str]) -> str:
            number = found[1] or found[2]
            if number is None:
                return found[0]
            text = groups[int(number)] if number.isdigit() else match[number]
            return (text or "").replace("\\", r"\\")

        return match.expand(GROUP.sub(group, self.target))


@dataclass(frozen=True)
class Drop:
    """Leaves out every source name that ``pattern`` matches, for a stated reason."""

    pattern: str
    because: str


@dataclass(frozen=True)
class Layout:
    """A table of renames, and where it comes from.

    Attributes:
        name: what receipts and messages call it.
        origin: who wrote files of this layout.
        rules: exactly one of these, or one drop, must match each source name.
        reference: ``"module:function"`` that takes a DenseNetConfig and returns the
            source's own network on the meta device, its parameters under the
            source's names.  A string, so that reading the table imports no library.
        drops: what is left out, each with its reason; a layout fits only where each matches something.
        library: the same of the source library's own network, which is returned with its description;
            it raises ImportError where the library is not installed, and ``reference`` is taken.
        loader: ``"module:function"`` that takes the network and the source's tensors, and puts them in,
            strictly, where ``load_state_dict`` can't, for their axes lie otherwise.
        outputs: ``"module:function"`` that takes the source's tensors, a DenseNetConfig and images, and
            returns what the library's own network computes of them, with its description, where that
            network's layers are not torch's; it raises ImportError as ``library`` does.
        names: ``"module:function"`` that takes a DenseNetConfig and returns the source's names, where
            ``reference`` does not bear them.
        export_format: the format that ``export`` writes, ``"torch-legacy"``, ``"keras-h5"`` or ``"pickle"``;
            empty where it writes none.
        has_head: whether its library's network has one, so that ``export`` writes it.
        has_counters: whether its files hold ``num_batches_tracked``, so that its library takes them.
        first_conv: what the source calls the first convolution's weight.
        other_stems: what else it has called it, or its sign.
        sign: a name by which files are found, where other networks call their first convolution so, too.
        features: what stands before the names of all but the head, where ``first_conv`` begins with it.
        head: what it calls the last layer.
        relu: what runs the ReLU behind the last norm: the ``"network"``, for a head beside its features; the
            ``"features"``, wherever the head is; or ``"unknown"``, where no library has such a network.
        overrides: fields of DenseNetConfig that this layout implies, and shapes don't tell.
        problem_type: how the logits are to be read, where the layout implies it; see ``Labels``.
        preprocessing: fields of config.json's ``pretrained_cfg`` that the layout implies, where images
            are not prepared as torchvision does.
        dimensions: of the inputs of its networks, beside the channels: 2 of images.
    """

    name: str
    origin: str
    rules: tuple[Rule, ...]
    reference: str
    drops: tuple[Drop, ...] = ()
    library: str | None = None
    loader: str | None = None
    outputs: str | None = None
    names: str | None = None
    export_format: str = "torch-legacy"
    has_head: bool = True
    has_counters: bool = True
    first_conv: str = "features.conv0.weight"
    other_stems: tuple[str, ...] = ()
    sign: str = ""
    features: str = FEATURES
    head: str = HEAD
    relu: Literal["network", "features", "unknown"] = "network"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    problem_type: str | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    dimensions: tuple[int, ...] = (2,)

    @property
    def separator(self) -> str:
        """The character between a layer's name and its tensor's."""
        return "/" if "/" in self.first_conv else "."


@dataclass(frozen=True)
class Explanation:
    """The result of a reading for a set of names.

    Attributes:
        targets: canonical name of each source name that is kept.
        dropped: reason for each source name that is left out.
        problems: one sentence for each name that it can't account for.
        axes: for each source name whose axes lie otherwise, these in canonical order.
    """

    targets: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """How one source's names are read by a layout.

    Attributes:
        layout: the table.
        prefix: what stands before each of the table's names.
        inside: the start of the table's names that the source's lack, such as ``"features."``.
        head: whole source name of the last layer, where it is not ``prefix`` and the layout's ``head``; empty
            where the features are taken without one.
        only: whether what is not the network's is left out, because the user says so.
        unwrapped: whether ``WRAPPERS`` are taken off the source's names before they are read.
        explanation: what the table makes of the names; two readings may be equal without it.
    """

    layout: Layout
    prefix: str = ""
    inside: str = ""
    head: str | None = None
    only: bool = False
    unwrapped: bool = False
    explanation: Explanation = field(default_factory=Explanation, compare=False, repr=False)

    @property
    def is_plain(self) -> bool:
        """Whether the source's names are the table's own, and nothing is left out of it by the user."""
        found = (self.prefix, self.inside, self.head, self.only, self.unwrapped)
        return found == ("", "", None, False, False)

    @property
    def features_alone(self) -> bool:
        """Whether the user takes the features, and no head."""
        without = self.head is None and self.inside != "" and self.prefix.endswith(self.inside)
        return self.head == "" or (self.only and without)

    @property
    def head_is_beside_features(self) -> bool:
        """Whether what runs the features' last ReLU also runs the head, as far as their names tell."""
        if self.layout.relu != "network":
            return self.layout.relu == "features"
        if not self.prefix.endswith(self.inside):
            return False
        if self.head is None or not self.layout.first_conv.startswith(FEATURES):
            return True
        place = self.prefix.removesuffix(self.inside)
        return self.head.startswith(place) and bool(BESIDE_FEATURES.fullmatch(self.head, len(place)))

    def clean(self, name: str) -> str:
        """Returns a source name as it is read: without wrappers, where these are taken off."""
        return without_wrappers(name, self.layout.separator) if self.unwrapped else name

    def own_name(self, name: str) -> str | None:
        """Returns the table's name of a source name; None if it is no part of the network."""
        if self.unwrapped:
            name = self.clean(name)
        if self.head:
            parent, _, last = name.rpartition(self.layout.separator)
            if parent == self.head:
                return f"{self.layout.head}{self.layout.separator}{last}"
        if self.is_of_unused_head(name) or not name.startswith(self.prefix):
            return None
        return self.inside + name.removeprefix(self.prefix)

    def is_of_unused_head(self, name: str) -> bool:
        """Whether a source name belongs to the usual head, and another layer took its place."""
        usual = f"{self.prefix}{self.layout.head}"
        if self.head in (None, usual):
            return False
        return self.clean(name).rpartition(self.layout.separator)[0] == usual


def without_wrappers(name: str, separator: str = ".") -> str:
    """Returns a name, or the path of a module, without what wrappers put into it."""
    return separator.join(part for part in name.split(separator) if part not in WRAPPERS)
