"""Where names and shapes leave open which function a file is of, it is asked, or the features are taken."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import click
import pytest
import torch
from checkpoints import SMALL, StateDict, checkpoint_of, in_2017_names, in_names_of, state_dict_of

from densenet_convert.cli import main
from densenet_convert.cli.convert import file
from densenet_convert.cli.keywords import as_command
from densenet_convert.errors import LayoutError
from densenet_convert.layouts.network import identify_network
from densenet_convert.records import Identified, Options

TINY = replace(SMALL, block_config=(1, 2))
WIDTH = TINY.num_features
STATE = state_dict_of(TINY)
FEATURES = {name: tensor for name, tensor in STATE.items() if name.startswith("features.")}


def linear(name: str, given: int, taken: int = WIDTH) -> StateDict:
    return {f"{name}.weight": torch.zeros(given, taken), f"{name}.bias": torch.zeros(given)}


def norm(name: str, width: int = WIDTH) -> StateDict:
    fields = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{field}": torch.ones(width) for field in fields}


def under(prefix: str, state: StateDict) -> StateDict:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def identified(state: StateDict, **options: Any) -> Identified:
    return identify_network(checkpoint_of(state), Options(**options), source="x.pth")


def refusal(state: StateDict, **options: Any) -> str:
    with pytest.raises(LayoutError) as caught:
        identified(state, **options)
    return str(caught.value)


def commands(message: str) -> list[str]:
    """The calls that a message advises, as the command line says them."""
    with click.Context(main):
        return [as_command(line) for line in message.splitlines() if line.startswith("dc.convert(")]


def options_of(command: str) -> dict[str, Any]:
    """The options of a whole command, as click reads them."""
    context = file.make_context("file", shlex.split(command)[2:])
    return {name: value for name, value in context.params.items() if name in vars(Options())}


USUAL: dict[str, StateDict] = {
    "torchvision": STATE,
    "of 2017": in_2017_names(STATE),
    "CheXNet": under(
        "module.densenet121.",
        {name.replace("classifier", "classifier.0"): t for name, t in in_2017_names(STATE).items()},
    ),
    "MONAI": in_names_of("monai", STATE),
    "torchxrayvision": {**STATE, "op_threshs": torch.rand(5)},
    "gpleiss": in_names_of("efficient-densenet", STATE),
    "keras.applications": in_names_of("keras-applications", STATE),
    "features alone": FEATURES,
    "features alone, called base": {name.replace("features.", "base."): t for name, t in FEATURES.items()},
    **{
        f"{head} under {prefix or 'nothing'}": under(prefix, {**FEATURES, **linear(head, 3)})
        for prefix in ("", "module.", "model.", "net.", "_orig_mod.", "module.densenet121.")
        for head in ("classifier", "fc", "last_linear", "classifier.0", "classifier.1", "classifier.fc")
    },
}


@pytest.mark.parametrize("form", USUAL)
def test_the_usual_forms_are_asked_nothing(form: str) -> None:
    network = identified(USUAL[form])
    assert network.config.final_relu
    assert (network.config.num_classes > 0) == ("alone" not in form)


@pytest.mark.parametrize(
    ("features", "head"),
    [("base.", "classifier"), ("backbone.features.", "fc"), ("encoder.features.", "classification_head.3")],
)
def test_a_head_elsewhere_than_beside_the_features_asks_for_the_relu(features: str, head: str) -> None:
    state = {name.replace("features.", features): t for name, t in FEATURES.items()} | linear(head, 4)
    given = {} if head in ("classifier", "fc") else {"head": head}
    message = refusal(state, **given)
    assert "`final_relu=True`;" in message
    assert "`final_relu=False`" in message
    (command,) = commands(message)
    assert identified(state, **options_of(command)).config.num_classes == 0
    for final_relu in (True, False):
        config = identified(state, **given, final_relu=final_relu).config
        assert (config.num_classes, config.final_relu) == (4, final_relu)


BETWEEN: dict[str, StateDict] = {
    "an exponent": {"pool.p": torch.ones(1)},
    "a norm": norm("bottleneck"),
    "squeeze and excitation": linear("se.0", 4) | linear("se.2", WIDTH, 4),
    "attention": {"att.weight": torch.zeros(1, WIDTH, 1, 1), "att.bias": torch.zeros(1)},
    "spatial attention": {"spatial.conv.weight": torch.zeros(1, 2, 7, 7)},
    "a convolution in front": {"first.weight": torch.zeros(3, 3, 1, 1)},
    "an embedding": linear("embedding", WIDTH),
    "a scale": {"scale": torch.ones(WIDTH)},
    "a temperature": {"temperature": torch.ones(())},
    "an order of the classes": {"order": torch.arange(5)},
}


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("what", BETWEEN)
def test_what_may_stand_between_is_never_left_out_and_the_features_are_offered(
    what: str, prefix: str
) -> None:
    state = under(prefix, {**STATE, **BETWEEN[what]})
    for only in (None, prefix):
        message = refusal(state, only=only)
        (command,) = commands(message)
        assert options_of(command)["only"] == f"{prefix}features."
    network = identified(state, only=f"{prefix}features.")
    assert network.config.num_classes == 0
    assert network.assumptions[0].what == "nothing that is left out stands before the features"


@pytest.mark.parametrize("stacked", [5, 9])
def test_a_layer_that_reads_the_head_is_stacked_and_refused(stacked: int) -> None:
    head = {**FEATURES, **linear("classifier", stacked)}
    message = refusal({**under("model.", head), **linear("fc", 3, stacked)}, only="model.")
    assert f"fc [3, {stacked}] reads what model.classifier [{stacked}, {WIDTH}] gives" in message
    assert len(commands(message)) == 1


def test_of_two_heads_both_are_listed_and_no_command_chooses_one() -> None:
    state = under("model.", STATE) | linear("fc", 3)
    message = refusal(state)
    assert f"model.classifier [5, {WIDTH}] or fc [3, {WIDTH}]" in message
    assert [options_of(one)["only"] for one in commands(message)] == ["model.features."]
    assert identified(state, only="model.", head="fc", final_relu=True).config.num_classes == 3


def test_a_head_that_was_not_chosen_is_left_out_only_beside_the_features() -> None:
    state = under("model.", STATE) | linear("fc", 3)
    assert "fc.weight" in refusal(state, only="model.", head="model.classifier")
    beside = {**STATE, **linear("fc", 3)}
    for head, classes in (("fc", 3), ("classifier", 5)):
        assert identified(beside, only="", head=head).config.num_classes == classes


def test_a_decoder_another_network_and_known_buffers_are_beside_the_network() -> None:
    others = {
        "decoder.up.weight": torch.zeros(8, WIDTH, 3, 3),
        "decoder.out.weight": torch.zeros(1, 8, 1, 1),
        "queue": torch.zeros(16, 8),
        "queue_ptr": torch.zeros(1, dtype=torch.int64),
        "criterion.pos_weight": torch.ones(5),
        "n_averaged": torch.zeros((), dtype=torch.int64),
        **under("other.", STATE),
    }
    assert identified(under("net.", STATE) | others, only="net.").config.num_classes == 5


@pytest.mark.parametrize("second", ["features_depth.", "stream.features.", "a.b.features."])
def test_a_second_network_within_the_same_module_may_be_a_part_of_the_first(second: str) -> None:
    other = {name.replace("features.", second): tensor for name, tensor in FEATURES.items()}
    message = refusal({**STATE, **other})
    assert options_of(commands(message)[0])["only"] == "features."
    for one in commands(message):
        assert identified({**STATE, **other}, **options_of(one)).config.num_classes == 0


def test_a_head_outside_of_two_networks_is_neither_s() -> None:
    state = under("a.", FEATURES) | under("b.", FEATURES) | linear("fc", 3)
    for network in ("a.", "b."):
        assert "may stand before" in refusal(state, only=network, head="fc", final_relu=True)


def test_a_head_of_an_enclosing_network_may_be_the_inner_one_s() -> None:
    assert "may be inner.classifier" in refusal(under("inner.", STATE) | STATE, only="inner.")


def test_a_decoder_that_gives_what_it_reads_may_stand_before_the_head() -> None:
    state = {**STATE, "decoder.0.weight": torch.zeros(WIDTH, WIDTH, 3, 3)}
    assert [options_of(one)["only"] for one in commands(refusal(state))] == ["features."]


def test_of_several_networks_each_gets_its_command_in_the_order_of_the_file() -> None:
    message = refusal(under("teacher.", STATE) | under("student.", STATE))
    assert [options_of(one)["only"] for one in commands(message)] == ["teacher.", "student."]


def test_a_single_linear_layer_of_another_name_is_taken_by_head() -> None:
    message = refusal({**FEATURES, **linear("mlp.0", 3)})
    assert commands(message) == ["densenet-convert file x.pth --head mlp.0"]


@pytest.mark.parametrize("layer", ["gru", "rnn.lstm"])
def test_features_that_a_recurrent_layer_reads_are_refused_and_nothing_is_advised(layer: str) -> None:
    recurrent = {f"{layer}.weight_ih_l0": torch.zeros(24, WIDTH), f"{layer}.weight_hh_l0": torch.zeros(24, 8)}
    state = under("net.", FEATURES) | recurrent | linear("fc", 3, 8)
    for only in (None, "net.", "net.features."):
        message = refusal(state, only=only)
        assert f"{layer} is a recurrent layer that reads the features" in message
        assert commands(message) == []


@pytest.mark.parametrize(
    "between",
    [
        {"bridge.0.weight": torch.zeros(20, WIDTH, 3, 3)},
        linear("map.0", 24) | linear("map.2", 20, 24),
        linear("map", 20, 3 * WIDTH),
    ],
)
def test_so_are_features_that_other_layers_make_narrower_before(between: StateDict) -> None:
    recurrent = {"rnn.weight_ih_l0": torch.zeros(24, 20), "rnn.weight_hh_l0": torch.zeros(24, 6)}
    message = refusal(under("cnn.", FEATURES) | between | recurrent | linear("fc", 3, 6))
    assert "rnn is a recurrent layer" in message
    assert commands(message) == []


def test_what_the_user_said_beside_stands_in_the_command_again() -> None:
    options = {"labels": "my names.txt", "multi_label": True, "arch": None, "key": "ema"}
    beside = {"decoder.weight": torch.zeros(3, 4)}
    (command,) = commands(refusal({**under("net.", STATE), **beside}, **options))
    assert command == (
        "densenet-convert file x.pth --only net. --key ema --labels 'my names.txt' --multi-label"
    )


def test_a_name_that_can_t_be_printed_is_put_into_no_command() -> None:
    message = refusal({**FEATURES, **linear("a\x1b[31m\nb", 3)})
    assert all("\x1b" not in line and "head=" not in line for line in message.splitlines())


@dataclass
class Truth:
    """What the owner of a made file runs, by the names in it."""

    state: StateDict
    features: str
    head: str | None
    between: list[str] = field(default_factory=list)
    final_relu: bool = True
    wrapping: list[str] = field(default_factory=list)


def made(seed: int) -> Truth:
    """A sound file with a wrapper and a head, and perhaps a second one, a decoder or a learned layer."""
    draw = random.Random(seed)
    outer = draw.choice(["", "module.", "model.net."])
    called = draw.choice(["features.", "base.", "backbone.features.", "densenet121.features."])
    state = {f"{outer}{name.replace('features.', called)}": t for name, t in FEATURES.items()}
    place = draw.choice([outer, f"{outer}{called.removesuffix('features.')}"]) if called != "base." else outer
    head = place + draw.choice(["classifier", "fc", "head.1", "my_head", "classifier.0"])
    truth = Truth(state, f"{outer}{called}", head)
    state |= linear(head, draw.choice([1, 3, 40]))
    together = called.endswith("features.") and place == outer + called.removesuffix("features.")
    truth.final_relu = together or draw.random() < 0.5
    if draw.random() < 0.4:
        second = outer + draw.choice(["backbone.classifier", "aux.fc", "fc2", "classifier", "last_linear"])
        state.update({name: t for name, t in linear(second, 7).items() if name not in state})
    if draw.random() < 0.5:
        what = draw.choice(list(BETWEEN))
        truth.between = [outer + name for name in BETWEEN[what]]
        state |= under(outer, BETWEEN[what])
    if draw.random() < 0.3:
        state[f"{outer}decoder.0.weight"] = torch.zeros(8, WIDTH, draw.choice([1, 3]), 1)
    names = list(state)
    draw.shuffle(names)
    truth.state = {name: state[name] for name in names}
    return truth


def ways(truth: Truth) -> Iterator[tuple[bool, dict[str, Any]]]:
    """No option, commands that are advised, heads that a message lists, and what a user may try himself.

    Each comes with whether it was advised.
    """
    yield False, {}
    try:
        identified(truth.state)
    except LayoutError as error:
        yield from ((True, options_of(one)) for one in commands(str(error)))
        heads = re.findall(r"([\w.]+) \[\d+, \d+\]", str(error))
        yield from ((False, {"head": one}) for one in heads)
    for only in (truth.features, truth.features.removesuffix("features.")):
        yield False, {"only": only}
        yield False, {"only": only, "head": truth.head, "final_relu": truth.final_relu}


def is_the_owner_s(network: Identified, truth: Truth, options: dict[str, Any]) -> bool:
    """Whether what would be converted is what the owner runs: its features, or all of it."""
    sources = {ours: theirs for theirs, ours in network.reading.explanation.targets.items()}
    if sources["features.conv0.weight"] != f"{truth.features}conv0.weight":
        return False
    if not network.config.num_classes:
        return True
    head = sources["classifier.weight"].removesuffix(".weight")
    if options.get("head") not in (None, truth.head):
        return head == options["head"]  # the user said so, and was wrong
    return head == truth.head and not truth.between and network.config.final_relu == truth.final_relu


def test_no_file_to_which_something_was_added_becomes_another_function() -> None:
    outcomes = {"advised": 0, "converted": 0, "refused": 0}
    for seed in range(50):
        truth = made(seed)
        for advised, options in ways(truth):
            try:
                network = identified(truth.state, **options)
            except LayoutError:
                assert not advised, (seed, options)  # what is advised was tried, and gets through
                outcomes["refused"] += 1
                continue
            outcomes["advised" if advised else "converted"] += 1
            assert is_the_owner_s(network, truth, options), (seed, options)
    assert min(outcomes.values()) > 20


def test_a_plain_file_has_the_config_of_its_shapes() -> None:
    assert identified(STATE).config == TINY
    assert identified(FEATURES).config == replace(TINY, num_classes=0)
