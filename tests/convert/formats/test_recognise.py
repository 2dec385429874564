"""Whatever a file is made of, its tensors are read bit for bit; whatever is done to it, none wrong."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import subprocess
import sys
import tempfile
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from corpus import SOUND
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from densenet_convert.formats.raw import DTYPES
from densenet_convert.formats.recognise import read_content
from densenet_convert.formats.untrusted import FormatError

Described = dict[str, tuple[str, tuple[int, ...], bytes]]
VIEWS = st.sampled_from(["as it is", "transposed", "sliced", "strided", "channels last"])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
STATES = st.dictionaries(
    NAMES, st.tuples(SHAPES, st.sampled_from(sorted(DTYPES)), VIEWS), min_size=1, max_size=5
)
CONTAINERS = st.sampled_from([(), ("state_dict",), ("checkpoint", "model")])
# What the installed safetensors can save; older ones know fewer dtypes.
SAFE = {str(dtype).removeprefix("torch.") for dtype in safetensors.torch._TYPES.values()}
MUTANTS = 400


# Half complex numbers are an experiment of torch's, as it says.
pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support")


def made(shape: tuple[int, ...], name: str, view: str) -> Tensor:
    """A view of noise, which begins behind the first element of its storage."""
    dtype: torch.dtype = getattr(torch, name)
    count = torch.Size(shape).numel()
    noise = torch.randint(0, 256, ((2 * count + 64) * dtype.itemsize,), dtype=torch.uint8)
    whole = noise.remainder(2).bool() if dtype == torch.bool else noise.view(dtype)
    strides = torch.empty(shape, device="meta").stride()
    if view == "strided":
        return whole.as_strided(shape, [2 * stride for stride in strides], 1)
    if view == "channels last" and len(shape) == 4:
        strides = torch.empty(shape, device="meta", memory_format=torch.channels_last).stride()
    tensor = whole.as_strided(shape, strides, 3)
    if view == "transposed":
        return tensor.permute(tuple(reversed(range(len(shape)))))
    return tensor[1:] if view == "sliced" and shape else tensor


def octets(tensor: Tensor) -> bytes:
    flat = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor).reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def described(tensors: dict[str, Tensor]) -> Described:
    return {n: (str(t.dtype).removeprefix("torch."), tuple(t.shape), octets(t)) for n, t in tensors.items()}


def read(data: bytes) -> Described:
    tensors = read_content(bytearray(data)).tensors
    return {name: (raw.dtype, raw.shape, bytes(raw.row_major())) for name, raw in tensors.items()}


def saved(content: object, *, legacy: bool, protocol: int = 2) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


class Careful(pickle.Unpickler):
    """Calls nothing but what makes tensors and arrays."""

    def find_class(self, module: str, name: str) -> Any:
        known = ("_reconstruct", "ndarray", "dtype", "OrderedDict", "encode", "_frombuffer")
        if name in known or name.endswith(("Storage", "Tensor", "_rebuild_tensor")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(name)


CAREFUL: Any = types.ModuleType("careful")
CAREFUL.Unpickler = Careful
CAREFUL.load = lambda file, **_: Careful(file).load()


def usual(format_name: str, data: bytes) -> Any:
    """What the usual reader makes of the bytes; None where it refuses them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if format_name == "safetensors":
                return safetensors.torch.load(data)
            if format_name == "pickle":
                return {
                    name: torch.from_numpy(value) for name, value in Careful(io.BytesIO(data)).load().items()
                }
            if format_name == "npz":
                return {name: torch.from_numpy(value) for name, value in np.load(io.BytesIO(data)).items()}
            if format_name == "npy":
                # The header, and then a pickle of an array that holds the dict.
                body = io.BytesIO(data[10 + int.from_bytes(data[8:10], "little") :])
                return {name: torch.from_numpy(value) for name, value in Careful(body).load().item().items()}
            if format_name == "gzip":
                data = gzip.decompress(data)
            if format_name == "torch-tar":
                with tempfile.TemporaryFile() as file:  # torch tries a tar only where there is a file
                    file.write(data)
                    file.seek(0)
                    return torch.load(file, weights_only=False, pickle_module=CAREFUL)
            return torch.load(io.BytesIO(data), weights_only=True)
    except Exception:
        return None


