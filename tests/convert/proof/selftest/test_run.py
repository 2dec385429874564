"""The catalogue of faults is caught and located, each check is scored alone, and a hole shows."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from checkpoints import SMALL, checkpoint_of, renamed_as, save, state_dict_of
from click.testing import CliRunner
from schemas import validate

from densenet_convert.api.convert import convert
from densenet_convert.cli import main
from densenet_convert.cli.documents import self_test_as_json
from densenet_convert.errors import ConvertError, ParityError
from densenet_convert.folder.open import open_folder
from densenet_convert.folder.recover import recover_checkpoint
from densenet_convert.layouts import BUILT_IN, TORCHVISION
from densenet_convert.proof import comparisons, inputs
from densenet_convert.proof.load import load_model
from densenet_convert.proof.selftest import checks, clean, exchanges, run
from densenet_convert.proof.selftest.catalogue import all_faults
from densenet_convert.proof.selftest.counting import FaultKind, SelfTest, self_test_as_text
from densenet_convert.proof.selftest.exchanges import EVAL, TRAINING
from densenet_convert.proof.selftest.faults import NETWORK, TABLE, TENSORS, Fault
from densenet_convert.proof.selftest.graph_faults import KINDS
from densenet_convert.proof.selftest.run import run_self_test
from densenet_convert.records import Loaded, Renamed
from densenet_convert.tensors import same_bits

NAMED_BY_THE_ISSUE = {
    "two tensors of one shape exchanged",
    "two tensors of a dense layer exchanged",
    "two fields of a batch norm exchanged",
    "a name dropped",
    "two names to one target",
    "axes permuted",
    "RGB and BGR exchanged",
    "classifier rows permuted",
    "epsilon of 1.001e-5",
    "max for average pooling",
    "asymmetric padding",
    "a ReLU missing",
    "a ReLU moved before its norm",
    "concatenation reversed",
    "ceil_mode",
    "dropout left in training",
    "a batch norm left in training",
    "an element moved by 1 ulp",
    "a bit flipped",
    "a tensor left at its initial value",
    "a round trip through float16",
    "a round trip through bfloat16",
    "wrong num_batches_tracked",
    "labels permuted",
    "wrong preprocessing",
    "a byte changed",
    "a file missing",
    "a file added",
}
IN_A_GRAPH = {kind.name for kind in KINDS}
OPENVINO = find_spec("openvino") is not None


# Two blocks and a transition.
TINY = replace(SMALL, block_config=(1, 2))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that takes little time, and few of the pairs that are drawn."""
    shrink(monkeypatch)


def shrink(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run, "SMALL", TINY)
    patch.setattr(exchanges, "DRAWN", 20)


