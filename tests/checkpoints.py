"""Small networks, and the names that files of 2017 give their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.layout import Explanation, Layout, Reading
from densenet_convert.layouts.explain import explain
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.records import Checkpoint, Renamed
from densenet_convert.source.random_weights import random_network

# Every part of a real one: four blocks, three transitions, odd widths.
SMALL = DenseNetConfig(
    growth_rate=4, block_config=(2, 3, 1, 2), num_init_features=8, bn_size=2, num_classes=5
)

StateDict = dict[str, Tensor]


def read_as(layout: Layout, names: Iterable[str], **wrapping: Any) -> Reading:
    """A reading with its explanation, as ``identify_layout`` finds it."""
    return explain(Reading(layout, **wrapping), names, expect_drops=False)


def explanation_of(layout: Layout | Reading, names: Iterable[str], *, whole: bool = True) -> Explanation:
    """What a layout, wrapped or not, makes of names."""
    reading = layout if isinstance(layout, Reading) else Reading(layout)
    return explain(reading, names, expect_drops=whole).explanation


def renamed_as(layout: Layout, checkpoint: Checkpoint) -> Renamed:
    """The checkpoint's tensors under canonical names."""
    return rename_tensors(checkpoint, read_as(layout, checkpoint.tensors))


def checkpoint_of(tensors: StateDict) -> Checkpoint:
    """As if it had been read; without digests, which matter only where a folder is written."""
    return Checkpoint(tensors, digests={}, sha256="", size=0, format="made")


def state_dict_of(config: DenseNetConfig = SMALL, *, seed: int = 0) -> StateDict:
    """Canonical names, measured statistics."""
    return {name: tensor.detach() for name, tensor in random_network(config, seed).state_dict().items()}


def in_2017_names(state: StateDict, *, counted: bool = False) -> StateDict:
    """As torchvision wrote them before 0.3: by hand, not by the converter's tables."""
    renamed: StateDict = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked") and not counted:
            continue
        old_name = name
        if "denselayer" in name:
            for new, old in (
                ("norm1", "norm.1"),
                ("norm2", "norm.2"),
                ("conv1", "conv.1"),
                ("conv2", "conv.2"),
            ):
                old_name = old_name.replace(f".{new}.", f".{old}.")
        renamed[old_name] = tensor
    return renamed


def in_names_of(layout: str, state: StateDict) -> StateDict:
    """As other libraries name them: by hand, not by the converter's tables."""
    if layout == "torchvision-dotted":
        return in_2017_names(state, counted=True)
    if layout == "keras-applications":
        return _in_names_of_keras(state)
    if layout == "paddleclas":
        return _in_names_of_paddle(state)
    if layout == "densenet-keras":
        return _in_names_of_keras_of_2016(state)
    if layout.startswith("numbered"):
        return _in_numbers(state, dotted=layout == "numbered-dotted", relu=layout != "numbered-timm")
    renamed: StateDict = {}
    for name, tensor in state.items():
        if layout == "mmpretrain":
            name = _in_mmpretrain_s_name(name, state)
        elif layout == "pytorchcv":
            name = _in_pytorchcv_s_name(name)
        elif layout == "timm-features":
            name = name.replace("features.", "features_")
        if layout == "monai":
            name = re.sub(r"(denselayer\d+)\.", r"\1.layers.", name).replace("classifier", "class_layers.out")
        elif layout == "monai-0.3":
            name = name.replace("classifier", "class_layers.class")
        elif layout == "efficient-densenet":
            name = name.replace("norm5", "norm_final")
        renamed[name] = tensor
    return renamed


def _in_mmpretrain_s_name(name: str, state: StateDict) -> str:
    blocks = sum(f"features.denseblock{i}.denselayer1.conv1.weight" in state for i in range(1, 9))
    name = name.replace("features.conv0", "backbone.stem.0").replace("features.norm0", "backbone.stem.1")
    name = name.replace("features.norm5", f"backbone.transitions.{blocks - 1}.0")
    if match := re.match(r"features\.denseblock(\d+)\.denselayer(\d+)\.(.*)", name):
        return f"backbone.stages.{int(match[1]) - 1}.block.{int(match[2]) - 1}.{match[3]}"
    if match := re.match(r"features\.transition(\d+)\.(.*)", name):
        return f"backbone.transitions.{int(match[1]) - 1}.{match[2]}"
    return name.replace("classifier", "head.fc")


def _in_pytorchcv_s_name(name: str) -> str:
    if match := re.match(r"features\.denseblock(\d+)\.denselayer(\d+)\.(norm|conv)([12])\.(.*)", name):
        part = "bn" if match[3] == "norm" else "conv"
        return f"features.stage{match[1]}.unit{match[2]}.conv{match[4]}.{part}.{match[5]}"
    if match := re.match(r"features\.transition(\d+)\.(norm|conv)\.(.*)", name):
        stage, part = int(match[1]) + 1, "bn" if match[2] == "norm" else "conv"
        return f"features.stage{stage}.trans{stage}.conv.{part}.{match[3]}"
    name = name.replace("features.conv0", "features.init_block.conv")
    name = name.replace("features.norm0", "features.init_block.bn")
    return name.replace("features.norm5", "features.post_activ.bn").replace("classifier", "output")


