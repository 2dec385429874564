"""Names of the port to Keras of 2016, which has a Scale layer behind each batch norm.

Its batch norms have weights of one and zero: those of the Scale layers take their place before names are
read, so that none of a Scale is left here.  Keras 1 puts the layer's name before each tensor's.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...layout import Layout, Rule
from .keras_applications import CONV_AXES, DENSE_AXES, FIELDS

# In Keras 1 the running variance is called a standard deviation.
NORM_FIELDS = {**FIELDS, "running_mean": "running_mean", "running_std": "running_var"}
NUMBER = r"([1-9]\d{0,8})"
# A layer's name has a group for each brace.  The last norm is called as that of a transition would be.
LAYERS = {
    "conv1": ("conv0", "norm0", ()),
    "conv{}_{}_x{}": (
        r"denseblock\1.denselayer\2.conv\3",
        r"denseblock\1.denselayer\2.norm\3",
        ("([2-5])", NUMBER, "([12])"),
    ),
    "conv{}_blk": (r"transition\1.conv", r"transition\1.norm", ("([2-4])",)),
}
REFERENCES = (r"\1", r"\2", r"\3")


def _field(layer: str, groups: tuple[str, ...], field: str, field_of_keras_1: str = "") -> str:
    """Returns the pattern of a tensor's name, in Keras 1 and later."""
    again = layer.format(*REFERENCES)
    return f"{layer.format(*groups)}/(?:{field}|{again}_{field_of_keras_1 or field})"


def _norm(layer: str, target: str, groups: tuple[str, ...]) -> Iterator[Rule]:
    for theirs, ours in NORM_FIELDS.items():
        pattern = _field(f"{layer}_bn", groups, theirs)
        yield Rule(pattern, f"features.{target}.{ours}", numbers={1: -1} if groups else {})


def _rules() -> Iterator[Rule]:
    for layer, (conv, norm, groups) in LAYERS.items():
        pattern = _field(layer, groups, "kernel", "W")
        yield Rule(pattern, f"features.{conv}.weight", CONV_AXES, {1: -1} if groups else {})
        yield from _norm(layer, norm, groups)
    yield from _norm("conv5_blk", "norm5", ())
    yield Rule(r"fc6/(?:kernel|fc6_W)", "classifier.weight", DENSE_AXES)
    yield Rule(r"fc6/(?:bias|fc6_b)", "classifier.bias")


DENSENET_KERAS = Layout(
    name="densenet-keras",
    origin="flyyufelix/DenseNet-Keras, with Scale layers",
    rules=tuple(_rules()),
    reference="densenet_convert.proof.references.ported:densenet_keras_tree",
    loader="densenet_convert.proof.references.ported:load_densenet_keras",
    has_counters=False,
    names="densenet_convert.proof.references.ported:densenet_keras_names",
    # Its model has a Scale behind each norm, and takes no file without them.
    export_format="",
    first_conv="conv1/kernel",
    other_stems=("conv1/conv1_W",),
    head="fc6",
    relu="features",
    overrides={"norm_eps": 1.1e-5},
)
