"""Records of what is stated about a network and not proven: labels, assumptions, remarks, files beside it.

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The kinds of remarks on weights that may not be those that were meant: ``push`` repeats them.
ON_VALUES = ("impossible-value", "never-loaded", "dead-channels", "equal-kernels")


@dataclass(frozen=True)
class Assumption:
    """A property of the network's function that the source does not tell.

    Attributes:
        what: is assumed.
        because: the source does not tell it.
        settled_by: the option, or the kind of source, that settles it.
    """

    what: str
    because: str
    settled_by: str


@dataclass(frozen=True)
class Remark:
    """A note about a source that changes nothing.

    Attributes:
        kind: one of ``"refers-to"``, ``"impossible-value"``, ``"not-read"``, ``"never-loaded"``,
            ``"dead-channels"`` and ``"equal-kernels"``.
        text: what was noticed, in a sentence.
        names: what it applies to: tensors or files of the source, or what its pickles refer to.
    """

    kind: str
    text: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """The names of a network's classes.

    Attributes:
        names: one for each class; None where none are claimed.
        origin: ``"imagenet1k"``, ``"file"``, ``"list"``, ``"checkpoint"`` or ``"beside"`` the source; None
            without names.
        problem_type: transformers' word for a head that is not read by a softmax; None for others.
    """

    names: tuple[str, ...] | None = field(default=None, repr=False)
    origin: str | None = None
    problem_type: str | None = None


@dataclass(frozen=True)
class Beside:
    """The statements of the files beside a source.

    Attributes:
        names: of the classes; None where none are told.
        preprocessing: fields of config.json's ``pretrained_cfg``.
        card: fields of the model card, as ``Claims`` has them.
        files: SHA-256 of each file that was taken something from, by its name.
        remarks: on the files that were not read.
    """

    names: tuple[str, ...] | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class Claims:
    """The statements about a network that are not proven.

    Attributes:
        labels: of its classes.
        preprocessing: fields of config.json's ``pretrained_cfg`` that are not merely assumed.
        preprocessing_origin: whose each of them is: ``"stated"`` by the user, ``"beside"`` the source, or of
            its ``"layout"``.
        card: what the model card says beside the rest: ``license``, ``license_name``, ``license_link``,
            ``datasets``, ``base_model``, ``metrics`` and ``sections``, as far as they are known.
        assumptions: what the source does not tell of its function.
        remarks: what was noticed in the source.
        files: SHA-256 of each file beside the source that was taken something from, by its name.
    """

    labels: Labels = Labels()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    preprocessing_origin: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()
    remarks: tuple[Remark, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
