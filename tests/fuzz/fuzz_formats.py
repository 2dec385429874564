"""Coverage-guided fuzzing of one format's reader.

    python tests/fuzz/fuzz_formats.py FORMAT FOLDER [options of libFuzzer]

FOLDER keeps the corpus; seeds are put into it first.  An input is at fault that

- raises anything but FormatError, or a message that is not one line;
- runs, imports or opens anything, seen by an audit hook;
- gives other tensors than torch.load(weights_only=True) or safetensors, where they take it too;
- takes longer than -timeout or more than -rss_limit_mb.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["densenet_convert.formats"]):
    from densenet_convert.formats.recognise import read_content
    from densenet_convert.formats.untrusted import FormatError

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
FORBIDDEN = {
    "compile",
    "exec",
    "import",
    "open",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.system",
    "socket.connect",
    "subprocess.Popen",
}
reading = False


def refuse_to_run(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: stops what a reader never does."""
    if reading and event in FORBIDDEN:
        raise SystemError(f"the reader caused {event} {arguments}")


def check(data: bytes) -> None:
    """Reads one input, and holds what was read against the libraries."""
    global reading
    reading = True
    try:
        content = read_content(bytearray(data))
        found = {
            name: (raw.dtype, raw.shape, bytes(raw.row_major())) for name, raw in content.tensors.items()
        }
    except FormatError as error:
        reading = False
        if "\n" in str(error) or "weights_only" in str(error):
            raise AssertionError(str(error)) from error
        return
    finally:
        reading = False
    expected = load(data, content.format, content.container)
    if expected is not None:
        assert found == {name: described(tensor) for name, tensor in expected.items()}


# What torch or safetensors may be asked about.
LOADED = ("torch-zip", "torch-legacy", "torch-tar", "pickle", "safetensors")


def load(data: bytes, format_name: str, container: str | None) -> dict[str, Tensor] | None:
    """What the library makes of the same bytes; None where it takes them not, or not as a dict of tensors."""
    if format_name not in LOADED:
        return None
    try:
        if format_name == "safetensors":
            return safetensors.torch.load(data)
        content = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        for key in container.split(".") if container else ():
            content = content[key if isinstance(content, dict) and key in content else int(key)]
    except Exception:
        assert format_name != "safetensors"
        return None
    plain = isinstance(content, dict) and all(
        type(value) in (Tensor, nn.Parameter) for value in content.values()
    )
    return content if plain else None


def described(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    """Dtype, shape, and bytes in row-major order."""
    flat = tensor.detach().contiguous().reshape(-1)
    octets = flat.view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), octets


def check_alone(data: bytes) -> None:
    """Reads one input that no library is asked about: to load it there would run what it holds."""
    global reading
    reading = True
    try:
        for raw in read_content(bytearray(data)).tensors.values():
            raw.row_major()
    except FormatError as error:
        reading = False
        if "\n" in str(error) or "weights_only" in str(error):
            raise AssertionError(str(error)) from error
    finally:
        reading = False


def state() -> dict[str, Tensor]:
    """A little of everything: dtypes, strides, views, ties, nothing."""
    flat = torch.arange(24, dtype=torch.float32)
    return {
        "conv.weight": flat.view(2, 3, 2, 2).to(memory_format=torch.channels_last),
        "norm.weight": flat[3:6],
        "tied": flat[3:6],
        "half": torch.ones(2, 2, dtype=torch.bfloat16).t(),
        "norm.num_batches_tracked": torch.tensor(7),
        "empty": torch.empty(0, 3),
    }


class Averaging:
    """What training code writes itself, and saves whole."""

    def __init__(self, network: nn.Module) -> None:
        self.ema, self.decay = network, 0.9


