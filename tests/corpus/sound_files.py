"""Sound files: as torch, numpy and safetensors write them, and by hand as their old versions did."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import gzip
import hashlib
import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import safetensors.torch
import torch
from checkpoints import StateDict
from torch import Tensor, nn

from corpus.opcodes import (
    FALSE,
    KIND,
    NONE,
    ORDERED,
    TRUE,
    Net,
    Tar,
    array,
    call,
    dict_,
    global_,
    json_of,
    many,
    module_by_hand,
    named,
    number,
    numbers,
    plain,
    python_2,
    safe,
    safe_parts,
    tar_header,
    tar_of,
    tarred,
    text,
    with_more,
)
from corpus.registry import (
    BIAS,
    ONES,
    Made,
    float_network,
    module,
    network,
    network_of_2017,
    numpy_network,
    optimizer,
    raw,
    saved,
    sound_case,
)

for _protocol in range(1, 6):
    sound_case(f"zip, protocol {_protocol}", "torch-zip")(
        lambda protocol=_protocol: saved(network(), protocol=protocol)
    )
    sound_case(f"legacy, protocol {_protocol}", "torch-legacy")(
        lambda protocol=_protocol: saved(network(), protocol=protocol, legacy=True)
    )
for _protocol in range(6):
    sound_case(f"plain pickle, protocol {_protocol}", "pickle")(
        lambda protocol=_protocol: pickle.dumps(network(), protocol)
    )
    sound_case(f"numpy arrays, protocol {_protocol}", "pickle")(
        lambda protocol=_protocol: pickle.dumps(numpy_network(), protocol)
    )


# How torch and its users spell a state dict; what is saved, and the tensors that it holds.
def flat_views() -> StateDict:
    parts = list(float_network().values())
    flat = torch.cat([part.flatten() for part in parts])
    views = flat.split([part.numel() for part in parts])
    return {
        name: view.view(part.shape) for name, view, part in zip(float_network(), views, parts, strict=True)
    }


def stridden(change: Callable[[Tensor], Tensor], dimensions: int) -> StateDict:
    return {name: change(value) if value.dim() == dimensions else value for name, value in network().items()}


def with_attributes(kind: type) -> StateDict:
    changed = {name: kind(value.clone()) for name, value in float_network().items()}
    for value in changed.values():
        value.note = "pruned"
    return changed


SPELLINGS: dict[str, Callable[[], StateDict]] = {
    "with _metadata": lambda: module().state_dict(),
    "parameters": lambda: {name: nn.Parameter(value) for name, value in float_network().items()},
    "parameters that keep attributes": lambda: with_attributes(nn.Parameter),
    "tensors that keep attributes": lambda: with_attributes(torch.Tensor.clone),
    "views of one flat storage": flat_views,
    "transposed": lambda: stridden(lambda value: value.t().contiguous().t(), 2),
    "channels_last": lambda: stridden(lambda value: value.to(memory_format=torch.channels_last), 4),
    "sliced": lambda: stridden(lambda value: torch.cat([value, value, value])[1::2][: len(value)], 1),
    "tied": lambda: network() | {"tied.weight": network()["classifier.weight"]},
    "empty tensors": lambda: network() | {"a.none": torch.zeros(0), "b.none": torch.zeros(3, 0, 2)},
    "a zero in a dimension, any stride": lambda: network() | {"none": torch.zeros(8)[:0].expand(5, 0)},
    "stride 0 over one": lambda: network() | {"one": torch.ones(3, 1).as_strided((3, 1), (1, 0))},
    **{
        str(dtype).removeprefix("torch."): functools.partial(float_network, dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float64)
    },
}
for _name, _spell in SPELLINGS.items():
    for _kind in ("zip", "legacy"):
        sound_case(f"{_kind}, {_name}", f"torch-{_kind}")(
            lambda spell=_spell, legacy=_kind == "legacy": (saved(spell(), legacy=legacy), spell())
        )

# Whole modules: the class is a name in the file, and need not exist.
WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "module": lambda made: made,
    "DataParallel": nn.DataParallel,
    "training": lambda made: made.train(),
}
for _name, _wrap in WRAPS.items():
    for _kind, _save in {
        "torch-zip": saved,
        "torch-legacy": functools.partial(saved, legacy=True),
        "pickle": functools.partial(pickle.dumps, protocol=4),
    }.items():
        sound_case(f"{_kind}, {_name}", _kind)(
            lambda save=_save, wrap=_wrap: (save(module(wrap)), dict(module(wrap).state_dict()))
        )
        sound_case(f"{_kind}, {_name} under a key", _kind, "model")(
            lambda save=_save, wrap=_wrap: (
                save({"epoch": 3, "model": module(wrap)}),
                dict(module(wrap).state_dict()),
            )
        )


def net_of_module(legacy: bool) -> Made:
    net = Net(legacy=legacy)
    net.storages.clear()

    def identify(class_: bytes) -> bytes:
        if not legacy:
            return class_
        return many(text("module"), class_, text("/home/a/models.py"), text("class DenseNet: ...")) + b"Q"

    tree = module_by_hand(lambda value: call("torch.nn.parameter.Parameter", net.v2(value)), identify)
    net.pickled = lambda: b"\x80\x02" + tree + b"."
    return net.file(), network_of_2017()


sound_case("zip, module of a lost class", "torch-zip")(lambda: net_of_module(False))
sound_case("legacy, module of a lost class", "torch-legacy")(lambda: net_of_module(True))


# Old and foreign spellings, by hand.
def view_of_storage(net: Net, value: Tensor) -> bytes:
    """A storage that is a part of another, from the second element on."""
    data = bytes(4) + raw(value) + bytes(8)
    net.storage(data)
    view = many(text(f"{net.last} view"), number(1), number(value.numel()))
    return net.v2(value, storage=net.id(net.last, KIND[value.dtype], len(data) // 4, view))


def rebuilt_2016(net: Net, value: Tensor) -> bytes:
    return net.v2(value, function="torch._utils._rebuild_tensor", flags=())


STATE_OF_2017 = many(TRUE, FALSE, ORDERED)
TENSORS: dict[str, Callable[[Net, Tensor], bytes]] = {
    "_rebuild_tensor": rebuilt_2016,
    "_rebuild_parameter": lambda net, value: call(
        "torch._utils._rebuild_parameter", net.v2(value), TRUE, ORDERED
    ),
    "Parameter of torch 0.3": lambda net, value: (
        call("torch.nn.parameter.Parameter", rebuilt_2016(net, value)) + STATE_OF_2017 + b"b"
    ),
    "Variable of torch 0.3": lambda net, value: (
        call("torch.autograd.variable.Variable", rebuilt_2016(net, value)) + STATE_OF_2017 + b"b"
    ),
    "Variable of torch 0.1": lambda net, value: (
        global_("torch.autograd.variable.Variable")
        + b")\x81"
        + many(rebuilt_2016(net, value), NONE, ORDERED, TRUE, FALSE)
        + b"b"
    ),
    "FloatTensor of torch 0.1": lambda net, value: (
        net.v2(value, function=global_(f"torch.{KIND[value.dtype]}Tensor") + b")R", flags=())[:-1] + b"b"
    ),
    "sizes as torch.Size": lambda net, value: net.v2(value).replace(
        numbers(value.shape), call("torch.Size", numbers(value.shape)), 1
    ),
    "metadata that says nothing": lambda net, value: net.v2(value, b"}"),
}
for _name, _tensor in TENSORS.items():
    for _kind in ("zip", "legacy"):
        sound_case(f"{_kind}, {_name}", f"torch-{_kind}")(
            lambda legacy=_kind == "legacy", tensor=_tensor: (
                Net(legacy=legacy, tensor=tensor, state=network_of_2017()).file(),
                network_of_2017(),
            )
        )
BY_HAND: dict[str, Callable[[], Net]] = {
    "storage views": lambda: Net(legacy=True, tensor=view_of_storage),
    "saved on a GPU": lambda: Net(legacy=True, module="torch.cuda", location="cuda:0"),
    "zip saved on a GPU": lambda: Net(module="torch.cuda", location="cuda:1"),
    "strings of Python 2": lambda: Net(legacy=True, string=python_2),
    "long strings of Python 2": lambda: Net(
        legacy=True, string=lambda value: b"T" + struct.pack("<i", len(value)) + value.encode()
    ),
    "quoted strings of Python 2": lambda: Net(legacy=True, string=lambda value: f"S'{value}'\n".encode()),
    "zip by hand": Net,
    "legacy by hand": lambda: Net(legacy=True),
}
for _name, _build in BY_HAND.items():
    sound_case(_name, "torch-zip" if "zip" in _name else "torch-legacy")(
        lambda build=_build: (build().file(), network() if not build().legacy else network_of_2017())
    )


def changed_net(**changes: Any) -> bytes:
    net = Net()
    vars(net).update(changes)
    return net.file()


@sound_case("zip, big-endian", "torch-zip")
def _() -> Made:
    net = Net()
    net.byteorder = b"big"
    for key, (size, count, data) in net.storages.items():
        net.storages[key] = (size, count, np.frombuffer(data, f"u{size}").byteswap().tobytes())
    return net.file()


for _kind in ("zip", "legacy"):

    @sound_case(f"{_kind}, a tensor put by hand", f"torch-{_kind}")
    def _(kind: str = _kind) -> Made:
        """What every attack begins with."""
        net = Net(legacy=kind == "legacy", state=network_of_2017())
        net[BIAS] = net.v2(ONES)
        return net.file(), network_of_2017() | {BIAS: ONES}


def rezipped(compression: int, *, sink: type[io.BytesIO] = io.BytesIO, **how: Any) -> bytes:
    file = sink()
    source = zipfile.ZipFile(io.BytesIO(saved(network())))
    with zipfile.ZipFile(file, "w", compression) as target:
        for name in source.namelist():
            with target.open(name, "w", **how) as record:
                record.write(source.read(name))
    return file.getvalue()


class Pipe(io.BytesIO):
    """Can't be gone back in: a zip's sizes come after the data."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError

    seek = tell