@settings(deadline=None)
@given(STATES, st.booleans(), st.integers(2, 5), CONTAINERS)
def test_what_torch_saves_is_read_bit_for_bit(
    states: dict[str, Any], legacy: bool, protocol: int, container: tuple[str, ...]
) -> None:
    state = {name: made(*how) for name, how in states.items()}
    content: Any = state
    for key in reversed(container):
        content = {"epoch": 3, key: content}
    data = saved(content, legacy=legacy, protocol=protocol)
    assert list(read(data).items()) == list(described(state).items())
    assert read_content(bytearray(data)).container == (".".join(container) or None)
    elsewhere = usual("torch", data)
    for key in container if elsewhere else ():
        elsewhere = elsewhere[key]
    assert elsewhere is None or list(described(elsewhere).items()) == list(read(data).items())


@pytest.mark.parametrize("legacy", [True, False])
def test_an_empty_slice_is_read_whatever_its_offset(legacy: bool) -> None:
    state = {"w": torch.empty(3, 3, 0)[1:]}
    assert read(saved(state, legacy=legacy)) == described(state)


@settings(deadline=None)
@given(STATES)
def test_what_safetensors_saves_is_read_bit_for_bit(states: dict[str, Any]) -> None:
    kept = {n: how for n, how in states.items() if n != "__metadata__" and how[1] in SAFE}
    state = {name: made(*how).contiguous().clone() for name, how in kept.items()}
    data = safetensors.torch.save(state, {"format": "pt"})
    assert not state or read(data) == described(state) == described(safetensors.torch.load(data))


def small_state() -> dict[str, Tensor]:
    return {"conv.weight": torch.rand(3, 2, 2, 2), "norm.bias": torch.rand(5), "norm.count": torch.tensor(7)}


def arrays() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in small_state().items()}


def of_numpy(save: Callable[..., None], *values: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *values, **named)
    return file.getvalue()


def tar(folder: Path) -> bytes:
    return SOUND["tar, a state dict"](folder).path.read_bytes()


MAKERS: dict[str, Callable[[Path], bytes]] = {
    "torch-zip": lambda _: saved(small_state(), legacy=False),
    "torch-legacy": lambda _: saved(small_state(), legacy=True),
    "torch-tar": tar,
    "pickle": lambda _: pickle.dumps({"w": np.arange(24.0).reshape(2, 3, 4), "n": np.arange(7)}, 2),
    "safetensors": lambda _: safetensors.torch.save(small_state()),
    "npz": lambda _: of_numpy(np.savez, **arrays()),
    "npy": lambda _: of_numpy(np.save, arrays()),
    "gzip": lambda _: gzip.compress(saved(small_state(), legacy=True), 1),
}
# A mutant of these that is read holds what it held, for they have sums.
WITH_SUMS = ("torch-zip", "npz", "gzip")


def mutants(data: bytes, draw: random.Random) -> list[bytes]:
    """Cut, shortened, grown, doubled, exchanged, flipped, and with another number at some place."""
    changed = []
    for _ in range(MUTANTS):
        length = draw.randrange(1, 40)
        at, other = sorted(draw.randrange(len(data)) for _ in range(2))
        one, two = data[at : at + length], data[other : other + length]
        swapped = data[:at] + two + data[at + length : other] + one + data[other + length :]
        flipped = bytes([data[at] ^ 1 << draw.randrange(8)])
        number = draw.choice([0, 1, -1, 2**31, 2**63 - 1]).to_bytes(8, "little", signed=True)
        changed += [
            data[:at],
            data[:at] + data[at + 1 :],
            data[:at] + data[at + length :],
            data[:at] + flipped + data[at:],
            data[:at] + one + data[at:],
            swapped if other - at >= length and len(two) == length else data[:at],
            data[:at] + flipped + data[at + 1 :],
            data[:at] + number + data[at + 8 :],
        ]
    return changed


