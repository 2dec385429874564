"""Every two tensors of one shape are exchanged by the real renaming, and names tell where."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from checkpoints import SMALL, checkpoint_of, in_names_of, read_as, renamed_as, state_dict_of

from densenet_convert.errors import LayoutError
from densenet_convert.layout import Rule
from densenet_convert.layouts import BUILT_IN, TORCHVISION
from densenet_convert.layouts.explain import explain
from densenet_convert.layouts.network import identify_network
from densenet_convert.proof.selftest import clean, exchanges, run
from densenet_convert.proof.selftest.clean import random_source
from densenet_convert.proof.selftest.exchanges import (
    EVAL,
    TRAINING,
    Counted,
    Renaming,
    exchanges_to_judge,
    sum_by_name,
)
from densenet_convert.proof.selftest.faults import pairs_of_one_shape, with_targets
from densenet_convert.proof.selftest.judging import Subject
from densenet_convert.proof.selftest.replay import Replay
from densenet_convert.records import Options

TINY = replace(SMALL, block_config=(1, 2))
Prepared = tuple[Subject, tuple[Renaming, tuple[Replay, Replay]]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Of a checkpoint whose counters differ, one and all."""
    scratch = tmp_path_factory.mktemp("scratch")
    checkpoint, _ = random_source(TINY, 0, scratch)
    state = state_dict_of(TINY)
    counters = {name: state[name] + i for i, name in enumerate(state) if name.endswith("tracked")}
    checkpoint = clean._with_tensors(checkpoint, {**state, **counters})
    source = checkpoint, identify_network(checkpoint, Options())
    return run._prepare(source, torch.device("cpu"), scratch)


def judged(prepared: Prepared) -> dict[str, Counted]:
    subject, exchanged = prepared
    with exchanges_to_judge(subject.loaded, *exchanged) as calls:
        return sum_by_name((name, call()) for name, call in calls)


def test_every_pair_is_known_in_eval_and_drawn_ones_in_training(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchanges, "DRAWN", 50)
    shapes = [tuple(tensor.shape) for tensor in prepared[0].loaded.renamed.tensors.values()]
    pairs = sum(a == b for i, a in enumerate(shapes) for b in shapes[:i])
    assert judged(prepared) == {
        EVAL: Counted(pairs, 0, pairs, pairs, ()),
        TRAINING: Counted(50, 0, 50, 50, ()),
    }


def test_counters_are_exchanged_where_the_source_has_them_and_equal_ones_change_nothing() -> None:
    renamed = renamed_as(TORCHVISION, checkpoint_of(state_dict_of(TINY)))
    counters = [name for name in renamed.tensors if name.endswith("tracked")]
    found = {pair for pair in pairs_of_one_shape(renamed) if pair[0] in counters}
    assert len(found) == len(counters) * (len(counters) - 1) / 2


def test_tensors_of_other_shapes_and_dtypes_are_no_pair() -> None:
    state = {**state_dict_of(TINY), "classifier.bias": torch.ones((), dtype=torch.int32)}
    renamed = renamed_as(TORCHVISION, checkpoint_of(state))
    for a, b in pairs_of_one_shape(renamed):
        assert renamed.tensors[a].shape == renamed.tensors[b].shape
        assert renamed.tensors[a].dtype == renamed.tensors[b].dtype


@pytest.mark.parametrize("layout", BUILT_IN, ids=lambda layout: layout.name)
def test_a_faulty_table_exchanges_two_names_and_no_other(layout: Any) -> None:
    names = in_names_of(layout.name, state_dict_of(TINY))
    reading = read_as(layout, names)
    targets = dict(reading.explanation.targets)
    one, other = [name for name in targets if targets[name].endswith("running_mean")][:2]
    faulty = replace(reading, layout=with_targets(reading, {one: targets[other], other: targets[one]}))
    found = explain(faulty, names, expect_drops=False).explanation
    assert found.problems == ()
    assert found.targets == {**targets, one: targets[other], other: targets[one]}
    assert found.axes == reading.explanation.axes


def test_what_the_renaming_gives_is_what_is_judged(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renaming that mended every table would be a fault that nobody saw."""
    monkeypatch.setattr(exchanges, "DRAWN", 5)

    def unchanged(reading: Any, _: object) -> Any:
        return reading.layout

    monkeypatch.setattr(exchanges, "with_targets", unchanged)
    for counted in judged(prepared).values():
        assert counted.injected == counted.caught == 0
        assert counted.nothing > 0


def test_a_table_that_loses_a_name_is_refused(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        exchanges, "with_targets", lambda reading, _: replace(reading.layout, rules=(Rule("another"),))
    )
    with pytest.raises(LayoutError, match="is explained by no rule"):
        judged(prepared)


def test_an_exchange_that_names_do_not_tell_escapes(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchanges, "DRAWN", 5)
    monkeypatch.setattr(Replay, "judge", lambda *_: {})
    for counted in judged(prepared).values():
        assert counted.caught == counted.located == 0
        assert len(counted.escaped) == counted.injected > 0
        assert counted.escaped[0].endswith(" exchanged: not caught")


def test_many_exchanges_are_spread_over_processes(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes there is pickled, and comes to the same."""
    monkeypatch.setattr(exchanges, "DRAWN", 5)
    here = judged(prepared)
    jobs: list[int] = []

    class Apart(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(fn, *pickle.loads(pickle.dumps(args)), **kwargs)

    @contextmanager
    def processes(count: int) -> Any:
        jobs.append(count)
        with Apart(1) as executor:
            yield executor

    monkeypatch.setattr(exchanges, "process_executor", processes)
    monkeypatch.setattr(exchanges, "CALLS_HERE", 0)
    assert judged(prepared) == here
    assert 1 <= jobs[0] <= exchanges.JOBS