sound_case("zip, no byte order", "torch-zip")(lambda: changed_net(byteorder=b""))
for _top in ("densenet121-a639ec97", "weights (1).tar", "poids d'été"):
    sound_case(f"zip, top folder {_top}", "torch-zip")(lambda top=_top: changed_net(top=top))
sound_case("zip, deflated", "torch-zip")(lambda: rezipped(zipfile.ZIP_DEFLATED))
sound_case("zip, stored anew", "torch-zip")(lambda: rezipped(zipfile.ZIP_STORED))
sound_case("zip, zip64 headers", "torch-zip")(lambda: rezipped(zipfile.ZIP_STORED, force_zip64=True))
sound_case("zip, deflated through a pipe", "torch-zip")(lambda: rezipped(zipfile.ZIP_DEFLATED, sink=Pipe))


@sound_case("legacy, written on a big-endian machine", "torch-legacy")
def _() -> Made:
    """torch turns the elements of legacy files to little-endian wherever it writes them."""
    parts = Net(legacy=True).legacy_parts()
    parts[2] = pickle.dumps({"protocol_version": 1001, "little_endian": False, "type_sizes": {}}, 2)
    return b"".join(parts), network_of_2017()


sound_case("zip, a state dict of numpy arrays", "torch-zip", "params")(
    lambda: saved({"params": numpy_network()}, protocol=4)
)