@pytest.mark.parametrize("format_name", MAKERS)
def test_a_mutant_is_refused_or_read_as_the_usual_reader_reads_it(tmp_path: Path, format_name: str) -> None:
    """And where a format has sums, a mutant that is read holds the sound tensors."""
    data = MAKERS[format_name](tmp_path)
    sound, refused = read(data), 0
    assert described(usual(format_name, data)) == sound
    for mutant in mutants(data, random.Random(0)):
        try:
            found = read(mutant)
        except FormatError as raised:
            refused += 1
            if not (message := str(raised)).isprintable():
                pytest.fail(message)
            continue
        if found != sound:
            assert format_name not in WITH_SUMS
            expected = usual(format_name, mutant)
            assert expected is None or found == described(expected)
    assert refused > MUTANTS


HOSTILE = """
import io, json, os, resource, signal, struct, time, zipfile
from densenet_convert.formats.raw import FormatError
from densenet_convert.formats.recognise import read_content

def text(letters):
    return b"X" + struct.pack("<I", len(letters)) + letters

def zipped(content, size):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/version", b"3\\n")
        with archive.open("a/data/0", "w") as record:
            for _ in range(size >> 20):
                record.write(bytes(1 << 20))
            record.write(bytes(size & 0xFFFFF))
    return file.getvalue()

def tensor(count, length, stride):
    number = lambda n: b"\\x8a\\x08" + n.to_bytes(8, "little")
    return (b"\\x80\\2}" + text(b"w") + b"ctorch._utils\\n_rebuild_tensor_v2\\n((" + text(b"storage")
        + b"ctorch\\nFloatStorage\\n" + text(b"0") + text(b"cpu") + number(count) + b"tQK\\0" + number(length)
        + b"\\x85" + number(stride) + b"\\x85\\x89ccollections\\nOrderedDict\\n)RtRs.")

pair = lambda n: b"h" + bytes([n])
dag = b"\\x80\\2)q\\0" + b"".join(b"0" + pair(n) * 2 + b"\\x86" + b"q" + bytes([n + 1]) for n in range(60))
encode, size, twice = b"c_codecs\\nencode\\nq\\1", b"ctorch\\nSize\\nq\\1", b"h\\1h\\0\\x85R"
header = b'{"a":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}"
flat = b'{"a":[' + b"[]," * 1_300_000 + b"0]}"
bomb = zipped(tensor(1 << 27, 1 << 27, 1), 512 << 20)
cases = {
    "lists": b"\\x80\\2" + b"]" * 8_000_000,
    "dicts": b"\\x80\\2" + b"}" * 8_000_000,
    "marks": b"\\x80\\2" + b"(" * 8_000_000,
    "a zip that inflates to 512 MiB": bomb,
    "one that does not say so": bomb.replace(struct.pack("<I", 512 << 20), struct.pack("<I", 4)),
    "a tensor of 2**40 elements": zipped(tensor(1, 1 << 40, 0), 4),
    "lists in a header": struct.pack("<Q", len(header)) + header,
    "a header of lists": struct.pack("<Q", len(flat)) + flat,
    "keys that collide": b"\\x80\\2}(" + b"".join(
        b"\\x8a\\x0c" + ((2**61 - 1) * i).to_bytes(12, "little") + b"N" for i in range(200_000)) + b"u.",
    "a tuple of tuples": dag + b".",
    "it as a key": dag + b"}h\\x3cNs.",
    "a text encoded again": (
        b"\\x80\\2](" + text(b"a" * 1_000_000) + b"q\\0" + encode + twice * 100_000 + b"e."),
    "a size made again": b"\\x80\\2((" + b"K\\1" * 100_000 + b"tq\\0" + size + twice * 100_000 + b"l.",
}
def long(number):
    return b"\\x8a\\x09" + number.to_bytes(9, "little", signed=True)

module = b"ca\\nB\\n)\\x81}(" + text(b"_modules") + b"}(%bub"
tree = b"\\x80\\2" + module.replace(b"%b", b"u") + b"q\\0"
for depth in range(40):
    children = text(b"a") + pair(depth) + text(b"b") + pair(depth) + b"u"
    tree += b"0" + module.replace(b"%b", children) + b"q" + bytes([depth + 1])
P = b"\\x80\\2"
legacy = P + b"\\x8a\\nl\\xfc\\x9cF\\xf9 j\\xa8P\\x19." + P + b"M\\xe9\\x03." + P + b"}."
wrapped = b"ctorch._tensor\\n_rebuild_from_type_v2\\nq\\2"
within = b"h\\2(h\\1Nh\\0\\x85NtR"
dtype = b"cnumpy\\ndtype\\n" + text(b"f4") + b"\\x85R"
storage = text(b"storage") + b"ctorch\\nFloatStorage\\n" + text(b"0") + text(b"cpu")
cases |= {
    "a tree of modules": tree + b".",
    "pops": P + b"N0" * 8_000_000,
    "a size of bytes": (
        P + b"(B" + struct.pack("<I", 1_000_000) + bytes(1_000_000) + b"q\\0" + size + twice * 200 + b"l."),
    "a text within a call": (
        P + b"(" + text(b"a" * 60_000) + b"q\\0" + encode + wrapped + within * 20_000 + b"l."),
    "a list within a call": P + b"((" + b"N" * 100_000 + b"lq\\0" + size + wrapped + within * 3_000 + b"l.",
    "wide text as bytes": (
        P + b"(" + text(chr(0x1F600).encode() * 16_000) + b"q\\0cbuiltins\\nbytearray\\nq\\1"
        + twice * 1_800 + b"l."),
    "a text as a size": (
        P + b"cnumpy\\n_reconstruct\\n)R(K\\1(K\\1" + long(1 << 32) + text(b"a") + b"t" + dtype
        + b"\\x89" + text(b"") + b"tb."),
    "a key without end": legacy + dag + b"0(" + storage + b"K\\1(h\\x3cK\\0K\\1ttQ.",
    "a long state": P + dtype + b"(N" + text(b"<") + b"N" * 100_000 + b"tq\\0b" + b"h\\0b" * 2_000 + b".",
    "a long persistent id": (
        legacy + P + b"(" + text(b"module") + b"N" * 200_000 + b"tq\\0" + b"h\\0Q0" * 20_000 + b"."),
}
results = {}
for name, data in cases.items():
    data = bytearray(data)
    read_end, write_end = os.pipe()
    if not os.fork():  # with a peak of its own
        signal.alarm(60)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        try:
            read_content(data)
            said = "read"
        except FormatError as error:
            said = "refused"
        except BaseException as error:
            said = repr(error)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        os.write(write_end, json.dumps([said, time.monotonic() - start, grown, len(data)]).encode())
        os._exit(0)
    os.close(write_end)
    os.wait()
    results[name] = json.loads(os.read(read_end, 10_000) or b'["killed", 60, 0, 0]')
print(json.dumps(results))
"""


