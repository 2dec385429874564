"""The steps of the self-test take turns by their kinds, so that their rate tells what is left."""

from __future__ import annotations

from collections import Counter
from typing import Any, NoReturn

import pytest
import torch

from densenet_convert.errors import ConvertError
from densenet_convert.proof.selftest import run
from densenet_convert.proof.selftest.steps import do_in_turn, in_turn


def test_every_part_of_the_order_has_its_share_of_each_kind() -> None:
    kinds = ["slow"] * 60 + ["fast"] * 600 + ["one"]
    order = in_turn(kinds)
    assert sorted(order) == list(range(len(kinds)))
    for part in range(1, 10):
        seen = Counter(kinds[i] for i in order[: len(kinds) * part // 10])
        assert abs(seen["slow"] - 6 * part) <= 1
        assert abs(seen["fast"] - 60 * part) <= 1


def test_what_steps_give_is_in_the_order_of_their_groups_and_what_was_left_out_is_not_there() -> None:
    def every_second(numbers: Any, _: str) -> Any:
        return numbers[::2]

    steps = [[(kind, lambda kind=kind, i=i: f"{kind}{i}") for i in range(4)] for kind in "ab"]
    assert list(do_in_turn(steps, None)) == [[(kind, f"{kind}{i}") for i in range(4)] for kind in "ab"]
    done = list(do_in_turn(steps, every_second))
    assert [[given for _, given in group] for group in done] == [["a0", "a1", "a2", "a3"], []]


def test_the_small_network_runs_with_one_thread_and_the_caller_s_are_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def fail(*_: object) -> NoReturn:
        seen.append(torch.get_num_threads())
        raise ConvertError("enough")

    monkeypatch.setattr(run, "graph_steps", lambda *_: ([], []))
    monkeypatch.setattr(run, "_prepare", fail)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ConvertError, match="enough"):
            run.run_self_test(device="cpu")
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
