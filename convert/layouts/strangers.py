"""Says which network the names and shapes are of, where it is another one than can be converted.

A name or a shape counts here only where it is a sure sign.  What is not known is for the layouts to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..errors import ArchitectureError, quoted
from .views import views

STEM = re.compile(r"(?:.*\.)?(?:features_)?conv0\.weight", re.ASCII)
DENSE_LAYER = re.compile(
    r"(?:.*\.)?denseblock\d+\.denselayer\d+\.(?:layers\.)?(norm|conv)\.?([12])\.(\w+)", re.ASCII
)
# Names that MONAI alone has.
OF_MONAI = re.compile(r"denselayer\d+\.layers\.(?:norm|conv)|class_layers\.(?:class|out)\.", re.ASCII)
BATCH_NORM = ("running_mean", "running_var")
SMALL = "a DenseNet for images as small as CIFAR's"
# Networks of other families: what they are called, and names that only they have.  Each must be there.
# Sources: torchvision, timm, transformers, and the repositories that are named.
FAMILIES = (
    (f"{SMALL} (kuangliu/pytorch-cifar)", (r"dense1\.0\.conv1\.weight", r"trans1\.conv\.weight")),
    (
        f"{SMALL} (andreasveit/densenet-pytorch)",
        (r"block1\.layer\.0\.conv1\.weight", r"trans1\.conv1\.weight"),
    ),
    (f"{SMALL} (pytorchcv)", (r"features\.init_block\.weight", r"features\.stage1\.unit1\..*")),
    (
        "a DenseNet of keras-hub, which pads its first pooling at one side",
        (r"stack1_block1_1_bn/gamma", r"transition1_conv/kernel"),
    ),
    ("a ResNet, or of its family", (r"layer1\.0\.conv1\.weight", r"layer4\.0\.conv1\.weight")),
    (
        "a ResNet of transformers",
        (r"embedder\.embedder\.convolution\.weight", r"encoder\.stages\.0\.layers\.0\..*"),
    ),
    ("a VGG", (r"features\.0\.weight", r"classifier\.3\.weight", r"classifier\.6\.weight")),
    ("a ConvNeXt", (r"stages\.0\.blocks\.0\.(?:gamma|conv_dw\.weight)|features\.1\.0\.layer_scale",)),
    ("an EfficientNet or a MobileNet of timm", (r"conv_stem\.weight", r"blocks\.0\.0\..*")),
    (
        "an EfficientNet or a MobileNet of torchvision",
        (r"features\.0\.0\.weight", r"features\.1\.(?:0\.block|block|conv)\..*"),
    ),
    ("a vision transformer", (r"cls_token|class_token", r"pos_embed|encoder\.pos_embedding")),
    ("a Swin transformer", (r"(?:layers|features)\..*relative_position_bias_table",)),
    ("an Inception network", (r"Mixed_5b\.branch1x1\.conv\.weight",)),
    ("a GoogLeNet", (r"inception3a\.branch1\.conv\.weight",)),
)
MATCHERS = tuple(
    (what, tuple(re.compile(rf"(?:.*[./])?(?:{sign})", re.ASCII) for sign in signs))
    for what, signs in FAMILIES
)


def refuse_strangers(
    tensors: Mapping[str, Any], *, holds_densenet: bool = False, layout_is_named: bool = False
) -> None:
    """Raises ArchitectureError if the tensors are for certain those of a network that can't be converted.

    Args:
        tensors: each with a ``shape``, under the source's names.
        holds_densenet: whether a DenseNet is among them by its names, so that another network may be, too.
        layout_is_named: whether the user says which library wrote them, so that names alone decide nothing.
    """
    *_, view = views(tensors)
    shapes = dict(zip(view.names, (tuple(tensor.shape) for tensor in tensors.values()), strict=True))
    stems = [name for name in shapes if STEM.fullmatch(name)]
    if stems and not layout_is_named:
        _refuse_dimensions(stems, shapes)
    if stems:
        reasons = [_other_stem(name, shapes) for name in stems]
        what = reasons[0] if all(reasons) else _other_layers(shapes)
    else:
        what = "" if holds_densenet else _family(shapes)
    if what:
        raise ArchitectureError(
            f"This is {what}. It can't be converted: only DenseNets as torchvision's are."
        )


def _other_stem(name: str, shapes: Mapping[str, Sequence[int]]) -> str:
    """Returns what a network is by its first convolution; empty where it may be one of torchvision's."""
    place, shape = name.removesuffix("conv0.weight"), tuple(shapes[name])
    own = [one for one in shapes if one.startswith(f"{place}denseblock")]
    if not own:
        return ""
    kernel = "x".join(map(str, shape[2:]))
    if len(shape) not in (3, 4, 5) or set(shape[2:]) == {7}:
        return ""
    if f"{place}conv1.weight" in shapes and f"{place}conv2.weight" in shapes:
        return (
            "a DenseNet with a deep stem of three convolutions, as timm's densenetblur121d and densenet264d: "
            f"{quoted(place)}conv0, conv1 and conv2"
        )
    return (
        f"a DenseNet with a {kernel} stem, as for small images: {quoted(name)} is {list(shape)}, expected a "
        "kernel of 7x7"
    )


def _refuse_dimensions(stems: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises ArchitectureError for networks that take no images, under names of libraries that have none."""
    name, shape = stems[0], shapes[stems[0]]
    block = f"{name.removesuffix('conv0.weight')}denseblock"
    if any(len(shapes[stem]) == 4 for stem in stems) or len(shape) not in (3, 5):
        return
    if any(map(OF_MONAI.search, shapes)) or not any(one.startswith(block) for one in shapes):
        return
    dimensions = len(shape) - 2
    raise ArchitectureError(
        f"This is a DenseNet in {dimensions} dimension{'s' * (dimensions > 1)} under other names than "
        f"MONAI's: {quoted(name)} is {list(shape)}. MONAI's alone are converted, for no other library is "
        "known here that has such a network, to compare it with."
    )


def _other_layers(shapes: Mapping[str, Sequence[int]]) -> str:
    """Returns what a network is by its dense layers; empty where it may be one of torchvision's."""
    norms, tracked, halves = False, False, set()
    for name, shape in shapes.items():
        if "denselayer" not in name or not (match := DENSE_LAYER.fullmatch(name)):
            continue
        kind, half, field = match.groups()
        halves.add(half)
        norms |= kind == "norm"
        tracked |= field in BATCH_NORM
        kernel = "x".join(map(str, shape[2:]))
        if (kind, half, field) == ("conv", "2", "weight") and set(shape[2:]) != {3}:
            found = f"{quoted(name)} is {list(shape)}"
            return f"a DenseNet with convolutions of {kernel} in its dense layers: {found}"
    if norms and not tracked:
        return (
            "a DenseNet whose norms keep no running statistics, as group norms, instance norms, and batch "
            "norms that normalise each batch by its own"
        )
    return "a DenseNet without bottlenecks: each dense layer has one convolution" if halves == {"1"} else ""


def _family(names: Collection[str]) -> str:
    return next((what for what, signs in MATCHERS if all(_is_there(sign, names) for sign in signs)), "")


def _is_there(sign: re.Pattern[str], names: Iterable[str]) -> bool:
    return any(map(sign.fullmatch, names))