# What the readers of other archives, and the search in containers, must bound.
HOSTILE_ARCHIVES = r"""
import gzip
npy = b"\x93NUMPY\1\0" + struct.pack("<H", 118)
def header(shape):
    return npy + ("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }" % shape).ljust(118).encode()
def archived(*records):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records:
            archive.writestr(name, content)
    return file.getvalue()
def export(config):
    return archived(("a/data/weights/model_weights_config.json", config), ("a/data/weights/w", bytes(4)))
def entry(name):
    side = '[{"as_int": 1}]'
    meta = '{"dtype": 7, "sizes": %s, "strides": %s, "storage_offset": {"as_int": 0}}' % (side, side)
    return '"%s": {"path_name": "w", "use_pickle": false, "tensor_meta": %s}' % (name, meta)
script = b"c__torch__.a\nB\n)\x81}(%bub"
scripted = P + script.replace(b"%b", b"") + b"q\0"
for depth in range(60):
    children = text(b"a") + pair(depth) + text(b"b") + pair(depth)
    scripted += b"0" + script.replace(b"%b", children) + b"q" + bytes([depth + 1])
zeros = b"B" + struct.pack("<I", 4 << 20) + bytes(4 << 20)
array = b"cnumpy\n_reconstruct\n)R(K\1J\0\0\x10\0\x85" + dtype + b"\x89" + zeros + b"tbq\0"
device = b"ctorch._utils\n_rebuild_device_tensor_from_numpy\nq\1"
object_ = b"ca\nB\n)\x81}("
twice_again = object_ + text(b"a") + b"h\0" + text(b"b") + b"h\0ubq\0"
many = ", ".join(map(entry, range(40_000)))
cases |= {
    "a gzip of 128 MiB": gzip.compress(bytes(128 << 20), 1),
    "a gzip of empty members": gzip.compress(b"", 1) * 200_000,
    "a npz of 128 MiB": archived(("a.npy", header("33554432,") + bytes(128 << 20))),
    "an array of 2**40 elements": header("1099511627776,") + bytes(64),
    "an archive of one": archived(("a.npy", header("1099511627776,") + bytes(64))),
    "a header of sides": npy[:8] + struct.pack("<H", 60_000) + b"(" * 60_000,
    "modules of a program": archived(("a/data.pkl", scripted + b"."), ("a/constants.pkl", b"\x80\2).")),
    "weights of lists": export(b'{"config": ' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}"),
    "weights that are none": export(b'{"config": {' + b'"a": {}, ' * 300_000 + b'"b": {}}}'),
    "one weight under many names": export(('{"config": {' + many + "}}").encode()),
    "an array seen again": P + b"(" + array + device + b"h\1(h\0ctorch\nbfloat16\nN\x89tR" * 2_000 + b"l.",
    "a list of lists again": P + b"]q\0" + b"](h\0h\0eq\0" * 60 + b".",
    "attributes of attributes": P + object_ + b"ubq\0" + twice_again * 60 + b".",
    "fields of a message": b"\x0a\x7f" * 4_000_000,
    "what could end in a digest": b"\x80\2}." + bytes(32 << 20),
}
"""
HOSTILE = HOSTILE.replace("results = {}", f"{HOSTILE_ARCHIVES}\nresults = {{}}")


