"""PaddleClas' names, which count blocks from 2 on; its head is ``[in, out]``."""

from __future__ import annotations

from collections.abc import Iterator

from ...layout import Layout, Rule
from .keras_applications import DENSE_AXES

FIELDS = {"weight": "weight", "bias": "bias", "_mean": "running_mean", "_variance": "running_var"}
STAGE = r"([2-9]|[1-9]\d{1,8})"
FROM_TWO = {1: -1}


def _pair(before: str, norm: str, conv: str) -> Iterator[Rule]:
    """Yields the rules of a norm and the convolution in one module with it."""
    for theirs, ours in FIELDS.items():
        numbers = FROM_TWO if STAGE in before else {}
        yield Rule(rf"{before}\._batch_norm\.{theirs}", f"features.{norm}.{ours}", numbers=numbers)
    yield Rule(rf"{before}\._conv\.weight", f"features.{conv}.weight", numbers=numbers)


def _rules() -> Iterator[Rule]:
    yield from _pair("conv1_func", "norm0", "conv0")
    layer = r"denseblock\1.denselayer\2"
    of_layer = rf"db_conv_{STAGE}\.conv\1_([1-9]\d{{0,8}})\.bn_ac_func([12])"
    yield from _pair(of_layer, rf"{layer}.norm\3", rf"{layer}.conv\3")
    yield from _pair(rf"tr_conv{STAGE}_blk\.conv_ac_func", r"transition\1.norm", r"transition\1.conv")
    for theirs, ours in FIELDS.items():
        yield Rule(rf"batch_norm\.{theirs}", f"features.norm5.{ours}")
    yield Rule(r"out\.weight", "classifier.weight", DENSE_AXES)
    yield Rule(r"out\.bias", "classifier.bias")


PADDLECLAS = Layout(
    name="paddleclas",
    origin="PaddleClas, ppcls.arch.backbone.model_zoo.densenet",
    rules=tuple(_rules()),
    reference="densenet_convert.proof.references.trees:tree_of_today",
    loader="densenet_convert.proof.references.ported:load_paddle",
    names="densenet_convert.proof.references.ported:paddle_names",
    # Paddle does not count batches.
    has_counters=False,
    export_format="pickle",
    first_conv="conv1_func._conv.weight",
    head="out",
    relu="features",
)
