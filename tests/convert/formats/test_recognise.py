"""Whatever a file is made of, its tensors are read bit for bit; whatever is done to it, none wrong."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import warnings
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from densenet_convert.formats.raw import FormatError
from densenet_convert.formats.recognise import read_content

Described = dict[str, tuple[str, tuple[int, ...], bytes]]
DTYPES = st.sampled_from(
    [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.uint8,
        torch.bool,
        torch.complex64,
    ]
)
VIEWS = st.sampled_from(["as it is", "transposed", "sliced", "strided"])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
STATES = st.dictionaries(NAMES, st.tuples(SHAPES, DTYPES, VIEWS), min_size=1, max_size=5)


def made(shape: tuple[int, ...], dtype: torch.dtype, view: str) -> Tensor:
    noise = torch.randint(0, 256, (16 * 2 * 4**4,), dtype=torch.uint8)
    whole = (noise.remainder(2).bool() if dtype == torch.bool else noise.view(dtype))[: 2 * 4**4]
    count = torch.Size(shape).numel()
    if view == "strided":
        return whole[: 2 * count : 2].view(shape) if len(shape) < 2 else whole[:count].view(shape)
    tensor = whole[3 : 3 + count].view(shape)
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


@settings(deadline=None)
@given(STATES, st.booleans(), st.integers(2, 5), st.sampled_from([(), ("state_dict",), ("a", "b")]))
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


@settings(deadline=None)
@given(STATES)
def test_what_safetensors_saves_is_read_bit_for_bit(states: dict[str, Any]) -> None:
    state = {name: made(*how).contiguous().clone() for name, how in states.items() if name != "__metadata__"}
    assert read(safetensors.torch.save(state, {"format": "pt"})) == described(state) or not state


def small_state() -> dict[str, Tensor]:
    return {"conv.weight": torch.rand(3, 2, 2, 2), "norm.bias": torch.rand(5), "norm.count": torch.tensor(7)}


def usual(format_name: str, data: bytes) -> Described | None:
    """What the usual reader makes of the bytes; None where it refuses them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if format_name == "safetensors":
                return described(safetensors.torch.load(data))
            return described(torch.load(io.BytesIO(data), weights_only=True))
    except Exception:
        return None


def mutants(data: bytes, number: int) -> list[bytes]:
    """Cut, grown, doubled, exchanged, flipped, and with another number at some place."""
    draw = random.Random(0)
    changed = []
    for _ in range(number):
        at, length = draw.randrange(len(data)), draw.randrange(1, 40)
        other = draw.randrange(len(data))
        number_there = draw.choice([0, 1, -1, 2**31, 2**63 - 1]).to_bytes(8, "little", signed=True)
        flipped = bytes([data[at] ^ 1 << draw.randrange(8)])
        changed.append(
            draw.choice(
                [
                    data[:at],
                    data[:at] + data[at + length :],
                    data[:at] + data[at : at + length] + data[at:],
                    data[:at] + data[other : other + length] + data[at + length :],
                    data[:at] + flipped + data[at + 1 :],
                    data[:at] + number_there + data[at + 8 :],
                ]
            )
        )
    return changed


@pytest.mark.parametrize("format_name", ["torch-zip", "torch-legacy", "safetensors"])
def test_a_mutant_is_refused_or_read_as_the_usual_reader_reads_it(format_name: str) -> None:
    """And where a format has sums, a mutant that is read holds the sound tensors."""
    state = small_state()
    data = (
        safetensors.torch.save(state)
        if format_name == "safetensors"
        else saved(state, legacy=format_name == "torch-legacy")
    )
    sound, refused = described(state), 0
    for mutant in mutants(data, 1500):
        try:
            found = read(mutant)
        except FormatError as raised:
            refused += 1
            message = str(raised)
            if not message.isprintable():
                pytest.fail(message)
            continue
        expected = None if format_name == "torch-zip" else usual(format_name, mutant)
        assert found == (sound if expected is None else expected)
    assert refused > 300


HOSTILE = """
import json, resource, struct, sys, time, zlib
from densenet_convert.formats.raw import FormatError
from densenet_convert.formats.recognise import read_content

def text(letters):
    return b"X" + struct.pack("<I", len(letters)) + letters

encode = b"c_codecs\\nencode\\nq\\1"
size = b"ctorch\\nSize\\nq\\1"
twice = b"h\\1h\\0\\x85R"
header = b'{"a":[' + b"[]," * 1_300_000 + b"0]}"
module = b"ca\\nB\\n)\\x81}(" + text(b"_modules") + b"}(%bub"
tree = b"\\x80\\2" + module.replace(b"%b", b"u") + b"q\\0"
for depth in range(40):
    child = b"h" + bytes([depth])
    children = text(b"a") + child + text(b"b") + child + b"u"
    tree += b"0" + module.replace(b"%b", children) + b"q" + bytes([depth + 1])
cases = {
    "lists": b"\\x80\\2" + b"]" * 8_000_000,
    "dicts": b"\\x80\\2" + b"}" * 8_000_000,
    "marks": b"\\x80\\2" + b"(" * 8_000_000,
    "pops": b"\\x80\\2" + b"N0" * 8_000_000,
    "texts, again and again": b"\\x80\\2]" + text(b"a" * 60000) + b"q\\0" + encode + twice * 200_000 + b".",
    "sizes, again and again": b"\\x80\\2(" + b"K\\1" * 100_000 + b"tq\\0" + size + twice * 100_000 + b".",
    "a tree of modules": tree + b".",
    "keys that collide": b"\\x80\\2}(" + b"".join(
        b"\\x8a\\x0c" + ((2**61 - 1) * i).to_bytes(12, "little") + b"N" for i in range(200_000)) + b"u.",
    "a header of lists": struct.pack("<Q", len(header)) + header,
}
results = {}
for name, data in cases.items():
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        read_content(bytearray(data))
        said = "read"
    except FormatError as error:
        said = str(error)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    results[name] = said, time.monotonic() - start, grown, len(data)
print(json.dumps(results))
"""


def test_no_file_takes_more_than_its_size_allows() -> None:
    """At most three times the file and 100 MiB, at most 30 seconds, in a process without torch."""
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, check=True)
    for name, (said, seconds, grown, size) in json.loads(done.stdout).items():
        assert said != "read", name
        assert seconds < 30, name
        assert grown <= 3 * size + (100 << 20), name


def test_a_foreign_file_is_named_with_what_to_do() -> None:
    for data, message in (
        (b"\x1f\x8b\x08", "gunzip"),
        (b"version https://git-lfs.github.com", "git lfs pull"),
    ):
        with pytest.raises(FormatError, match=message):
            read_content(data)