@pytest.fixture(scope="module")
def proven() -> SelfTest:
    """A few of the places: the command takes more, of a larger network."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        return run_self_test(device="cpu", sites=2, clean_runs=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    counted = {n: t + 7 if n.endswith("tracked") else t for n, t in state_dict_of(TINY).items()}
    return convert(save(counted, tmp_path / "small.pth"), tmp_path / "small", device="cpu").folder


def row(proven: SelfTest, name: str) -> FaultKind:
    return next(row for row in proven.rows if row.name == name)


def test_every_fault_is_caught_and_located_without_comparing_bytes_and_no_sound_run_is_refused(
    proven: SelfTest,
) -> None:
    assert proven.escaped == ()
    assert proven.false_alarms == ()
    assert proven.holds
    for found in proven.rows:
        assert found.injected == found.caught == found.located > 0, found.name
    names = {found.name for found in proven.rows}
    assert names >= {EVAL, TRAINING, *NAMED_BY_THE_ISSUE, *IN_A_GRAPH}
    if OPENVINO:
        assert names >= {f"{kind.name}, in OpenVINO" for kind in KINDS}


def test_names_alone_tell_every_fault_of_tensors_and_network(proven: SelfTest) -> None:
    """Those of files, and those that do not load, are not theirs to judge."""
    judged = {found.name: found.checks["names"] for found in proven.rows if found.checks["names"][1]}
    assert judged.keys() > {
        EVAL,
        "another momentum",
        "wrong num_batches_tracked",
        "ceil_mode",
        "dropout added",
    }
    assert len(judged) == 28
    for name, (caught, of) in judged.items():
        assert caught == of, name


def test_bytes_agree_through_a_wrong_table_and_the_computation_does_not(proven: SelfTest) -> None:
    for name in ("two tensors of one shape exchanged", "two fields of a batch norm exchanged"):
        checks = row(proven, name).checks
        injected = row(proven, name).injected
        assert checks["bytes"] == checks["read-back"] == (0, injected)
        assert checks["layers"] == checks["names"] == checks["placement"] == (injected, injected)


def test_each_check_catches_what_another_does_not(proven: SelfTest) -> None:
    def missed(name: str, check: str) -> bool:
        caught, judged = row(proven, name).checks[check]
        return caught < judged

    assert missed("epsilon of 1.001e-5", "bytes")
    assert missed("epsilon of 1.001e-5", "placement")
    assert missed("another momentum", "layers")
    assert missed("a batch norm left in training", "gradients")
    assert row(proven, "another momentum").checks["statistics"][0] == row(proven, "another momentum").injected
    assert missed("classifier rows permuted", "statistics")


def test_what_people_use_misses_faults(proven: SelfTest) -> None:
    assert row(proven, "two tensors of one shape exchanged").peers["strict load"][0] == 0
    for peer in ("allclose", "keras-hub", "timm", "optimum", "polygraphy"):
        assert row(proven, "epsilon of 1.001e-5").peers[peer] == (0, 1)
        assert row(proven, "max for average pooling").peers[peer] == (1, 1)


def test_what_changes_nothing_is_counted_apart(proven: SelfTest) -> None:
    # Running statistics of random weights are bfloat16's already.
    assert row(proven, "a round trip through bfloat16").nothing > 0
    assert row(proven, "dropout left in training").nothing > 0


def clean_of(folder: Path) -> Loaded:
    checkpoint = recover_checkpoint(open_folder(folder))
    renamed = renamed_as(TORCHVISION, checkpoint)
    return load_model(renamed, TINY)


def test_the_catalogue_is_the_same_for_the_same_seed(folder: Path) -> None:
    clean = clean_of(folder)
    first, second, other = ([(f.name, f.where) for f in all_faults(clean, 5, seed)] for seed in (0, 0, 1))
    assert first == second != other


def test_a_fault_injects_what_it_says(folder: Path) -> None:
    clean = clean_of(folder)
    for fault in all_faults(clean, 2):
        if fault.place == TENSORS:
            changed = fault.inject(clean.renamed.tensors)
            same = all(same_bits(t, clean.renamed.tensors[n]) for n, t in changed.items())
            assert same == fault.nothing
            assert set(changed) <= fault.where
    kinds = {fault.place for fault in all_faults(clean, 2)}
    assert kinds == {TABLE, TENSORS, NETWORK}


def test_a_folder_is_proven_and_left_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "graph_steps", lambda *_: ([], []))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    proven = run_self_test(folder, device="cpu", sites=1, clean_runs=1)
    assert proven.holds, proven.escaped
    assert "layout torchvision" in proven.network
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # Its counters are 7, one and all: two of them exchanged are as before.
    counters = sum(name.endswith("tracked") for name in clean_of(folder).renamed.tensors)
    assert row(proven, EVAL).nothing == counters * (counters - 1) / 2
    assert row(proven, "wrong num_batches_tracked").injected == 1


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults of the network alone, of pairs a few, and clean runs that take no time."""

    def network_only(loaded: Loaded, sites: int) -> list[Fault]:  # noqa: ARG001
        return [f for f in all_faults(loaded, 1) if f.place == NETWORK]

    monkeypatch.setattr(
        exchanges, "pairs_of_one_shape", lambda _: [("features.norm0.bias", "features.norm0.weight")]
    )
    monkeypatch.setattr(run, "all_faults", network_only)
    monkeypatch.setattr(run, "graph_steps", lambda *_: ([], []))
    monkeypatch.setattr(run, "written_faults", lambda _: [])
    monkeypatch.setattr(run, "clean_run", lambda *_: None)


