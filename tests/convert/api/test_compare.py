"""compare takes whatever holds a network, asks for what is unclear, and repairs what loses nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import StateDict, in_names_of, save, state_dict_of
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from schemas import validate

import densenet_convert as dc
from densenet_convert.api.compare import compare
from densenet_convert.cli import main
from densenet_convert.errors import FolderError, LayoutError, ReadError, RepairError, SeveralError

STATE = state_dict_of()
STEM, HEAD = "features.conv0.weight", "classifier.weight"
NORMS = ("features.denseblock1.denselayer1.norm2", "features.denseblock2.denselayer1.norm2")


def exchanged(state: StateDict, classes: int = 5) -> StateDict:
    """Two norms exchanged, BGR for RGB, and a head of its own."""
    one, other = NORMS
    names = {name: name.replace(one, "?").replace(other, one).replace("?", other) for name in state}
    generator = torch.Generator().manual_seed(1)
    head = {
        name: torch.randn(classes, *state[name].shape[1:], generator=generator)
        for name in (HEAD, "classifier.bias")
    }
    return {**{name: state[names[name]] for name in state}, STEM: state[STEM].flip(1), **head}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


@pytest.fixture
def suspect(tmp_path: Path) -> Path:
    return save(exchanged(STATE), tmp_path / "suspect.pth")


def test_a_folder_is_what_it_was_converted_from(converted: Path) -> None:
    assert compare(converted, converted.parent / "source.pth").same
    assert run(converted, converted.parent / "source.pth").exit_code == 0


def test_a_folder_that_was_changed_is_refused(converted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(converted, tmp_path / "changed"))
    save_file({**STATE, STEM: STATE[STEM] + 1}, folder / "model.safetensors")
    with pytest.raises(FolderError, match=r"disagrees with its conversion\.json: features\.conv0\.weight"):
        compare(folder, converted)


def test_no_torch_is_needed(source: Path, suspect: Path) -> None:
    code = (
        "import sys; import densenet_convert as dc; found = dc.compare(*sys.argv[1:]); "
        "assert not found.same; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, source, suspect], check=True)


def test_of_several_state_dicts_those_that_are_meant_are_asked_for(tmp_path: Path, source: Path) -> None:
    averaged = {
        name: tensor * 1.5 if tensor.is_floating_point() else tensor for name, tensor in STATE.items()
    }
    path = save({"raw": STATE, "ema": averaged, "scores": {"a": torch.zeros(2)}}, tmp_path / "run.ckpt")
    with pytest.raises(SeveralError) as raised:
        compare(source, path)
    _, *calls = str(raised.value).splitlines()
    assert calls == [f"dc.compare({str(source)!r}, {str(path)!r}, key_b={key!r})" for key in ("raw", "ema")]
    assert eval(calls[0]).same
    with pytest.raises(SeveralError) as raised:
        compare(path, path)
    assert str(raised.value).splitlines()[1:] == [
        f"dc.compare({str(path)!r}, {str(path)!r}, key_a='raw', key_b='ema')"
    ]
    with pytest.raises(SeveralError, match=r"key_a='ema', key_b='raw'\)$"):
        compare(path, path, key_a="ema")
    shown = run(path, path)
    assert (shown.exit_code, f"compare {path} {path} --key-a raw --key-b ema" in shown.stderr) == (1, True)
    assert run(path, path, "--key-a", "raw", "--key-b", "ema").exit_code == 4


def test_a_network_within_something_larger_is_compared(tmp_path: Path, source: Path) -> None:
    larger = {f"model.net.{name}": tensor for name, tensor in STATE.items()}
    path = save({**larger, "decoder.weight": torch.rand(3, 4)}, tmp_path / "larger.pth")
    assert [one.cause for one in compare(source, path).differences] in ([], ["head"])


def test_what_both_state_of_their_function_and_images_is_compared(converted: Path, tmp_path: Path) -> None:
    save_file(in_names_of("keras-applications", STATE), tmp_path / "keras.safetensors")
    (epsilon,) = compare(converted, tmp_path / "keras.safetensors").differences
    assert (epsilon.cause, epsilon.names) == ("epsilon", ("norm_eps",))
    assert "A states norm_eps 1e-05 and B 1.001e-05" in epsilon.text
    folders = [Path(shutil.copytree(converted, tmp_path / name)) for name in ("one", "two")]
    for folder, mean in zip(folders, (0.4, 0.5), strict=True):
        dc.describe(folder, mean=mean, std=0.5)
    (images,) = compare(*folders).differences
    assert (images.cause, images.names) == ("preprocessing", ("mean",))


@pytest.mark.parametrize(
    ("content", "expected"), [({"a": torch.zeros(3)}, LayoutError), (b"junk", ReadError)]
)
def test_what_is_no_densenet_is_an_error(content: Any, expected: type, tmp_path: Path, source: Path) -> None:
    path = tmp_path / "other.pth"
    save(content, path) if isinstance(content, dict) else path.write_bytes(content)
    for pair in ((source, path), (path, source), (path, path)):
        with pytest.raises(expected):
            compare(*pair)


def test_a_folder_of_nobody_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ReadError, match=r"is a folder without model\.safetensors"):
        compare(source, tmp_path)


def test_the_document_is_as_its_schema_says(source: Path, suspect: Path) -> None:
    shown = run(source, suspect, "--json")
    document = json.loads(shown.stdout)
    validate(document, "comparison")
    assert (shown.exit_code, document["status"], document["same"]) == (4, "different", False)
    assert {one["cause"] for one in document["differences"]} == {"exchanged", "channels", "head"}
    validate(json.loads(run(source, source, "--json").stdout), "comparison")


def test_text_and_markdown_say_the_same(source: Path, suspect: Path) -> None:
    text, markdown = run(source, suspect, "-v").stdout, run(source, suspect, "--markdown").stdout
    said = f"{NORMS[0]} and {NORMS[1]} are exchanged as a whole."
    assert f"  exchanged   {said}\n" in text
    assert f"- *exchanged*: {said}\n" in markdown
    assert "| classifier | 2 | 0% |" in markdown
    assert "  features.conv0 " in text
    assert run(source, suspect, "-q").stdout == ""
    assert run(source, suspect, "--json", "--markdown").exit_code == 2


@pytest.mark.parametrize("layout", ["torchvision-dotted", "keras-applications"])
def test_a_repair_gives_every_tensor_of_a_and_keeps_the_head_of_b(
    layout: str, converted: Path, tmp_path: Path
) -> None:
    path = tmp_path / "suspect.safetensors"
    save_file({name: one.clone() for name, one in in_names_of(layout, exchanged(STATE, 7)).items()}, path)
    a = converted.parent / "source.pth"
    shown = run(a, path, "--repair", tmp_path / "mended", "--device", "cpu", "--json")
    assert (shown.exit_code, json.loads(shown.stdout)["status"]) == (0, "repaired")
    receipt = json.loads((tmp_path / "mended" / "conversion.json").read_text())
    validate(receipt)
    steps = [step["step"] for step in receipt["rewrites"]]
    assert (steps.count("exchanged"), steps.count("entries-reordered")) == (8, 1)
    assert [one.cause for one in compare(a, tmp_path / "mended").differences] == ["head"]
    assert receipt["config"]["num_classes"] == 7
    for source in (None, path):
        dc.verify(tmp_path / "mended", source=source, device="cpu")
    outcomes = list(dc.convert_many([path], tmp_path / "many", device="cpu"))
    assert outcomes[0].status == "converted"


def test_a_repair_of_a_folder_keeps_its_labels_and_card(converted: Path, tmp_path: Path) -> None:
    suspect = save(exchanged(STATE), tmp_path / "suspect.pth")
    names = ["a", "b", "c", "d", "e"]
    folder = dc.convert(
        suspect, tmp_path / "suspect", labels=names, license="mit", mean=0.5, device="cpu"
    ).folder
    written = compare(converted, folder, repair=tmp_path / "mended", device="cpu").repaired
    assert written is not None
    assert json.loads((written.folder / "config.json").read_text())["label_names"] == names
    assert written.receipt["card"]["license"] == "mit"
    assert written.receipt["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    dc.verify(written.folder, source=folder / "model.safetensors", device="cpu")


def test_what_has_names_of_nobody_is_repaired_by_its_digests(source: Path, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in exchanged(STATE, 3).items() if "classifier" in name}
    state = {**STATE, **state}
    kernels = {name: one.permute(2, 3, 1, 0) if one.ndim == 4 else one for name, one in state.items()}
    save({f"t{i}": tensor for i, tensor in enumerate(kernels.values())}, tmp_path / "b.pth")
    found = compare(source, tmp_path / "b.pth", repair=tmp_path / "mended", device="cpu")
    assert [one.cause for one in found.differences] == ["renamed", "axes", "head"]
    assert torch.equal(
        dc.densenet.DenseNet.from_pretrained(tmp_path / "mended").classifier.weight, state[HEAD]
    )


def test_what_can_t_be_converted_can_t_be_repaired(source: Path, tmp_path: Path) -> None:
    numbered = save(in_names_of("numbered", exchanged(STATE)), tmp_path / "numbered.pth")
    with pytest.raises(RepairError, match=r"Convert it first, and repair the folder\. .*`final_relu=True`"):
        compare(source, numbered, repair=tmp_path / "mended", device="cpu")
    (tmp_path / "there").mkdir()
    with pytest.raises(FolderError, match="Name another `repair=...`"):
        compare(source, numbered, repair=tmp_path / "there", device="cpu")


def test_what_was_trained_is_not_repaired(source: Path, tmp_path: Path) -> None:
    trained = {
        name: one * 1.01 if "norm1" in name and one.numel() > 1 else one for name, one in STATE.items()
    }
    cases = {
        "trained on": exchanged(trained),
        "one bit": {
            **exchanged(STATE),
            "features.norm5.bias": torch.nextafter(STATE["features.norm5.bias"], torch.tensor(9.0)),
        },
    }
    for state in cases.values():
        with pytest.raises(RepairError, match="B can't be made A without a loss: "):
            compare(source, save(state, tmp_path / "b.pth"), repair=tmp_path / "mended", device="cpu")
    with pytest.raises(RepairError, match="There is nothing to repair"):
        compare(source, source, repair=tmp_path / "mended", device="cpu")
    assert not (tmp_path / "mended").exists()