def test_no_file_takes_more_than_its_size_allows() -> None:
    """At most three times the file and 100 MiB, at most 30 seconds, in a process without torch."""
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, check=True)
    for name, (said, seconds, grown, size) in json.loads(done.stdout).items():
        assert said == "refused", name
        assert seconds < 30, name
        assert grown <= 3 * size + (100 << 20), name


def test_a_foreign_file_is_named_with_what_to_do() -> None:
    for data, message in (
        (b"BZh91AY", "bunzip2"),
        (gzip.compress(gzip.compress(b"")), "gunzip"),
        (b"version https://git-lfs.github.com", "git lfs pull"),
    ):
        with pytest.raises(FormatError, match=message):
            read_content(data)


def test_an_array_with_a_state_of_another_length_is_refused() -> None:
    """numpy refuses it, too; the last four parts alone once passed for an array."""
    array = b"cnumpy\n_reconstruct\n)R"
    dtype = b"cnumpy\ndtype\nX\2\0\0\0f4\x85R"
    state = b"(" + b"K\1" * 5 + b"K\1\x85" + dtype + b"\x89C\4abcdt"
    with pytest.raises(FormatError, match="state of 9 parts"):
        read_content(b"\x80\3}X\1\0\0\0w" + array + state + b"bs.")


def test_a_message_quotes_little_of_a_file_and_on_one_line() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/" + "\n\x1b" * 10_000, b"content")
    with pytest.raises(FormatError, match=r"^its record a/.*\.\.\.") as error:
        read_content(file.getvalue().replace(b"content", b"changed"))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 2000