def torch_files(*, legacy: bool) -> Iterator[bytes]:
    """What torch.save makes of state dicts, containers and modules, in all protocols."""
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    contents = [
        state(),
        {"state_dict": state(), "epoch": 3, "args": complex(1, 2)},
        module,
        {"a": {1, 2}, "n": module},
        [3, {0: state(), "ema": Averaging(module)}],
        {"models": [state(), {"w": torch.ones(2, 2)}], "adam": {"state": {}, "param_groups": []}},
    ]
    for content in contents:
        for protocol in range(6) if legacy else (2, 4):
            file = io.BytesIO()
            torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
            yield file.getvalue()


class OnDevice:
    """What torch pickles of a tensor of a device without storages."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        array, dtype = self.tensor.float().numpy(), self.tensor.dtype
        return torch._utils._rebuild_device_tensor_from_numpy, (array, dtype, "xla:0", False)


def pickles() -> Iterator[bytes]:
    """State dicts of numpy arrays, and of tensors, as plain pickles."""
    for dtype in (torch.float32, torch.bfloat16):
        yield pickle.dumps({"w": OnDevice(torch.ones(2, 2, dtype=dtype))}, 2)
    arrays = {name: tensor.float().numpy() for name, tensor in state().items()}
    arrays["big"] = arrays["norm.weight"].astype(">f4")
    for protocol in range(6):
        yield pickle.dumps(arrays, protocol)
        yield pickle.dumps({"model": {"a": torch.ones(2)}, "n": arrays["big"][0]}, protocol)


def tars() -> Iterator[bytes]:
    """torch's format of 2016, by the project's own corpus."""
    import corpus

    with tempfile.TemporaryDirectory() as folder:
        for make in corpus.SOUND.values():
            made = make(Path(folder))
            if made.format == "torch-tar":
                yield made.path.read_bytes()


def safe_files() -> Iterator[bytes]:
    """What safetensors writes."""
    tensors = {name: tensor.clone().contiguous() for name, tensor in state().items()}
    yield safetensors.torch.save(tensors)
    yield safetensors.torch.save(tensors, {"format": "pt"})


def keras_files() -> Iterator[bytes]:
    """Weights as Keras 2 lists them, and as Keras 3 puts them by their place."""
    import h5py

    for legacy in (True, False):
        file = io.BytesIO()
        with h5py.File(file, "w") as root:
            if legacy:
                root.attrs["layer_names"] = [b"conv", b"bn"]
                for layer, names in (("conv", ["conv/kernel:0"]), ("bn", ["bn/gamma:0", "bn/beta:0"])):
                    root.create_group(layer).attrs["weight_names"] = [name.encode() for name in names]
                    for name in names:
                        root[layer].create_dataset(name, data=state()["norm.weight"].numpy())
            else:
                variables = root.create_group("layers/conv2d/vars")
                variables.attrs["name"] = "conv"
                variables.create_dataset("0", data=state()["conv.weight"].contiguous().numpy())
        yield file.getvalue()


def numpy_files() -> Iterator[bytes]:
    """Arrays by name, stored and deflated, and dicts in a single array of objects."""
    arrays = {name: tensor.float().numpy() for name, tensor in state().items()}
    nested = np.array({"model": arrays}, dtype=object)
    for save, values, named in (
        (np.savez, (), arrays),
        (np.savez_compressed, (), arrays),
        (np.savez, (), {"state": nested}),
        (np.save, (arrays,), {}),
        (np.save, (np.asfortranarray(arrays["conv.weight"][0, 0]),), {}),
    ):
        file = io.BytesIO()
        save(file, *values, **named)
        yield file.getvalue()


def check_in_npz(data: bytes) -> None:
    """Puts an array into a sound zip: no mutation would ever hit the sum of the records."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", data)
    check_alone(file.getvalue())


def packed_files() -> Iterator[bytes]:
    """Checkpoints as gzip, of one member and of several."""
    for data in (*torch_files(legacy=True), next(numpy_files())):
        yield gzip.compress(data)
        yield gzip.compress(data[:99]) + gzip.compress(data[99:])