def _in_numbers(state: StateDict, *, dotted: bool, relu: bool) -> StateDict:
    """As a Sequential names four blocks and what is between them."""
    steps = ["conv0", "norm0", *(["relu0"] if relu else []), "pool0"]
    for block in range(1, 5):
        steps += [f"denseblock{block}", f"transition{block}" if block < 4 else "norm5"]
    renamed: StateDict = {}
    for name, tensor in (in_2017_names(state, counted=True) if dotted else state).items():
        first, step, *rest = name.split(".")
        known = first == "features"
        renamed[".".join([first, str(steps.index(step)), *rest]) if known else name] = tensor
    return renamed


def _in_names_of_paddle(state: StateDict) -> StateDict:
    renamed: StateDict = {}
    for name, tensor in state.items():
        layer, _, field = name.rpartition(".")
        if field == "num_batches_tracked":
            continue
        field = {"running_mean": "_mean", "running_var": "_variance"}.get(field, field)
        kind = "_batch_norm" if "norm" in layer.rpartition(".")[2] else "_conv"
        if match := re.fullmatch(r"features\.denseblock(\d+)\.denselayer(\d+)\.\w+([12])", layer):
            stage = int(match[1]) + 1
            theirs = f"db_conv_{stage}.conv{stage}_{match[2]}.bn_ac_func{match[3]}.{kind}"
        elif match := re.fullmatch(r"features\.transition(\d+)\.\w+", layer):
            theirs = f"tr_conv{int(match[1]) + 1}_blk.conv_ac_func.{kind}"
        else:
            stem = f"conv1_func.{kind}"
            theirs = {"features.norm5": "batch_norm", "classifier": "out"}.get(layer, stem)
        renamed[f"{theirs}.{field}"] = (
            tensor.T.contiguous() if (theirs, field) == ("out", "weight") else tensor
        )
    return renamed


def _in_names_of_keras_of_2016(state: StateDict) -> StateDict:
    """Of a network of four blocks, in Keras 2, each Scale's values in its batch norm."""
    fields = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    renamed: StateDict = {}
    for name, tensor in state.items():
        layer, _, field = name.rpartition(".")
        if field == "num_batches_tracked":
            continue
        norm = "_bn" if "norm" in layer.rpartition(".")[2] else ""
        if match := re.fullmatch(r"features\.denseblock(\d+)\.denselayer(\d+)\.\w+([12])", layer):
            theirs = f"conv{int(match[1]) + 1}_{match[2]}_x{match[3]}{norm}"
        elif match := re.fullmatch(r"features\.transition(\d+)\.\w+", layer):
            theirs = f"conv{int(match[1]) + 1}_blk{norm}"
        else:
            theirs = {"features.norm5": "conv5_blk_bn", "classifier": "fc6"}.get(layer, f"conv1{norm}")
        if layer == "classifier":
            renamed[f"fc6/{'kernel' if field == 'weight' else 'bias'}"] = (
                tensor.T.contiguous() if field == "weight" else tensor
            )
        elif norm:
            renamed[f"{theirs}/{fields.get(field, 'gamma')}"] = tensor
        else:
            renamed[f"{theirs}/kernel"] = tensor.permute(2, 3, 1, 0).contiguous()
    return renamed


def _in_names_of_keras(state: StateDict) -> StateDict:
    fields = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    renamed: StateDict = {}
    for name, tensor in state.items():
        layer, _, field = name.rpartition(".")
        if field == "num_batches_tracked":
            continue
        *_, last = layer.split(".")
        if match := re.fullmatch(r"features\.denseblock(\d+)\.denselayer(\d+)\.(\w+)", layer):
            part = {"norm1": "0_bn", "conv1": "1_conv", "norm2": "1_bn", "conv2": "2_conv"}[match[3]]
            theirs = f"conv{int(match[1]) + 1}_block{match[2]}_{part}"
        elif match := re.fullmatch(r"features\.transition(\d+)\.(norm|conv)", layer):
            theirs = f"pool{int(match[1]) + 1}_{'bn' if match[2] == 'norm' else 'conv'}"
        else:
            known = {"conv0": "conv1_conv", "norm0": "conv1_bn", "norm5": "bn", "classifier": "predictions"}
            theirs = known[last]
        if last == "classifier":
            renamed[f"{theirs}/{'kernel' if field == 'weight' else 'bias'}"] = (
                tensor.T.contiguous() if field == "weight" else tensor
            )
        elif "conv" in last:
            renamed[f"{theirs}/kernel"] = tensor.permute(2, 3, 1, 0).contiguous()
        else:
            renamed[f"{theirs}/{fields.get(field, 'gamma')}"] = tensor
    return renamed


def save(content: object, path: Path, *, legacy: bool = True) -> Path:
    """Saves anything as ``torch.save`` does, in the format of torchvision's files or in today's."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
