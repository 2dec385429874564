"""pytorchcv's names: a stage holds its transition, and each convolution is in one module with its norm."""

from __future__ import annotations

from collections.abc import Iterator

from ...layout import Layout, Rule
from .torchvision import NORM_FIELD

_STAGE = r"features\.stage([1-9]\d{0,8})\."


def _rules() -> Iterator[Rule]:
    yield Rule(r"features\.init_block\.conv\.weight", "features.conv0.weight")
    yield Rule(rf"features\.init_block\.bn\.({NORM_FIELD})", r"features.norm0.\1")
    unit, layer = rf"{_STAGE}unit([1-9]\d{{0,8}})\.conv([12])\.", r"features.denseblock\1.denselayer\2."
    yield Rule(rf"{unit}bn\.({NORM_FIELD})", rf"{layer}norm\3.\4")
    yield Rule(rf"{unit}conv\.weight", rf"{layer}conv\3.weight")
    # Each stage but the first begins with the transition that stands before it, and gives it its own number.
    transition = rf"{_STAGE}trans\1\.conv\."
    yield Rule(rf"{transition}bn\.({NORM_FIELD})", r"features.transition\1.norm.\2", numbers={1: -1})
    yield Rule(rf"{transition}conv\.weight", r"features.transition\1.conv.weight", numbers={1: -1})
    yield Rule(rf"features\.post_activ\.bn\.({NORM_FIELD})", r"features.norm5.\1")
    yield Rule(r"output\.(weight|bias)", r"classifier.\1")


PYTORCHCV = Layout(
    name="pytorchcv",
    origin="pytorchcv.models.densenet, osmr/imgclsmob",
    rules=tuple(_rules()),
    reference="densenet_convert.proof.references.rearranged:tree_of_pytorchcv",
    library="densenet_convert.proof.references.libraries:pytorchcv_network",
    first_conv="features.init_block.conv.weight",
    head="output",
    relu="features",
)