def check_packed(data: bytes) -> None:
    """Reads gzip as it is, and what it would hold."""
    check_alone(data)
    check_alone(gzip.compress(data, 1))


class Scripted(nn.Module):
    """A program small enough to be mutated."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def programs() -> Iterator[bytes]:
    """The pickles within TorchScript archives."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Scripted()), file)
    with zipfile.ZipFile(file) as archive:
        yield next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))


def check_program(data: bytes) -> None:
    """Puts a pickle into a sound archive of TorchScript."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/constants.pkl", b"\x80\2).")
        for key in range(7):
            archive.writestr(f"a/data/{key}", bytes(8 if key == 6 else 4))
    check_alone(file.getvalue())


def exports() -> Iterator[bytes]:
    """How ``.pt2`` archives describe their weights."""
    sides = [{"as_int": 2}, {"as_int": 1}]
    meta = {"dtype": 7, "sizes": sides, "strides": sides[::-1], "storage_offset": {"as_int": 0}}
    one = {"path_name": "w", "use_pickle": False, "tensor_meta": meta}
    yield json.dumps({"config": {"a.weight": one, "tied": one}}).encode()


def check_export(data: bytes) -> None:
    """Puts a description into a sound archive of ``torch.export``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data/weights/model_weights_config.json", data)
        archive.writestr("a/data/weights/w", bytes(16))
    check_alone(file.getvalue())


def foreign_files() -> Iterator[bytes]:
    """How files of other libraries begin."""
    yield b"\x08\x08\x12\x07pytorch:\x05\x0a\x03abcB\x02\x10\x11"
    yield b"\x0a\x0cDENSENET_121\xa2\x06\x02\x0a\x00"
    yield b"\x0a\x08\x0a\x01a\x12\x03abc"
    yield b"\x1c\0\0\0TFL3" + bytes(20)
    yield b"\x80\2cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81."


def check_in_keras_zip(data: bytes) -> None:
    """Puts an HDF5 file into a sound zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", data)
    check(file.getvalue())


def data_pickles() -> Iterator[bytes]:
    """The pickles within torch's zips."""
    for data in torch_files(legacy=False):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive.read("archive/data.pkl")


def check_data_pickle(data: bytes) -> None:
    """Puts a pickle into a sound zip: no mutation would ever hit the sum of the records."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", data)
        for key in RECORDS:
            archive.writestr(f"a/data/{key}", RECORDS[key])
    check(file.getvalue())


def records() -> dict[str, bytes]:
    """The storages of ``state()``."""
    file = io.BytesIO()
    torch.save(state(), file)
    with zipfile.ZipFile(file) as archive:
        return {
            name.rpartition("/")[2]: archive.read(name) for name in archive.namelist() if "/data/" in name
        }


RECORDS = records()
TARGETS: dict[str, tuple[Callable[[], Iterator[bytes]], Callable[[bytes], None]]] = {
    "torch-zip": (lambda: torch_files(legacy=False), check),
    "torch-zip-pickle": (data_pickles, check_data_pickle),
    "torch-legacy": (lambda: torch_files(legacy=True), check),
    "torch-tar": (tars, check),
    "pickle": (pickles, check),
    "safetensors": (safe_files, check),
    "keras-h5": (keras_files, check),
    "keras": (keras_files, check_in_keras_zip),
    "numpy": (numpy_files, check_alone),
    "npz": (numpy_files, check_in_npz),
    "gzip": (packed_files, check_packed),
    "torchscript": (programs, check_program),
    "pt2": (exports, check_export),
    "foreign": (foreign_files, check_alone),
}


def main() -> None:
    name, folder, *options = sys.argv[1:]
    seeds, target = TARGETS[name]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (Path(folder) / f"seed-{number}").write_bytes(seed)
    warnings.simplefilter("ignore")
    sys.addaudithook(refuse_to_run)
    atheris.Setup([sys.argv[0], folder, *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
