"""Makes every message that troubleshooting.md quotes, and runs every command that it shows.

    python docs/messages.py [PAGE]      # with the extra [test]; minutes on two cores

Under each heading of the page a comment names a function of this file.  It makes the files and gives the
messages; the page's ``python`` blocks are run and give more, its ``console`` blocks are run and their output
is compared.  In what the page quotes, ``...`` stands for anything, and line breaks for spaces.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import http.server
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

os.environ["KERAS_BACKEND"] = "torch"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune, weight_norm

CLASSES = 5
Messages = Iterator[str]
StateDict = dict[str, torch.Tensor]


def message_of(call: Callable[[], Any]) -> str:
    """As Python prints it at the end of a traceback."""
    try:
        call()
    except Exception as error:  # whatever it is that people see
        module = type(error).__module__
        name = type(error).__name__ if module == "builtins" else f"{module}.{type(error).__name__}"
        return f"{name}: {error}"
    raise AssertionError("nothing went wrong")


def trained(model: nn.Module) -> nn.Module:
    """Moves all weights from where they were drawn, as training does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.rand_like(parameter) + 0.5)
    return model


def network(classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    return trained(torchvision.models.densenet121(num_classes=classes))


def dotted(state_dict: StateDict, *, counted: bool = False) -> StateDict:
    """As torchvision 0.2 named them; torch counts batches since 0.4.1."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): tensor
        for name, tensor in state_dict.items()
        if counted or not name.endswith("num_batches_tracked")
    }


def load(file: str, into: nn.Module, key: str | None = None, **options: Any) -> str:
    content = torch.load(file, **options)
    return message_of(lambda: into.load_state_dict(content[key] if key else content))


def save_2017(content: object, file: str) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


class CheXNet(nn.Module):
    """Tensors under ``densenet121``, the head in a Sequential of its own."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.densenet121 = network()
        self.densenet121.classifier = nn.Sequential(trained(nn.Linear(1024, classes)), nn.Sigmoid())


def save_chexnet(file: str) -> nn.Module:
    model = nn.DataParallel(CheXNet(14))
    save_2017({"epoch": 1, "state_dict": dotted(model.state_dict()), "optimizer": {}}, file)
    return model


def names_of_2017() -> Messages:
    save_2017(dotted(network().state_dict()), "densenet121.pth")
    yield load("densenet121.pth", network())


def dotted_module() -> Messages:
    save_2017(dotted(network().state_dict()), "densenet121.pth")
    yield message_of(lambda: nn.Module().add_module("norm.1", nn.BatchNorm2d(64)))


def counters() -> Messages:
    save_2017(dotted(network().state_dict(), counted=True), "densenet121.pth")
    # torchvision.models.densenet._load_state_dict, for its own address.
    pattern = re.compile(
        r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
    )
    state_dict = torch.load("densenet121.pth")
    for name in list(state_dict):
        if match := pattern.match(name):
            state_dict[match.group(1) + match.group(2)] = state_dict.pop(name)
    yield message_of(lambda: network().load_state_dict(state_dict))


def chexnet() -> Messages:
    model = save_chexnet("model.pth.tar")
    yield load("model.pth.tar", network(14), "state_dict")
    yield load("model.pth.tar", model, "state_dict")


def data_parallel() -> Messages:
    torch.save(nn.DataParallel(network()).state_dict(), "parallel.pth")
    torch.save(network().state_dict(), "plain.pth")
    yield load("plain.pth", nn.DataParallel(network()))
    yield load("parallel.pth", network())


def container() -> Messages:
    content = {"epoch": 90, "arch": "densenet121", "state_dict": network().state_dict(), "best_acc1": 0.7}
    torch.save({**content, "optimizer": {}}, "checkpoint.pth.tar")
    averaged = {
        name: tensor / 2 if tensor.is_floating_point() else tensor
        for name, tensor in network().state_dict().items()
    }
    torch.save({"state_dict": network().state_dict(), "ema": averaged}, "averaged.pth")
    yield load("checkpoint.pth.tar", network())


def part() -> Messages:
    class Matting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.densenet = network()
            self.decoder = nn.Conv2d(8, 8, 3)

    class Reid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = network().features
            self.classifier = trained(nn.Linear(1024, 625))

    torch.save(Matting().state_dict(), "matting.pth")
    torch.save(Reid().state_dict(), "reid.pth.tar")
    yield load("matting.pth", network())
    yield load("reid.pth.tar", network())


def other_libraries() -> Messages:
    import torchxrayvision
    from monai.networks.nets import DenseNet121

    monai = trained(DenseNet121(spatial_dims=2, in_channels=3, out_channels=CLASSES))
    torch.save(monai.state_dict(), "monai.pth")
    torch.save(network().state_dict(), "densenet121.pth")
    chest = torchxrayvision.models.DenseNet(num_classes=18, in_channels=1, op_threshs=torch.rand(18))
    torch.save(chest.state_dict(), "nih.pt")
    named = {name.replace("norm5", "norm_final"): tensor for name, tensor in network().state_dict().items()}
    torch.save(named, "efficient.dat")
    yield load("monai.pth", network())
    yield load("densenet121.pth", monai)
    yield load("nih.pt", network(18))
    yield load("efficient.dat", network())


def classes() -> Messages:
    torch.save(network().state_dict(), "flowers.pth")
    yield load("flowers.pth", network(1000))


def not_strict() -> Messages:
    save_2017(dotted(network().state_dict()), "densenet121.pth")
    save_chexnet("model.pth.tar")
    yield from ()


def weights_only() -> Messages:
    import timm

    state_dict = network().state_dict()
    torch.save(network(), "whole.pth")
    torch.save({"state_dict": state_dict, "best": np.float64(0.7)}, "scalar.pth")
    torch.save({"state_dict": state_dict, "args": argparse.Namespace(lr=0.1)}, "trainer.pth")
    torch.save(state_dict, "protocol-4.pth", pickle_protocol=4)
    for file in ("whole.pth", "scalar.pth", "trainer.pth", "protocol-4.pth"):
        yield message_of(functools.partial(torch.load, file))
    yield message_of(lambda: timm.create_model("densenet121", checkpoint_path="whole.pth"))


def whole_modules() -> Messages:
    class DenseNet121(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.densenet121 = network()

    DenseNet121.__qualname__ = "DenseNet121"
    # A module that was there when the file was written, and is not when it is read.
    for home in ("models", "__main__"):
        DenseNet121.__module__ = home
        module = sys.modules.setdefault(home, types.ModuleType(home))
        module.DenseNet121 = DenseNet121  # type: ignore[attr-defined]
        torch.save(DenseNet121(), f"{home}.pth")
        del module.DenseNet121  # type: ignore[attr-defined]
    del sys.modules["models"]
    for file in ("models.pth", "__main__.pth"):
        yield message_of(functools.partial(torch.load, file, weights_only=False))
    torch.save(network(), "whole.pth")
    yield load("whole.pth", network(), weights_only=False)


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes text and bytes as Python 2 did, which had one type for both."""

    def save_text(self, text: str | bytes) -> None:
        if id(text) in self.memo:
            self.write(self.get(self.memo[id(text)][0]))
            return
        data = text.encode("latin-1") if isinstance(text, str) else text
        short = len(data) < 256
        self.write(
            (pickle.SHORT_BINSTRING if short else pickle.BINSTRING)
            + len(data).to_bytes(1 if short else 4, "little")
            + data
        )
        self.memoize(text)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, str: save_text, bytes: save_text}  # type: ignore[attr-defined]


def python_2() -> Messages:
    arrays = {name: tensor.numpy() for name, tensor in network().state_dict().items()}
    with Path("python2.pkl").open("wb") as file:
        Python2Pickler(file, protocol=2).dump(arrays)
    yield message_of(lambda: pickle.loads(Path("python2.pkl").read_bytes()))
    yield message_of(lambda: torch.load("python2.pkl", weights_only=False))


def load_keys() -> Messages:
    Path("page.pth").write_text("<!DOCTYPE html>\n<html><title>Sign in</title></html>\n")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 32342954\n"
    Path("pointer.pth").write_text(pointer)
    torch.save(network().state_dict(), "densenet121.pth")
    Path("packed.pth").write_bytes(gzip.compress(Path("densenet121.pth").read_bytes(), 1))
    save_keras("keras.h5")
    Path("keras.h5").rename("keras.pth")
    for file in ("page.pth", "pointer.pth", "packed.pth", "keras.pth"):
        yield message_of(functools.partial(torch.load, file, weights_only=False))
        yield message_of(functools.partial(torch.load, file))


def computed() -> Messages:
    warnings.simplefilter("ignore", FutureWarning)
    for file, compute in (
        ("pruned.pth", lambda layer: prune.l1_unstructured(layer, "weight", 0.3)),
        ("normed.pth", weight_norm),
    ):
        changed = network()
        compute(changed.classifier)
        torch.save(changed.state_dict(), file)
        yield load(file, network())


def cut() -> Messages:
    torch.save(network().state_dict(), "whole.pth")
    save_2017(network().state_dict(), "whole-legacy.pth")
    for whole, short in (("whole.pth", "cut.pth"), ("whole-legacy.pth", "cut-legacy.pth")):
        data = Path(whole).read_bytes()
        Path(short).write_bytes(data[: len(data) // 2])
        yield message_of(functools.partial(torch.load, short))


def wrong_hash() -> Messages:
    name = "densenet121-a639ec97.pth"
    save_2017(dotted(network(1000).state_dict()), name)
    with served() as address, contextlib.redirect_stdout(io.StringIO()):
        download = functools.partial(
            torch.hub.load_state_dict_from_url,
            f"{address}/{name}",
            model_dir="fresh",
            check_hash=True,
            progress=False,
        )
        yield message_of(download)
    # What a download without the check, or a copy, leaves behind.
    cached = Path("torch/hub/checkpoints")
    cached.mkdir(parents=True)
    Path(name).rename(cached / name)


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The working folder, on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def no_gpu() -> Messages:
    known = torch.serialization._package_registry
    torch.serialization.register_package(0, lambda _: "cuda:0", lambda _, __: None)
    torch.save(network().state_dict(), "gpu.pth")
    known[:] = [entry for entry in known if entry[0] != 0]
    yield message_of(lambda: torch.load("gpu.pth"))


def with_timm() -> Messages:
    import timm

    save_2017(dotted(network().state_dict()), "flowers.pth")
    yield message_of(
        lambda: timm.create_model("densenet121", num_classes=CLASSES, checkpoint_path="flowers.pth")
    )


def with_transformers() -> Messages:
    from transformers import AutoModelForImageClassification

    torch.save(network().state_dict(), "flowers.pth")
    for folder, config in (("plain", {}), ("named", {"model_type": "densenet"})):
        Path(folder).mkdir()
        Path(folder, "config.json").write_text(json.dumps(config))
        torch.save(network().state_dict(), f"{folder}/pytorch_model.bin")
        yield message_of(functools.partial(AutoModelForImageClassification.from_pretrained, folder))


def save_keras(file: str) -> None:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.DenseNet121(weights=None, classes=14, classifier_activation="sigmoid")
    draw = np.random.default_rng(0).uniform
    model.set_weights([weight * draw(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    model.save(file)


def keras_layers() -> Messages:
    import keras

    save_keras("chexnet.h5")
    yield message_of(
        lambda: keras.applications.DenseNet121(
            include_top=False, weights="chexnet.h5", input_shape=(224, 224, 3)
        )
    )


def keras_format() -> Messages:
    import keras

    torch.save(network(1000).state_dict(), "densenet121.pth")
    yield message_of(lambda: keras.applications.DenseNet121(weights="densenet121.pth"))


# The rest reads the page.

SECTION = re.compile(r"^### (?P<heading>.+)\n\n<!-- (?P<name>\w+) -->\n(?P<body>[^\0]*?)(?=^##|\Z)", re.M)
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>[^\0]*?)^```$", re.M)


def says(quoted: str, found: str) -> bool:
    """Whether the quotation is of what was found, as a whole or, of a heading, a part of it."""
    pattern = ".*".join(map(re.escape, " ".join(quoted.split()).split("...")))
    return re.fullmatch(pattern, " ".join(found.split())) is not None


def check_console(text: str, environment: dict[str, str]) -> Iterator[str]:
    for command, expected in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", text, re.M):
        result = subprocess.run(
            command, shell=True, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if not says(expected, result.stdout):
            yield f"$ {command}\n{result.stdout}"


def run_python(text: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, "troubleshooting.md", "exec"), {})
    return printed.getvalue()


def check(heading: str, name: str, body: str, folder: Path) -> Iterator[str]:
    """What is wrong with one section."""
    blocks = [(block["language"], block["text"]) for block in BLOCK.finditer(body)]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TORCH_HOME": str(folder / "torch"),
        "PYTHONWARNINGS": "ignore",
    }
    os.chdir(folder)
    messages = list(globals()[name]())
    messages += [run_python(text) for language, text in blocks if language == "python"]
    for language, text in blocks:
        if language == "text" and not any(says(text, message) for message in messages):
            yield f"not said: {text}"
        if language == "console":
            yield from check_console(text, environment)
    for message in messages:
        if not any(says(text, message) for language, text in blocks if language == "text"):
            yield f"not on the page: {message[:2000]}"
    everything = " ".join(" ".join([body, *messages]).split())
    for _, code in re.findall(r"(`+) ?(.+?) ?\1(?!`)", heading):
        if code not in everything:
            yield f"only the heading has: {code}"


def main(page: Path) -> int:
    warnings.simplefilter("ignore")
    wrong = 0
    sections = list(SECTION.finditer(page.read_text()))
    for section in sections:
        with tempfile.TemporaryDirectory() as folder:
            problems = list(check(**section.groupdict(), folder=Path(folder)))
        sys.stdout.write(f"{'wrong' if problems else 'right'}  {section['name']}\n")
        sys.stdout.writelines(f"    {problem}\n" for problem in problems)
        sys.stdout.flush()
        wrong += bool(problems)
    sys.stdout.write(f"{len(sections) - wrong} sections right, {wrong} wrong\n")
    return 1 if wrong or not sections else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("troubleshooting.md")))
