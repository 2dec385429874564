"""Names of keras.applications, which count stages where torchvision counts blocks: ``conv2`` is block 1.

keras-hub's DenseNet is no layout here, though its names are known: it pads its first pooling at the end
alone, which no DenseNetConfig says, so that a converted network would be another function.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...layout import Layout, Rule

# Keras' own have four.
MOST_BLOCKS = 9
CONV_AXES, DENSE_AXES = (3, 2, 0, 1), (1, 0)  # from HWIO to OIHW, from (in, out) to (out, in)
FIELDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _norm(pattern: str, target: str) -> Iterator[Rule]:
    return (Rule(f"{pattern}/{theirs}", f"{target}.{ours}") for theirs, ours in FIELDS.items())


def _conv(pattern: str, target: str) -> Rule:
    return Rule(f"{pattern}/kernel", f"{target}.weight", CONV_AXES)


def _rules() -> Iterator[Rule]:
    # Up to Keras 2 the stem's names had a slash: those of the files that Keras serves have it still.
    yield _conv("conv1[_/]conv", "features.conv0")
    yield from _norm("conv1[_/]bn", "features.norm0")
    for block in range(1, MOST_BLOCKS + 1):
        layer, target = rf"conv{block + 1}_block(\d+)", rf"features.denseblock{block}.denselayer\1"
        yield from _norm(f"{layer}_0_bn", f"{target}.norm1")
        yield _conv(f"{layer}_1_conv", f"{target}.conv1")
        yield from _norm(f"{layer}_1_bn", f"{target}.norm2")
        yield _conv(f"{layer}_2_conv", f"{target}.conv2")
        yield from _norm(f"pool{block + 1}_bn", f"features.transition{block}.norm")
        yield _conv(f"pool{block + 1}_conv", f"features.transition{block}.conv")
    yield from _norm("bn", "features.norm5")
    # keras-applications called the head fc1000 at first; what Keras serves has the hash that it had then.
    yield Rule(r"(?:predictions|fc1000)/kernel", "classifier.weight", DENSE_AXES)
    yield Rule(r"(?:predictions|fc1000)/bias", "classifier.bias")


KERAS_APPLICATIONS = Layout(
    name="keras-applications",
    origin="keras.applications.DenseNet121, 169 and 201",
    rules=tuple(_rules()),
    reference="densenet_convert.proof.references.keras:keras_tree",
    loader="densenet_convert.proof.references.keras:load_keras",
    outputs="densenet_convert.proof.references.keras:keras_function",
    # Keras does not count batches.
    has_counters=False,
    names="densenet_convert.proof.references.keras:keras_names",
    export_format="keras-h5",
    first_conv="conv1_conv/kernel",
    other_stems=("conv1/conv/kernel",),
    head="predictions",
    relu="features",
    overrides={"norm_eps": 1.001e-5},
)
