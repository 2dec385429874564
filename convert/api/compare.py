"""``compare``: whether two files hold the same network, and if not, why; without torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ..comparing.compare import Difference, compare_sides
from ..comparing.repair import repair_steps
from ..comparing.tensor_causes import AXES
from ..comparing.tensor_causes import RENAMED as OTHER_NAMES
from ..errors import first_few
from ..layouts.rearrange import PERMUTED
from ..records import AnyPath, Options
from .compared import Comparison
from .sides import Known, check_receipt, know, open_both, take_digests

phases = logging.getLogger("densenet_convert.phases")


def compare(
    a: AnyPath,
    b: AnyPath,
    *,
    key_a: str | None = None,
    key_b: str | None = None,
    repair: AnyPath | None = None,
    device: str = "auto",
    force: bool = False,
) -> Comparison:
    """Says whether two files hold the same network, and if not, which cause explains each difference.

    Tensors are compared under canonical names and in the canonical order of axes, whatever layouts and
    formats the two are in; counters that one side lacks are no difference. No torch is needed.

    Args:
        a, b: checkpoints, converted folders or ``hf://USER/NAME[@REVISION][/FILE]`` on the Hugging Face Hub.
        key_a, key_b: keys that lead to the state dict, joined by dots, in a file that holds several.
        repair: a folder to write: B, with the tensors that were exchanged, permuted or renamed put back where
            A has them, converted and proven as by ``convert``. Its head, labels and card stay B's own.
        device: where the proof of ``repair`` runs: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        force: replace ``repair`` where it exists.

    Raises:
        ReadError: a file can't be read, is not sound or holds several state dicts.
        LayoutError: no layout explains the names of either, or those of one, and its tensors are not the
            other's.
        ArchitectureError: the tensors are not those of a whole DenseNet.
        RepairError: B can't be made A without a loss, or there is nothing to repair.

    Examples:
        >>> found = dc.compare("old.pth", "converted")
        >>> found.same, found.differences, [part.name for part in found.stages][:3]
        (True, (), ['stem', 'denseblock1', 'transition1'])
    """
    opened = open_both(a, b, key_a, key_b)
    phases.info("comparing")
    known_a, known_b = know(*opened)
    with ThreadPoolExecutor(2) as executor:  # hashing holds no lock of Python's
        list(executor.map(take_digests, (known_a.side, known_b.side)))
    for one, known in zip(opened, (known_a, known_b), strict=True):
        check_receipt(one, known.side)
    compared = compare_sides(known_a.side, known_b.side)
    differences = (*_of_names(known_a, "A"), *_of_names(known_b, "B"), *compared.differences)
    label_a, label_b = (one.label for one in opened)
    same = not differences
    found = Comparison(label_a, label_b, same, compared.stages, compared.layers, differences)
    if repair is None:
        return found
    steps = known_b.steps or repair_steps(compared, known_b.side)
    from .repair import convert_repaired

    options = Options(key=key_b, device=device, force=force)
    written = convert_repaired(opened[1].path, steps, known_a.side, Path(repair), options)
    return replace(found, repaired=written)


def _of_names(known: Known, side: str) -> Iterator[Difference]:
    """Yields the differences that lie in the names and the shapes of one side, where no layout has these."""
    permuted = tuple(step.target for step in known.steps if step.name == PERMUTED)
    renamed = tuple(step.target for step in known.steps if step.sources != (step.target,))
    if renamed:
        text = f"No layout has {side}'s names: by their digests, its {len(known.steps):,} tensors are these."
        yield Difference(OTHER_NAMES, renamed, text)
    if permuted:
        text = f"{side} has its axes in an order that no layout of these names has: {first_few(permuted)}."
        yield Difference(AXES, permuted, text)
