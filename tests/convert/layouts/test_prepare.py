"""What changes no output is left out by rules; what is written otherwise is rewritten exactly, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SMALL, checkpoint_of, save, state_dict_of
from schemas import validate
from torch import Tensor, nn
from torch.nn.utils import prune

import densenet_convert as dc
from densenet_convert.api.inspection import inspect
from densenet_convert.densenet import DenseNet
from densenet_convert.errors import ConvertError, FolderError, LayoutError, ValueRangeError
from densenet_convert.folder import receipt
from densenet_convert.layouts.network import identify_network
from densenet_convert.layouts.prepare import prepare
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.layouts.rewrite import rewrite_tensors
from densenet_convert.records import Options, Renamed, Rewritten
from densenet_convert.source.read import read_checkpoint
from densenet_convert.tensors import tensor_sha256

STATE = state_dict_of()
WIDTH = SMALL.num_features
Changed = dict[str, Tensor]


def network_of(state: Changed = STATE) -> nn.Module:
    made = DenseNet(SMALL)
    made.load_state_dict(state)
    return made.eval()


def maps_of(state: Changed, x: Tensor) -> Tensor:
    return network_of(state).features(x).relu()  # type: ignore[operator,union-attr]


def converted(content: Any, folder: Path, **options: Any) -> tuple[DenseNet, dict[str, Any]]:
    """Converts, verifies with and without the source, and holds the receipt against its schema."""
    source = save(content, folder / "source.pth")
    assert inspect(source).problem is None
    written = dc.convert(source, folder / "new", device="cpu", **options)
    assert dc.verify(written.folder, source=source, device="cpu")
    assert dc.verify(written.folder, device="cpu")
    text = (written.folder / receipt.FILE_NAME).read_text()
    validate(dict(written.receipt) | {receipt.SEAL: "0" * 64})
    assert receipt.unseal(text) == written.receipt
    return DenseNet.from_pretrained(written.folder), dict(written.receipt)


def prepared(content: Any, folder: Path) -> Renamed:
    """The tensors under canonical names, after every step, without a proof."""
    checkpoint = read_checkpoint(save(content, folder / "source.pth"))
    network = identify_network(checkpoint, Options())
    return rename_tensors(rewrite_tensors(checkpoint, network.rewrites), network.reading)


def counters(change: Callable[[Tensor], Tensor]) -> Changed:
    return {name: change(value) if "num_batches" in name else value for name, value in STATE.items()}


COUNTS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "a fraction, as averages are": (lambda _: torch.tensor(7.75), 8),
    "a fraction of float64": (lambda _: torch.tensor(2.25, dtype=torch.float64), 2),
    "half precision": (lambda _: torch.tensor(3, dtype=torch.float16), 3),
    "bfloat16": (lambda _: torch.tensor(16, dtype=torch.bfloat16), 16),
    "beyond half precision": (lambda _: torch.tensor(1e5).half(), 0),
    "not a number": (lambda _: torch.tensor(float("nan")), 0),
    "int32": (lambda _: torch.tensor(9, dtype=torch.int32), 9),
    "of shape [1]": (lambda _: torch.tensor([4]), 4),
    "a float of shape [1]": (lambda _: torch.tensor([4.0]), 4),
}


@pytest.mark.parametrize("how", COUNTS)
def test_a_count_of_batches_is_written_as_an_integer(how: str, tmp_path: Path) -> None:
    change, expected = COUNTS[how]
    found = prepared(counters(change), tmp_path)
    counts = [value for name, value in found.tensors.items() if "num_batches" in name]
    assert all(value.dtype == torch.int64 and value.shape == () for value in counts)
    assert {value.item() for value in counts} == {expected}
    name = "features.norm0.num_batches_tracked"
    assert found.checkpoint.rewrites[0] == Rewritten(
        "count-as-integer",
        ((name, tensor_sha256(change(torch.tensor(0)))),),
        name,
        tensor_sha256(torch.tensor(expected)),
    )
    assert len(found.checkpoint.rewrites) == len(counts)


def test_an_averaged_checkpoint_is_converted_and_its_receipt_says_so(tmp_path: Path) -> None:
    state = counters(lambda _: torch.tensor(7.75)) | {"n_averaged": torch.tensor(3)}
    model, written = converted(state, tmp_path)
    assert {step["step"] for step in written["rewrites"]} == {"count-as-integer"}
    assert [one["source_name"] for one in written["dropped"]] == ["n_averaged"]
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(model(x), network_of()(x))


@pytest.mark.parametrize("count", [-1.0, 1e30])
def test_a_count_that_no_training_gives_is_refused(count: float, tmp_path: Path) -> None:
    source = save(counters(lambda _: torch.tensor(count)), tmp_path / "source.pth")
    with pytest.raises(ValueRangeError, match=r"num_batches_tracked is .*et it to 0"):
        dc.convert(source, tmp_path / "new", device="cpu")


LEFT_OUT: dict[str, dict[str, Tensor]] = {
    "a count of averaged networks": {"n_averaged": torch.tensor(3)},
    "weights of the classes": {"criterion.pos_weight": torch.rand(5)},
    "a loss with a weight": {"ce_loss.weight": torch.rand(5), "loss_fn.gamma": torch.tensor(2.0)},
    "class_weights": {"class_weights": torch.rand(5)},
    "what thop counted": {
        f"{path}total_{what}": torch.zeros(1, dtype=torch.float64)
        for path in ("", "features.", "features.conv0.", "features.relu0.", "classifier.")
        for what in ("ops", "params")
    },
    "what observers saw": {
        f"{path}activation_post_process.{what}": torch.tensor(1.0)
        for path in ("quant.", "features.conv0.")
        for what in ("min_val", "max_val", "eps")
    },
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_changes_no_output_is_left_out_with_its_reason(what: str, tmp_path: Path) -> None:
    found = prepared({**LEFT_OUT[what], **STATE}, tmp_path)
    dropped = found.reading.explanation.dropped
    assert dropped.keys() == LEFT_OUT[what].keys()
    assert all(dropped.values())
    assert found.tensors.keys() == STATE.keys()


LEFT_IN: dict[str, dict[str, Tensor]] = {
    "as wide as the features": {"criterion.weight": torch.rand(3, WIDTH)},
    "of another number of classes": {"class_weights": torch.rand(7)},
    "a norm of the features": {"loss_head.weight": torch.rand(WIDTH)},
    "a fake quantisation": {
        f"features.conv0.weight_fake_quant.activation_post_process.{what}": torch.tensor(1.0)
        for what in ("min_val", "max_val")
    }
    | {
        "features.conv0.activation_post_process.fake_quant_enabled": torch.tensor([1]),
        "features.conv0.activation_post_process.eps": torch.tensor(1.0),
    },
    "two counts": {"n_averaged": torch.ones(2)},
}


@pytest.mark.parametrize("what", LEFT_IN)
def test_what_may_be_a_part_of_the_network_is_not_left_out(what: str, tmp_path: Path) -> None:
    source = save({**STATE, **LEFT_IN[what]}, tmp_path / "source.pth")
    with pytest.raises(LayoutError):
        dc.convert(source, tmp_path / "new", device="cpu")


def with_kernel_head(name: str = "classifier") -> Changed:
    state = {key: value for key, value in STATE.items() if not key.startswith("classifier")}
    return state | {
        f"{name}.weight": STATE["classifier.weight"][:, :, None, None],
        f"{name}.bias": STATE["classifier.bias"],
    }


def test_a_head_of_1x1_convolution_is_a_linear_layer(tmp_path: Path) -> None:
    name = "fc"
    model, written = converted(with_kernel_head(name), tmp_path)
    assert [step["step"] for step in written["rewrites"]] == ["convolution-as-linear"]
    x = torch.rand(2, 3, 64, 64)
    pooled = maps_of(STATE, x).mean((2, 3), keepdim=True)
    state = with_kernel_head(name)
    expected = nn.functional.conv2d(pooled, state[f"{name}.weight"], state[f"{name}.bias"])
    torch.testing.assert_close(model(x), expected.flatten(1))
    dc.export(tmp_path / "new", "torchvision", tmp_path / "back.pth")
    assert torch.load(tmp_path / "back.pth")["classifier.weight"].shape == (5, WIDTH)


class KernelHead(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.features = network_of().features
        self.classifier = nn.Conv2d(WIDTH, 5, 1, **settings)


def test_a_whole_module_with_such_a_head_must_have_its_settings(tmp_path: Path) -> None:
    assert prepared(KernelHead(), tmp_path).tensors["classifier.weight"].shape == (5, WIDTH)
    with pytest.raises(ConvertError, match="classifier.*stride"):
        dc.convert(save(KernelHead(stride=2), tmp_path / "other.pth"), tmp_path / "other", device="cpu")


@pytest.mark.parametrize(
    "around",
    [
        {"decoder.conv.weight": torch.rand(5, 5, 3, 3), "decoder.out.weight": torch.rand(1, 5, 1, 1)},
        {"up.weight": torch.rand(5, 4, 2, 2)},
        {"bottleneck.weight": torch.rand(WIDTH), "bottleneck.bias": torch.rand(WIDTH)},
    ],
)
def test_the_first_convolution_of_a_decoder_is_no_head(around: Changed, tmp_path: Path) -> None:
    inner = {f"encoder.{name}": value for name, value in STATE.items() if not name.startswith("classifier")}
    state = inner | {"head.weight": torch.rand(5, WIDTH, 1, 1), "head.bias": torch.rand(5)} | around
    source = save(state, tmp_path / "source.pth")
    with pytest.raises(LayoutError):
        dc.convert(source, tmp_path / "new", only="encoder.", head="head", final_relu=True, device="cpu")


def test_a_whole_module_may_hold_counts_and_a_loss(tmp_path: Path) -> None:
    torchvision_models = pytest.importorskip("torchvision.models")
    network = torchvision_models.DenseNet(4, SMALL.block_config, 8, 2, 0, 5)
    for module in network.modules():
        module.register_buffer("total_ops", torch.zeros(1))
    network.criterion = nn.BCEWithLogitsLoss(pos_weight=torch.rand(5))
    found = prepared(network, tmp_path)
    assert found.tensors.keys() == STATE.keys()
    assert len(found.reading.explanation.dropped) == len(list(network.modules()))


def test_a_transition_is_no_head(tmp_path: Path) -> None:
    with pytest.raises(ConvertError):
        dc.convert(
            save(STATE, tmp_path / "source.pth"),
            tmp_path / "new",
            head="features.transition3.conv",
            device="cpu",
        )


def test_a_head_without_a_bias_gets_one_of_zeros_and_that_is_said(tmp_path: Path) -> None:
    state = {name: value for name, value in STATE.items() if name != "classifier.bias"}
    model, written = converted({f"module.{name}": value for name, value in state.items()}, tmp_path)
    (step,) = written["rewrites"]
    assert (step["step"], step["name"], step["sources"]) == ("bias-of-zeros", "module.classifier.bias", [])
    entry = next(one for one in written["tensors"] if one["name"] == "classifier.bias")
    assert entry["source_name"] is None
    assert any("the head, which has no bias" in one["what"] for one in written["assumptions"])
    x = torch.rand(2, 3, 64, 64)
    expected = network_of(STATE | {"classifier.bias": torch.zeros(5)})(x)
    assert torch.equal(model(x), expected)


PLACES = ("features.conv0", "features.denseblock1.denselayer1.conv1", "classifier")


@pytest.mark.parametrize("whole", [True, False])
def test_a_pruned_layer_is_the_product_of_its_weight_and_its_mask(whole: bool, tmp_path: Path) -> None:
    network = network_of()
    for place in PLACES:
        prune.random_unstructured(network.get_submodule(place), "weight", 0.3)
    prune.l1_unstructured(network.classifier, "bias", 1)
    model, written = converted(network if whole else network.state_dict(), tmp_path)
    assert [step["step"] for step in written["rewrites"]] == ["weight-times-mask"] * 4
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(model(x), network(x))


def test_the_masks_of_torch_ao_are_such_as_well(tmp_path: Path) -> None:
    state = dict(STATE)
    weight = state.pop("classifier.weight")
    mask = (torch.rand(weight.shape) > 0.5).float()
    state["classifier.parametrizations.weight.original"] = weight
    state["classifier.parametrizations.weight.0.mask"] = mask
    assert torch.equal(prepared(state, tmp_path).tensors["classifier.weight"], weight * mask)


def test_a_mask_of_other_numbers_would_round(tmp_path: Path) -> None:
    state = dict(STATE)
    state["classifier.weight_orig"] = state.pop("classifier.weight")
    state["classifier.weight_mask"] = torch.full((5, WIDTH), 0.3)
    with pytest.raises(ValueRangeError, match=r"other numbers than 0 and 1.*prune.remove"):
        dc.convert(save(state, tmp_path / "source.pth"), tmp_path / "new", device="cpu")


def test_a_stem_with_a_bias_is_a_setting_of_the_network(tmp_path: Path) -> None:
    bias = torch.rand(SMALL.num_init_features)
    model, written = converted({**STATE, "features.conv0.bias": bias}, tmp_path)
    assert model.config.stem_bias
    assert written["config"]["stem_bias"]
    assert torch.equal(model.features.conv0.bias, bias)  # type: ignore[union-attr]
    again = DenseNet.from_pretrained(tmp_path / "new")
    model.save_pretrained(tmp_path / "saved")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(DenseNet.from_pretrained(tmp_path / "saved")(x), again(x))
    assert dc.convert(tmp_path / "saved" / "model.safetensors", tmp_path / "twice", device="cpu")
    assert dc.export(tmp_path / "new", "torchvision", tmp_path / "back.pth")
    assert torch.equal(torch.load(tmp_path / "back.pth")["features.conv0.bias"], bias)
    with pytest.raises(LayoutError, match="no bias in its first convolution"):
        dc.export(tmp_path / "new", "keras", tmp_path / "back.h5")


def test_a_receipt_that_names_another_rewrite_is_refused(tmp_path: Path) -> None:
    state = {name: value for name, value in STATE.items() if name != "classifier.bias"}
    source = save(state, tmp_path / "source.pth")
    written = dc.convert(source, tmp_path / "new", device="cpu")
    content = {**written.receipt, "rewrites": []}
    (written.folder / receipt.FILE_NAME).write_text(receipt.seal(content))
    with pytest.raises(FolderError, match="'rewrites'"):
        dc.verify(written.folder, source=source, device="cpu")


def test_what_is_left_out_by_the_user_is_not_rewritten(tmp_path: Path) -> None:
    around = {
        "decoder.conv.weight_orig": torch.rand(3, 3),
        "decoder.conv.weight_mask": torch.full((3, 3), 0.5),
        "decoder.norm.num_batches_tracked": torch.tensor(1.5),
    }
    state = {f"net.{name}": value for name, value in STATE.items()} | around
    source = save(state, tmp_path / "source.pth")
    written = dc.convert(source, tmp_path / "new", only="net.", device="cpu")
    assert written.receipt["rewrites"] == []
    assert [one["source_name"] for one in written.receipt["dropped"]] == list(around)
    assert dc.verify(written.folder, source=source, device="cpu")
    assert dc.verify(written.folder, device="cpu")


def test_a_scale_layer_takes_the_place_of_a_norm_s_own_weight_and_bias() -> None:
    gamma, beta = torch.rand(3), torch.rand(3)
    state = {
        "conv1_bn/gamma": torch.ones(3),
        "conv1_bn/beta": torch.zeros(3),
        "conv1_scale/conv1_scale_gamma": gamma,
        "conv1_scale/conv1_scale_beta": beta,
    }
    source = checkpoint_of(state)
    planned = prepare(source)
    assert list(planned.tensors) == ["conv1_bn/gamma", "conv1_bn/beta"]
    found = rewrite_tensors(source, planned.rewrites)
    assert torch.equal(found.tensors["conv1_bn/gamma"], gamma)
    assert torch.equal(found.tensors["conv1_bn/beta"], beta)
    assert [len(step.sources) for step in found.rewrites] == [2, 2]
    other = checkpoint_of(state | {"conv1_bn/gamma": torch.tensor([1, 1, 1.5])})
    with pytest.raises(ValueRangeError, match="one norm can't do both without rounding"):
        rewrite_tensors(other, planned.rewrites)
