"""A layout accounts for every name, or says which it can't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from checkpoints import explanation_of, in_2017_names, save, state_dict_of

from densenet_convert import layouts
from densenet_convert.densenet import ARCHITECTURES, DenseNetConfig
from densenet_convert.errors import LayoutError
from densenet_convert.layout import Drop, Layout, Rule
from densenet_convert.layouts import BUILT_IN, TORCHVISION, TORCHVISION_DOTTED

RENAMED = {"densenet121": 580, "densenet161": 780, "densenet169": 820, "densenet201": 980}


def names_of(config: DenseNetConfig) -> dict[str, tuple[int, ...]]:
    return config.tensor_shapes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_todays_names_are_canonical(architecture: str) -> None:
    names = names_of(ARCHITECTURES[architecture])
    explained = explanation_of(TORCHVISION, names)
    assert explained.targets == {name: name for name in names}
    assert not explained.problems


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("counted", [False, True])
def test_names_of_2017_reach_every_canonical_name(architecture: str, counted: bool) -> None:
    names = names_of(ARCHITECTURES[architecture])
    expected = {n for n in names if counted or not n.endswith("num_batches_tracked")}
    sources = in_2017_names(names, counted=counted)  # type: ignore[arg-type]
    explained = explanation_of(TORCHVISION_DOTTED, sources)
    assert set(explained.targets.values()) == expected
    assert not explained.problems
    if not counted:
        renamed = sum(source != target for source, target in explained.targets.items())
        assert renamed == RENAMED[architecture]


@pytest.mark.parametrize("layout", BUILT_IN, ids=lambda layout: layout.name)
def test_no_layout_takes_a_name_of_another_kind(layout: Layout) -> None:
    strangers = [
        "module.features.conv0.weight",
        "features.norm0.shift",
        "features.conv0.weight.extra",
        "features.norm1.weight",
        "features.denseblock1.denselayer1.norm3.weight",
        "features.denseblock1.denselayer1.norm.3.weight",
        "features.denseblock1.denselayer1.conv1.bias",
        "features.denseblock\u0661.denselayer1.conv1.weight",
        "classifier.0.weight",
        "features.norm_final.weights",
        "",
    ]
    explained = explanation_of(layout, strangers, whole=False)
    assert not explained.targets
    assert explained.problems == tuple(f"{name} is explained by no rule" for name in strangers)


def layout_of(*rules: Rule, drops: tuple[Drop, ...] = ()) -> Layout:
    return Layout("made", "a test", rules, reference="nowhere:nothing", drops=drops)


def test_two_names_with_one_target_are_a_problem() -> None:
    explained = explanation_of(layout_of(Rule(r"a|b", "c")), ["a", "b"])
    assert explained.problems == ("a and b both become c",)


def test_a_name_that_two_rules_match_is_a_problem() -> None:
    explained = explanation_of(layout_of(Rule(r"a"), Rule(r"[ab]")), ["a"])
    assert explained.problems == ("a is explained by 2 rules",)


def test_a_drop_is_reported_with_its_reason() -> None:
    explained = explanation_of(
        layout_of(Rule(r"a"), drops=(Drop(r"b", because="no part of it"),)), ["a", "b"]
    )
    assert explained.dropped == {"b": "no part of it"}
    assert not explained.problems


def test_a_drop_that_matches_nothing_is_a_problem() -> None:
    explained = explanation_of(layout_of(Rule(r"a"), drops=(Drop(r"b", because="no part of it"),)), ["a"])
    assert explained.problems == ("nothing matches b, which this layout leaves out",)


def test_the_layouts_have_names_of_their_own() -> None:
    names = [layout.name for layout in BUILT_IN]
    assert len(set(names)) == len(names)


PLUGIN = """
from densenet_convert.layout import Layout, Rule
from densenet_convert.layouts import TORCHVISION
from dataclasses import replace
from torch import nn

MINE = replace(
    TORCHVISION,
    name="mine",
    origin="a test",
    rules=(Rule(r"body\\.(.+)", r"features.\\1"), Rule(r"top\\.(.+)", r"classifier.\\1")),
    reference="my_layout:tree",
    first_conv="body.conv0.weight",
    head="top",
)

def tree(config):
    from densenet_convert.proof.references.trees import tree_of_today
    network = tree_of_today(config)
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.top = network.features, network.classifier
        def forward(self, x):
            x = nn.functional.adaptive_avg_pool2d(nn.functional.relu(self.body(x)), 1)
            return self.top(x.flatten(1))
    return Mine()
"""


def test_another_package_adds_a_layout_by_an_entry_point(tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "my_layout-1.dist-info"
    info.mkdir(parents=True)
    (site / "my_layout.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-layout\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[densenet_convert.layouts]\nmine = my_layout:MINE\n")
    state = {
        name.replace("features", "body").replace("classifier", "top"): tensor
        for name, tensor in state_dict_of().items()
    }
    save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "old.pth")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    # One process for all three: each would import torch and torchvision.
    several = (
        "import sys\nfrom densenet_convert.cli import main\n"
        "sys.exit(max(main(line.split(), standalone_mode=False) or 0 for line in sys.argv[1:]))"
    )
    arguments = ["file old.pth --jsonl --output .", "verify old --json", "export old --to mine"]
    done = subprocess.run(
        [sys.executable, "-c", several, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "old" / "conversion.json").read_text())["source"]["layout"] == "mine"
    assert '"layout": "mine"' in done.stdout
    assert done.stdout.endswith("old-mine.pth\n")
    found = torch.load(tmp_path / "old-mine.pth", weights_only=True)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    # Whoever has not the package can't verify it, and is told.
    del environment["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", several, "verify old"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "There is no layout 'mine'" in done.stderr


def test_an_entry_point_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, message in (("nowhere:X", "nowhere:X can't be imported"), ("os:sep", "os:sep is no Layout")):
        entry = EntryPoint("x", value, layouts.GROUP)
        monkeypatch.setattr(layouts, "entry_points", lambda entry=entry, **_: [entry])
        layouts.known_layouts.cache_clear()
        with pytest.raises(LayoutError, match=message):
            layouts.known_layouts()
    layouts.known_layouts.cache_clear()


def test_a_rule_adds_to_a_number_or_looks_it_up() -> None:
    shifted = Rule(r"stages\.(\d+)\.(\w+)\.weight", r"block\1.\g<2>1.\\", numbers={1: 1})
    table = Rule(r"seq\.(\d+)\.x", r"b\g<1>0", numbers={1: {"4": "1", "6": "2"}})
    names = ["stages.0.conv.weight", "stages.11.conv.weight", "seq.4.x", "seq.6.x", "seq.5.x"]
    explained = explanation_of(layout_of(shifted, table), names)
    assert list(explained.targets.values()) == ["block1.conv1.\\", "block12.conv1.\\", "b10", "b20"]
    assert explained.problems == ("seq.5.x is explained by no rule",)


def test_what_a_rule_looks_up_is_no_template() -> None:
    rule = Rule(r"(a)(b)", r"\2\1", numbers={1: {"a": r"\2\g<2>7"}})
    assert explanation_of(layout_of(rule), ["ab"]).targets == {"ab": r"b\2\g<2>7"}