# Containers and what stands beside a state dict.
NESTED: dict[str, Callable[[StateDict], object]] = {
    "state_dict": lambda state: {"epoch": 3, "arch": "densenet121", "state_dict": state, "best_acc1": 0.7},
    "model": lambda state: {"model": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": torch.tensor(0.3)},
    "net": lambda state: {"net": state, "acc": 95.1, "epoch": 3},
    "checkpoint.model": lambda state: {"checkpoint": {"model": state, "step": 3}, "args": None},
    "a.b.c": lambda state: {"a": {"b": {"c": state}}},
    "a.b.c.d.e": lambda state: {"a": {"b": {"c": {"d": {"e": state}}}}},
    "0": lambda state: {0: state, "best": 0.9},
    "1": lambda state: [3, state],
    "models.0": lambda state: {"models": (state, {"state": {}, "param_groups": [{"lr": 0.1}]})},
}
for _container, _nest in NESTED.items():
    for _kind in ("zip", "legacy"):
        sound_case(f"{_kind}, under {_container}", f"torch-{_kind}", _container)(
            lambda nest=_nest, legacy=_kind == "legacy": saved(nest(network()), legacy=legacy)
        )
sound_case("zip, one dict under two keys", "torch-zip", "state_dict")(
    lambda: saved({"state_dict": network(), "model": network()})
)
sound_case("legacy, one dict under two keys", "torch-legacy", "net")(
    lambda: saved({"net": network(), "ema": network()}, legacy=True)
)


class Mode(enum.Enum):
    """A class of one's own, as scripts have them."""

    TRAIN = "train"


def circle() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


NEIGHBOURS: dict[str, Callable[[], object]] = {
    "Namespace": lambda: argparse.Namespace(lr=0.1, milestones=[30, 60]),
    "defaultdict": lambda: collections.defaultdict(list, {"loss": [0.5, 0.25]}),
    "deque": lambda: collections.deque([1.0, 2.0], maxlen=20),
    "Counter": lambda: collections.Counter("aab"),
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset({"a"}),
    "enum": lambda: Mode.TRAIN,
    "path": lambda: PurePosixPath("/data/chest"),
    "datetime": lambda: datetime.datetime(2017, 11, 14, 12, tzinfo=datetime.timezone.utc),
    "partial": lambda: functools.partial(nn.BatchNorm2d, eps=1e-3),
    "numpy scalar": lambda: [np.float64(0.9), np.float32(1), np.int64(3), np.bool_(True)],
    "numpy array": lambda: {"confusion": np.eye(3), "names": np.array(["a", "b"])},
    "random states": lambda: [random.Random(0).getstate(), torch.get_rng_state(), np.random.RandomState(0)],
    "torch's own": lambda: [torch.float16, torch.device("cpu"), torch.Size([2]), torch.strided],
    "numbers and slices": lambda: [1 << 70, -(1 << 1000), 1j, slice(1, 2), range(3), b"b", bytearray(b"c")],
    "itself": circle,
    "uint16": lambda: torch.arange(5).to(torch.uint16),
    "tensors": lambda: [torch.ones(2, dtype=torch.int8), torch.ones(2, dtype=torch.complex64)],
    "optimizer": optimizer,
    "criterion": nn.CrossEntropyLoss,
    "recursion": lambda: functools.reduce(lambda inner, _: [inner], range(200), 0),
}
for _name, _beside in NEIGHBOURS.items():
    sound_case(f"zip, beside: {_name}", "torch-zip", "state_dict")(
        lambda beside=_beside: saved({"extra": beside(), "state_dict": network(), "again": beside()})
    )
    if _name != "uint16":  # torch.save writes it, but torch.load can't read it
        sound_case(f"legacy, beside: {_name}", "torch-legacy", "model")(
            lambda beside=_beside: saved({"model": network(), "extra": beside()}, legacy=True, protocol=4)
        )


@sound_case("zip, Lightning", "torch-zip", "state_dict")
def _() -> Made:
    net = Net(state={f"model.{name}": value for name, value in network().items()})
    attributes = global_("pytorch_lightning.utilities.parsing.AttributeDict") + b")\x81"
    moments = {name: net.v2(torch.ones(3)) for name in ("step", "exp_avg", "exp_avg_sq")}
    callback = named(best_model_score=net.v2(torch.tensor(0.5)), best_model_path=text("/a.ckpt"))
    groups = plain([{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1]}])
    adam = named(state=dict_((number(0), named(**moments))), param_groups=groups)
    net.container = "state_dict"
    net.beside = [
        (text("epoch"), number(3)),
        (text("pytorch-lightning_version"), text("1.9.0")),
        (text("loops"), plain({"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}})),
        (text("callbacks"), dict_((text("ModelCheckpoint{'monitor': None}"), callback))),
        (text("optimizer_states"), b"]" + adam + b"a"),
        (text("lr_schedulers"), b"]"),
        (text("hparams_name"), text("kwargs")),
        (text("hyper_parameters"), named(attributes, lr=plain(0.1), net=global_("lost_project.nets.Net"))),
    ]
    return net.file(), {f"model.{name}": value for name, value in network().items()}


# numpy, as its versions spell it.
def numpy_of_python_2(string: Callable[[bytes], bytes]) -> Made:
    entries = []
    for name, value in network_of_2017().items():
        dtype = call("numpy.dtype", python_2("f4"), number(0), number(1))
        dtype += many(number(3), python_2("<"), NONE, NONE, NONE, number(-1), number(-1), number(0)) + b"b"
        made = call(
            "numpy.core.multiarray._reconstruct", global_("numpy.ndarray"), numbers([0]), python_2("b")
        )
        state = many(number(1), numbers(value.shape), dtype, FALSE, string(raw(value)))
        entries.append((python_2(name), made + state + b"b"))
    return b"\x80\x02" + dict_(*entries) + b".", network_of_2017()


ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "Fortran order": lambda array: np.array(array, order="F"),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran order, big-endian": lambda array: array.astype(array.dtype.newbyteorder(">"), order="F"),
    "not contiguous": lambda array: np.repeat(array, 2, axis=0)[::2] if array.ndim else array,
    "scalars": lambda array: array if array.ndim else array[()],
}
for _name, _arrange in ARRAYS.items():
    for _protocol in (0, 2, 4, 5):
        sound_case(f"numpy, {_name}, protocol {_protocol}", "pickle")(
            lambda arrange=_arrange, protocol=_protocol: pickle.dumps(
                {name: arrange(value) for name, value in numpy_network().items()}, protocol
            )
        )
sound_case("numpy, Python 2", "pickle")(lambda: numpy_of_python_2(python_2))
sound_case("numpy, Python 2, protocol 0", "pickle")(
    lambda: numpy_of_python_2(lambda data: b"S" + repr(data)[1:].encode() + b"\n")
)


# What the arrays to be refused begin with.
sound_case("numpy, an array by hand", "pickle")(
    lambda: (with_more(numpy_network(), array()), network() | {"more": ONES})
)


# What other devices, tools and numpy make of a state dict.
class OnDevice:
    """What torch pickles of a tensor of a device without storages: XLA's, Habana's."""

    def __init__(self, tensor: Tensor, function: str) -> None:
        self.tensor, self.function = tensor, function

    def __reduce__(self) -> tuple[Any, ...]:
        tensor = self.tensor if "cpu_tensor" in self.function else self.tensor.numpy()
        return getattr(torch._utils, self.function), (tensor, self.tensor.dtype, "xla:0", False)


for _function in ("_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor"):
    for _kind in ("zip", "legacy"):
        sound_case(f"{_kind}, by {_function}", f"torch-{_kind}")(
            lambda legacy=_kind == "legacy", function=_function: saved(
                {name: OnDevice(value, function) for name, value in network().items()}, legacy=legacy
            )
        )


def with_digest(data: bytes, mark: bytes, *, first: bool) -> bytes:
    digest = hashlib.sha1(data).digest()
    return data + (mark + digest if first else digest + mark)


for _kind in ("zip", "legacy"):
    sound_case(f"{_kind}, a digest appended", f"torch-{_kind}")(
        lambda legacy=_kind == "legacy": with_digest(saved(network(), legacy=legacy), b"SHA1", first=False)
    )
    sound_case(f"{_kind}, a mark and a digest appended", f"torch-{_kind}")(
        lambda legacy=_kind == "legacy": with_digest(saved(network(), legacy=legacy), b"\0sum:", first=True)
    )
    sound_case(f"{_kind}, in gzip", f"torch-{_kind}")(
        lambda legacy=_kind == "legacy": gzip.compress(saved(network(), legacy=legacy))
    )


def of_numpy(save: Callable[..., None], *values: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *values, **named)
    return file.getvalue()


sound_case("numpy's npz", "npz")(lambda: of_numpy(np.savez, **numpy_network()))
sound_case("numpy's npz, deflated", "npz")(lambda: of_numpy(np.savez_compressed, **numpy_network()))
sound_case("numpy's npz, big-endian", "npz")(
    lambda: of_numpy(
        np.savez, **{name: ARRAYS["big-endian"](value) for name, value in numpy_network().items()}
    )
)
sound_case("numpy's npz of a dict", "npz", "state")(
    lambda: of_numpy(np.savez, state=np.array(numpy_network(), dtype=object), epoch=3)
)
sound_case("numpy's npy of a dict", "npy")(lambda: of_numpy(np.save, numpy_network()))
sound_case("numpy's npy in gzip", "npy")(lambda: gzip.compress(of_numpy(np.save, numpy_network())))


# Tars of 2016.
def tar_views() -> Tar:
    tar = Tar()
    flat = torch.cat([value.flatten() for value in network_of_2017().values()])
    root, start, entries = 77, 3, []
    tar.storages.append((root, "Float", len(flat) + 3, bytes(12) + raw(flat)))
    for name, value in network_of_2017().items():
        target = 78 + start
        tar.views.append((target, root, start - 1, value.numel() + 1))
        entries.append((text(name), tar.put(value, storage=target, offset=1)))
        start += value.numel()
    tar.root = dict_(*entries, start=ORDERED)
    return tar


def tar_module() -> Tar:
    tar = Tar()

    def identify(class_: bytes) -> bytes:
        return many(class_, text("/home/a/models.py"), text("class DenseNet(nn.Module): ...\n")) + b"Q"

    def parameter(value: Tensor) -> bytes:
        state = many(tar.put(value), NONE, ORDERED, TRUE, FALSE)
        return global_("torch.nn.parameter.Parameter") + b")\x81" + state + b"b"

    tar.root = module_by_hand(parameter, identify)
    return tar


def sound_tar(name: str, build: Callable[[], Tar], mtime: float = 0) -> None:
    sound_case(f"tar, {name}", "torch-tar")(
        lambda: (tarred(build().parts().items(), mtime=mtime), network_of_2017())
    )


sound_tar("a state dict", tar_of)
sound_tar("PAX headers", tar_of, 1475000000.25)
sound_tar("storage views", tar_views)
sound_tar("a module whole", tar_module)
sound_tar(
    "parameters", lambda: tar_of(lambda tar, value: call("torch.nn.parameter.Parameter", tar.put(value)))
)


sound_case("tar, a header by hand", "torch-tar")(lambda: (tar_header(tar_of()), network_of_2017()))


# safetensors.
@sound_case("safetensors, shuffled", "safetensors")
def _() -> Made:
    names = random.Random(0).sample(sorted(network()), len(network()))
    header, data = safe_parts(names)
    return safe(dict(sorted(header.items())), data)


sound_case("safetensors", "safetensors")(lambda: safetensors.torch.save(network()))
sound_case("safetensors, metadata", "safetensors")(
    lambda: safetensors.torch.save(network(), {"format": "pt", "by": "timm"})
)
for _dtype in (torch.float16, torch.bfloat16, torch.float64):
    sound_case(f"safetensors, {_dtype}", "safetensors")(
        lambda dtype=_dtype: (safetensors.torch.save(float_network(dtype)), float_network(dtype))
    )
sound_case("safetensors, padded header", "safetensors")(
    lambda: safe(json_of(safe_parts()[0]) + b" " * 5, safe_parts()[1])
)
