"""What names, shapes and files tell is refused before torch is loaded, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from checkpoints import save, state_dict_of

CODE = """
import json, sys
sys.modules["torch"] = sys.modules["torchvision"] = None  # importing either is an error
from click.testing import CliRunner
from densenet_convert.cli import main
said = []
for line in sys.stdin:
    done = CliRunner().invoke(main, line.split())
    said.append(done.stdout if "inspect" in line else done.stderr)
print(json.dumps(said))
"""
REFUSED = {
    "file resnet.pth --output new": "This is a ResNet",
    "file unknown.pth --output new": "No layout explains all",
    "file head.pth --output new": "densenet-convert file head.pth --head fooout",
    "file two.pth --output new": "densenet-convert file two.pth --key b",
    "file two.pth --output new --key c": "only under 'a', 'b'",
    "file text.pth --output new": "begins with b'hello'",
    "file none.pth --output new": "No such file or directory",
    "file small.pth --output converted": "converted exists and is of another source than small.pth",
    "file small.pth --output text.pth/new": "can't be written",
    "file small.pth --output new --arch 169": "not a densenet169",
    "file small.pth --output new --layout monai": "No layout explains all",
    "file small.pth --output new --layout monia": "There is no layout 'monia'",
    "file small.pth --output new --prefix foo.": "foo.",
    "file small.pth --output new --only foo.": "foo.",
    "file small.pth --output new --head fc": "fc",
    "file small.pth --output new --labels three.txt": "has 3 names, expected 5",
    "file small.pth --output new --labels none.txt": "none.txt can't be read",
    "file small.pth --output new --labels checkpoint": "holds no names of classes",
    "file small.pth --output new --mean 1,2": "mean is [1.0, 2.0]",
    "file small.pth --output new --license nosuch": "The license is 'nosuch'",
    "file small.pth --output new --images none": "none is no folder",
    "file small.pth --output new --outputs none.safetensors": "none.safetensors can't be read",
    "file small.pth --output new --device nonsense": "'nonsense' is no device",
    "file resnet.pth unknown.pth --output many": "This is a ResNet",
    "torchvision --arch 121 --checkpoint resnet.pth --output new": "This is a ResNet",
    "torchvision --arch 121 --weights random --output converted": "exists and was converted otherwise",
    "verify none": "this is no folder",
    "verify plain": "conversion.json is missing",
    "verify changed": "model.safetensors was changed",
    "verify converted --source none.pth": "No such file or directory",
    "verify converted --source other.pth": "is not the source of converted",
    "describe none": "this is no folder",
    "describe changed": "model.safetensors was changed",
    "describe converted --labels three.txt": "has 3 names, expected 5",
    "export none --to monai": "this is no folder",
    "export converted --to monia": "There is no layout 'monia'",
    "export converted --to monai --output text.pth": "text.pth exists",
    "push none a/b": "this is no folder",
    "push changed a/b": "model.safetensors was changed",
    "push converted a/b!": "The repository is a/b!",
    "prove none": "this is no folder",
    "inspect none.pth": "",
    "inspect resnet.pth": "This is a ResNet",
    "inspect small.pth": "densenet-convert file small.pth",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, converted: Path) -> dict[str, str]:
    """What each command says, all in one process."""
    folder = tmp_path_factory.mktemp("refused")
    state = state_dict_of()
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in torchvision.models.resnet18().state_dict().items()}
    memory = torch.zeros(max(shape.numel() for shape in shapes.values()))
    resnet = {name: memory[: shape.numel()].view(shape) for name, shape in shapes.items()}
    save(resnet, folder / "resnet.pth")
    save({n.replace("denselayer", "foolayer"): t for n, t in state.items()}, folder / "unknown.pth")
    save({n.replace("classifier", "fooout"): t for n, t in state.items()}, folder / "head.pth")
    save({"a": state, "b": state_dict_of(seed=1)}, folder / "two.pth")
    save(state, folder / "small.pth")
    save(state_dict_of(seed=1), folder / "other.pth")
    (folder / "text.pth").write_text("hello")
    (folder / "three.txt").write_text("a\nb\nc\n")
    (folder / "plain").mkdir()
    for name in ("converted", "changed"):
        (folder / name).mkdir()
        for file in converted.iterdir():
            (folder / name / file.name).write_bytes(file.read_bytes())
    weights = folder / "changed" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    commands = "\n".join(REFUSED)
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=commands, cwd=folder, capture_output=True, text=True, check=True
    )
    assert not (folder / "new").exists()
    return dict(zip(REFUSED, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("command", REFUSED)
def test_it_is_refused_without_torch(command: str, said: dict[str, str]) -> None:
    assert REFUSED[command] in said[command]
    assert "import of torch" not in said[command]