@pytest.mark.usefixtures("few")
def test_names_tell_what_no_value_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On sides that every pooling fills, ceil_mode changes no value."""
    monkeypatch.setitem(inputs.INPUTS, 2, (("eval", (1, 64, 64)), ("train", (2, 64, 96))))
    proven = run_self_test(device="cpu")
    assert proven.holds
    # The stem's pooling does not fill them.
    assert row(proven, "ceil_mode").checks["layers"] == (1, 2)
    assert row(proven, "ceil_mode").checks["names"] == (2, 2)


@pytest.mark.usefixtures("few")
def test_values_that_are_blind_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names leave open whether another operator computes the same."""

    def blind(self: object, kind: str, *_: object) -> None:
        """Compares nothing."""

    monkeypatch.setattr(comparisons.Tally, "compare", blind)
    result = CliRunner().invoke(main, ["prove", "--json", "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["status"] == "error"
    rows = {row["name"]: (row["caught"], row["injected"]) for row in document["rows"]}
    assert rows["dropout added"] == (0, 2)
    assert rows["epsilon of 1.001e-5"] == (1, 1)
    assert "faults were not caught" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("few")
def test_names_that_are_blind_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(self: object, judged: object, unknown: object = ()) -> None:
        """Notes nothing."""

    monkeypatch.setattr(checks.FirstDifferences, "judge", blind)
    proven = run_self_test(device="cpu")
    assert (row(proven, EVAL).caught, row(proven, EVAL).injected) == (0, 1)
    assert proven.escaped[0] == "features.norm0.bias and features.norm0.weight exchanged: not caught"
    assert not proven.holds


def test_a_false_alarm_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    prove = clean.prove_networks

    def alarmed(*arguments: object, seed: int = 0) -> object:
        if seed == 100:
            raise ParityError("An alarm.", where="features.conv0", largest=1.0)
        return prove(*arguments, seed=seed)  # type: ignore[arg-type]

    monkeypatch.setattr(clean, "prove_networks", alarmed)
    monkeypatch.setattr(run, "all_faults", lambda *_: [])
    monkeypatch.setattr(run, "graph_steps", lambda *_: ([], []))
    monkeypatch.setattr(run, "exchanges_to_judge", lambda *_: nullcontext([]))
    proven = run_self_test(device="cpu", clean_runs=2)
    assert [alarm.split(":")[0] for alarm in proven.false_alarms] == ["clean run 1"]
    assert not proven.holds
    assert "false alarms: 1 in 2 clean runs" in self_test_as_text(proven)


def test_clean_runs_go_through_every_layout(tmp_path: Path) -> None:
    found = [clean._another(i, Random(i), tmp_path)[1].reading.layout for i in range(len(BUILT_IN))]
    # What torchxrayvision writes bears torchvision's names.
    expected = [TORCHVISION if layout.name == "torchxrayvision" else layout for layout in BUILT_IN]
    assert found == expected


def test_a_sound_network_that_names_do_not_call_equal_is_a_false_alarm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unsure(*arguments: Any) -> Any:
        in_eval, in_training = record_sound(*arguments)
        in_training.unknown = frozenset({"gradients"})
        return in_eval, in_training

    record_sound = clean.record_sound
    monkeypatch.setattr(clean, "record_sound", unsure)
    said = clean.clean_run(0, None, torch.device("cpu"), tmp_path)
    assert said == "clean run 0: names don't tell that these are equal: gradients"


def test_the_tables_round_down_and_name_what_escaped(proven: SelfTest) -> None:
    almost = replace(proven.rows[0], injected=1000, caught=999, located=999)
    text = self_test_as_text(replace(proven, rows=(almost,), escaped=("epsilon at norm0: not caught",)))
    assert "99.9%" in text.splitlines()[4]
    assert "escaped: epsilon at norm0: not caught" in text
    assert all(len(line) <= 115 for line in self_test_as_text(proven).splitlines()[2:])


def test_the_document_holds_every_count(proven: SelfTest) -> None:
    document = json.loads(json.dumps(self_test_as_json(proven)))
    validate(document, "proof")
    assert document["schema_version"] == 1
    assert document["status"] == "proven"
    # Two conversions; and the exported network at four levels and as saved at two, by one thread and two;
    # and in OpenVINO by one thread and two.
    assert document["clean_runs"] == 2 + 6 * 2 + 2 * OPENVINO
    assert [row["name"] for row in document["rows"]] == [row.name for row in proven.rows]


@pytest.mark.usefixtures("few")
def test_the_command_prints_the_tables() -> None:
    result = CliRunner().invoke(main, ["prove", "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for said in (
        "fault ",
        "caught by each check alone",
        "by the checks that people use",
        "0 in 600 clean runs",
    ):
        assert said in result.stdout
    assert result.stderr == ""


def test_what_is_no_folder_is_refused_in_one_message(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["prove", str(tmp_path / "none"), "--json"], catch_exceptions=False)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["type"] == "FolderError"
    with pytest.raises(ConvertError, match="this is no folder"):
        run_self_test(tmp_path / "none")


def test_the_places_are_drawn_from_the_whole_network() -> None:
    torch.manual_seed(0)  # not what the catalogue is drawn from
    found = all_faults(load_model(random_renamed(), SMALL), 24)
    assert {f"denseblock{i}" for i in (1, 2, 3, 4)} <= {
        part for fault in found for name in fault.where for part in name.split(".")
    }


@pytest.mark.parametrize("eps", [1e-5, 1.001e-5])
def test_no_fault_leaves_epsilon_as_it_is(eps: float) -> None:
    clean = load_model(random_renamed(), replace(SMALL, norm_eps=eps))
    (fault,) = (fault for fault in all_faults(clean, 1) if fault.name.startswith("epsilon"))
    fault.inject(clean.model)
    assert {m.eps for m in clean.model.modules() if isinstance(m, torch.nn.BatchNorm2d)}.isdisjoint({eps})


def random_renamed() -> Renamed:
    return renamed_as(TORCHVISION, checkpoint_of(state_dict_of()))
