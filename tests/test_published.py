"""The whole way, through the real client and a Hub on loopback: convert, push, and load in every library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL, in_2017_names, save, state_dict_of
from hub_server import TOKEN, running_hub
from huggingface_hub import constants

import densenet_convert as dc
from densenet_convert.densenet import ARCHITECTURES
from densenet_convert.folder.files import file_sha256

NAME = "user/densenet121"
SCRIPT = "from densenet_convert.cli import run; run()"
LABELS = [f"finding {i}" for i in range(7)]

# Each library is given the name alone.  Largest differences from our own network, and what else was found.
LOAD = """
import io, json, sys, warnings
warnings.simplefilter("ignore")
from contextlib import redirect_stdout
import numpy, timm, torch, torchvision
from huggingface_hub import hf_hub_download
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, pipeline
from densenet_convert.densenet import DenseNet

name = sys.argv[1]
printed = io.StringIO()
with redirect_stdout(printed):
    ours = DenseNet.from_pretrained(name)
x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 4 - 2
torchvisions = torchvision.models.densenet121(num_classes=7).eval()
torchvisions.load_state_dict(load_file(hf_hub_download(name, "model.safetensors")))
timms = timm.create_model(f"hf-hub:{name}", pretrained=True).eval()
wrapped, info = AutoModelForImageClassification.from_pretrained(name, output_loading_info=True)
wrapped.eval()
drawn = numpy.random.default_rng(0).integers(0, 256, (333, 450, 3), dtype=numpy.uint8)
image = Image.fromarray(drawn)
preset = torchvision.models.DenseNet121_Weights.IMAGENET1K_V1.transforms()
classify = pipeline("image-classification", model=name, top_k=7)
with torch.no_grad():
    expected = ours(x)
    scores = ours(preset(image)[None])[0].sigmoid()
    found = {
        "torchvision": torchvisions(x),
        "timm": timms(x),
        "transformers": wrapped(pixel_values=x).logits,
    }
told = {one["label"]: one["score"] for one in classify(image)}
labels = timms.pretrained_cfg["label_names"]
print(json.dumps({
    "differences": {library: (logits - expected).abs().max().item() for library, logits in found.items()},
    "keys": {k: sorted(map(str, info[f"{k}_keys"])) for k in ("missing", "unexpected", "mismatched")},
    "printed": printed.getvalue(),
    "scores": max(abs(told[label] - score) for label, score in zip(labels, scores.tolist())),
    "labels": labels,
}))
"""


def run(script: str, environment: dict[str, str], *arguments: object) -> str:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chest network as people have them: torchvision's DenseNet-121 of 2017 with a head of its own."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "names.txt").write_text("\n".join(LABELS))
    config = replace(ARCHITECTURES["densenet121"], num_classes=7)
    return save(in_2017_names(state_dict_of(config)), folder / "chest.pth")


def test_what_was_pushed_is_loaded_by_its_name_in_every_library_without_a_difference(
    source: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    named = ("--labels", source.parent / "names.txt", "--multi-label")
    with running_hub() as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "home", TOKEN)}
        run(SCRIPT, environment, "file", source, "--output", tmp_path / "chest", *named)
        run(SCRIPT, environment, "push", tmp_path / "chest", "--repo-id", NAME, "--license", "mit")
        # Whoever loads it has no token.
        loading = {**os.environ, **hub.environment(tmp_path / "another home")}
        found: dict[str, Any] = json.loads(run(LOAD, loading, NAME))
        assert found["differences"] == {"torchvision": 0, "timm": 0, "transformers": 0}
        assert set(map(tuple, found["keys"].values())) == {()}
        assert found["printed"] == ""
        assert found["labels"] == LABELS
        # Sigmoids, on torchvision's picture: a softmax over seven, or another picture, is far from that.
        assert found["scores"] < 1e-6
        hub.asked.clear()
        offline = {**loading, "HF_HUB_OFFLINE": "1"}
        assert json.loads(run(LOAD, offline, NAME)) == found
        assert hub.asked == []


def test_large_files_go_through_xet_where_the_client_can_be_given_a_local_store(tmp_path: Path) -> None:
    hf_xet = pytest.importorskip("hf_xet", reason="hf_xet is not installed")
    if not hasattr(hf_xet, "hash_files") or not hasattr(constants, "HF_HUB_DISABLE_XET"):
        pytest.skip("this client has no xet, or does not say what its store calls a file")
    source = save(in_2017_names(state_dict_of(SMALL)), tmp_path / "old.pth")
    weights = dc.convert(source, tmp_path / "new").folder / "model.safetensors"
    with running_hub() as hub:
        digest = file_sha256(weights)
        hub.xet = f"local://{tmp_path / 'store'}"
        hub.xet_hashes[digest] = hf_xet.hash_files([str(weights)])[0].hash
        # What is sent to the store the server does not see; of its own copy no byte is asked for.
        hub.stored[digest] = weights.read_bytes()
        environment = {**os.environ, **hub.environment(tmp_path / "home", TOKEN)}
        push = ("push", weights.parent, "--repo-id", "user/small", "--license", "mit", "--json")
        command = [sys.executable, "-c", SCRIPT, *map(str, push)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if "local://" in done.stderr:
            pytest.skip(f"this hf_xet takes no local store: {done.stderr}")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "published"
        asked = [path for _, path in hub.asked]
        assert any("xet-write-token" in path for path in asked)
        assert any("xet-read-token" in path for path in asked)
        assert not any(path.startswith(("/lfs/", "/stored/")) for path in asked)
