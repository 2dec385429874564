"""The names of features whose modules were put into a Sequential: each is called by its number.

``nn.Sequential(*network.features.children())`` counts what has no parameters, too: in torchvision's features
the first ReLU and the first pooling are numbers 2 and 3, and timm's have no ReLU of their own there.  The
number of the last norm would be that of a head, or of a transition, were there not four blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...layout import Layout, Rule
from .torchvision import NORM_FIELD

BLOCKS = 4
TODAY = (rf"(norm[12]\.{NORM_FIELD})", r"(conv[12]\.weight)")
DOTTED = (rf"(norm)\.([12]\.{NORM_FIELD})", r"(conv)\.([12]\.weight)")


def numbered(first_block: int, layer_names: tuple[str, ...]) -> Iterator[Rule]:
    """Yields the rules of a sequence.

    Args:
        first_block: number of the first dense block.
        layer_names: patterns of what stands in a dense layer, whose groups are the canonical name.
    """
    blocks = {str(first_block + 2 * i): str(i + 1) for i in range(BLOCKS)}
    *behind, last = (str(int(number) + 1) for number in blocks)
    transitions = {number: str(i) for i, number in enumerate(behind, start=1)}
    yield Rule(r"features\.0\.weight", "features.conv0.weight")
    yield Rule(rf"features\.1\.({NORM_FIELD})", r"features.norm0.\1")
    for name in layer_names:
        layer = rf"features\.(\d+)\.denselayer([1-9]\d{{0,8}})\.{name}"
        target = r"features.denseblock\1.denselayer\2.\3" + r"\4" * ("([12]" in name)
        yield Rule(layer, target, numbers={1: blocks})
    transition = rf"features\.(\d+)\.(norm\.{NORM_FIELD}|conv\.weight)"
    yield Rule(transition, r"features.transition\1.\2", numbers={1: transitions})
    yield Rule(rf"features\.{last}\.({NORM_FIELD})", r"features.norm5.\1")
    yield Rule(r"classifier\.(weight|bias)")


NUMBERED = Layout(
    name="numbered",
    origin="torchvision's features in a Sequential",
    rules=tuple(numbered(4, TODAY)),
    reference="densenet_convert.proof.references.rearranged:tree_of_numbers",
    first_conv="features.0.weight",
    sign="features.4.denselayer1.norm1.weight",
    relu="unknown",
)
NUMBERED_DOTTED = Layout(
    name="numbered-dotted",
    origin="features of torchvision before 0.3 in a Sequential",
    rules=tuple(numbered(4, DOTTED)),
    reference="densenet_convert.proof.references.rearranged:tree_of_dotted_numbers",
    first_conv="features.0.weight",
    sign="features.4.denselayer1.norm.1.weight",
    relu="unknown",
)
NUMBERED_TIMM = Layout(
    name="numbered-timm",
    origin="timm's features in a Sequential",
    rules=tuple(numbered(3, TODAY)),
    reference="densenet_convert.proof.references.rearranged:tree_of_timm_numbers",
    first_conv="features.0.weight",
    sign="features.3.denselayer1.norm1.weight",
    # timm's norms hold their ReLU.
    relu="features",
)
