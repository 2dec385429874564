"""Remarks on weights that are sound in every byte, and yet hardly those that were meant.

Layers that were never loaded, channels that are dead, and equal kernels in two places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from ..claims import Remark
from ..errors import first_few, quoted
from ..layout import HEAD, Reading
from ..records import ORIGIN_RANDOM, Checkpoint
from .never_loaded import DENSE, Finding, Layers, find_never_loaded, layers_of
from .samples import Samples, samples_of_file, samples_of_memory

if TYPE_CHECKING:
    from ..formats.raw import RawTensor

PASSED_OVER = "load_state_dict(strict=False) passes over the names that it doesn't know"
AGAIN = "Load the right file with strict=True, and save again."
FIRST_NORM = "features.denseblock1.denselayer1.norm1.weight"


def check_up(checkpoint: Checkpoint, reading: Reading) -> tuple[Remark, ...]:
    """Returns what the values of whole tensors tell; nothing of weights that were drawn on purpose.

    Args:
        checkpoint: of which tensors that are to be rewritten yet are not looked at.
        reading: of its names.
    """
    if checkpoint.origin == ORIGIN_RANDOM:
        return ()
    sources, axes = _sources_in(checkpoint.tensors, reading)
    tensors = {ours: checkpoint.tensors[name] for ours, name in sources.items()}
    tensors |= {ours: tensors[ours].permute(order) for ours, order in axes.items()}
    known = checkpoint.digests
    digests = {ours: known[name] for ours, name in sources.items() if name in known}
    return tuple(_remarks(samples_of_memory(tensors, digests), sources))


def check_up_file(tensors: Mapping[str, RawTensor], reading: Reading) -> tuple[Remark, ...]:
    """Returns what a sample of a file's tensors tells, without torch.

    Args: as ``check_up``.
    """
    sources, axes = _sources_in(tensors, reading)
    samples = samples_of_file({ours: tensors[name] for ours, name in sources.items()}, axes)
    return tuple(_remarks(samples, sources))


def _sources_in(
    tensors: Collection[str], reading: Reading
) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Returns the source's name of each canonical one, and the axes of those that lie otherwise."""
    found = reading.explanation
    sources = {ours: name for name, ours in found.targets.items() if name in tensors}
    return sources, {ours: found.axes[name] for ours, name in sources.items() if name in found.axes}


def _remarks(samples: Samples, sources: Mapping[str, str]) -> Iterator[Remark]:
    layers = layers_of(samples)
    yield from _on_never_loaded(layers, sources)
    if dead := _on_dead(layers):
        names = tuple(sources[f"{name}.weight"] for name in dead)
        count = sum(dead.values())
        text = (
            f"{count:,} {'channel has' if count == 1 else 'channels have'} no weight but 0, in "
            f"{first_few(names)}: what they give is the same for every image."
        )
        yield Remark("dead-channels", text, names)
    for equal in _equal_kernels(layers):
        names = tuple(sources[f"{name}.weight"] for name in equal)
        text = f"{first_few(names)} are equal to the last byte: one was perhaps saved in the other's place."
        yield Remark("equal-kernels", text, names)


def _on_dead(layers: Layers) -> dict[str, int]:
    """Returns how many channels of each layer are dead."""
    counts = {name: norm.dead for name, norm in layers.norms.items()}
    counts |= {name: kernel.dead for name, kernel in layers.kernels.items()}
    return {name: count for name, count in counts.items() if count}


def _equal_kernels(layers: Layers) -> Iterator[list[str]]:
    """Yields the names of kernels that are equal, but for those that are 0."""
    places: dict[object, list[str]] = {}
    for name, kernel in layers.kernels.items():
        if kernel.dead < kernel.shape[0]:
            places.setdefault((kernel.shape, kernel.key), []).append(name)
    yield from (names for names in places.values() if len(names) > 1)


def _on_never_loaded(layers: Layers, sources: Mapping[str, str]) -> Iterator[Remark]:
    found = find_never_loaded(layers)
    if found.kernels:
        text = f"{_what(found, layers)} {_cause(found, layers, sources)} {AGAIN}"
        yield _remark(text, (*found.kernels, *found.norms), sources)
    elif found.norms:
        count = f"{len(found.norms):,} of {len(layers.norms):,} batch norms"
        text = f"{count} are as torch makes them (weight 1, bias 0, mean 0, variance 1) and count no batch: "
        text += f"they were probably never loaded. {PASSED_OVER.capitalize()}. {AGAIN}"
        yield _remark(text, found.norms, sources)
    if layers.head_is_drawn:
        text = (
            f"The head, {quoted(sources[f'{HEAD}.weight'])}, is as drawn at random: it was probably neither "
            "loaded nor trained. The usual cause is another name, or another number of classes, than in the "
            "file that was loaded."
        )
        yield _remark(text, (HEAD,), sources)


def _remark(text: str, layers: Collection[str], sources: Mapping[str, str]) -> Remark:
    return Remark("never-loaded", text, tuple(sources[f"{name}.weight"] for name in layers))


def _what(found: Finding, layers: Layers) -> str:
    """Says which layers look as if they had never been loaded."""
    count = f"{len(found.kernels):,} of {len(layers.kernels):,} convolutions"
    if found.trained and len(found.kernels) == len(layers.kernels):
        return (
            f"{count} are nearly as drawn at random ({layers.fits[0]}), and the head is far from that: "
            "the weights of the features were probably never loaded into the network that was trained."
        )
    if found.trained:
        because = found.because or "the other layers are far from random values"
        return (
            f"{count}, those of the dense layers, were trained less than the rest ({because}): the weights "
            "of the dense layers were probably never loaded into the network that was trained."
        )
    unused = [name for name in found.norms if layers.norms[name].unused]
    norms = f", and {len(unused):,} of {len(layers.norms):,} batch norms count no batch" if unused else ""
    return (
        f"{count} are as drawn at random ({layers.fits[0]}){norms}: the weights of this file were "
        "probably never loaded into the network that saved it."
    )


def _cause(found: Finding, layers: Layers, sources: Mapping[str, str]) -> str:
    """Says which mismatch of names leaves out these layers, and what this file calls them."""
    if all(DENSE in name for name in found.kernels) and FIRST_NORM in sources:
        called = quoted(sources[FIRST_NORM])
        other = (
            "denselayer1.norm1" if ".norm.1." in called else "denselayer1.norm.1, as torchvision's files do"
        )
        return (
            f"The usual cause is the names within dense layers: here {called}, where others say {other}; "
            f"{PASSED_OVER}."
        )
    whole = len(found.kernels) == len(layers.kernels)
    kept = " before the names of the features" if whole and layers.head and not layers.head_is_drawn else ""
    return (
        f"The usual cause is a prefix{kept}, such as module. or backbone., that only one of the file and the "
        f"network has; {PASSED_OVER}."
    )
