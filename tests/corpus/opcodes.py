"""The formats spelled out: opcodes of pickles, and headers of zips, tars and safetensors.

``Net`` and ``Tar`` are a network by its parts, so that a case can spoil any one of them.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from checkpoints import StateDict
from torch import Tensor

from corpus.registry import ONES, network, network_of_2017, raw

# ---- Pickles, opcode by opcode.

NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"


def text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def python_2(value: str | bytes) -> bytes:
    encoded = value.encode() if isinstance(value, str) else value
    if len(encoded) < 256:
        return b"U" + bytes([len(encoded)]) + encoded
    return b"T" + struct.pack("<i", len(encoded)) + encoded


def binary(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(encoded) < 256:
        return b"\x8a" + bytes([len(encoded)]) + encoded
    return b"\x8b" + struct.pack("<i", len(encoded)) + encoded


def many(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(values: Iterable[int]) -> bytes:
    return many(*map(number, values))


def global_(dotted: str) -> bytes:
    module, _, name = dotted.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def call(function: str | bytes, *arguments: bytes) -> bytes:
    return (global_(function) if isinstance(function, str) else function) + many(*arguments) + b"R"


def dict_(*pairs: tuple[bytes, bytes], start: bytes = b"}") -> bytes:
    return start + b"(" + b"".join(key + value for key, value in pairs) + b"u"


def named(start: bytes = b"}", **items: bytes) -> bytes:
    return dict_(*((text(key), value) for key, value in items.items()), start=start)


def plain(value: object) -> bytes:
    """What Python's own pickler makes of a value; its memo never reaches beyond itself."""
    return pickle.dumps(value, 2)[2:-1]


def with_more(content: object, value: bytes) -> bytes:
    """A pickled dict, and one more entry."""
    return pickle.dumps(content, 2)[:-1] + text("more") + value + b"s."


ORDERED = global_("collections.OrderedDict") + b")R"


# ---- Modules whole.


def module_by_hand(leaf: Callable[[Tensor], bytes], identify: Callable[[bytes], bytes] = bytes) -> bytes:
    """A tree of modules of classes that are nowhere, in the form of torch 0.1 to 0.3."""
    tree: dict[str, Any] = {}
    for name, value in network_of_2017().items():
        *path, last = re.findall(r"(?:norm|conv)\.\d|[^.]+", name)  # a child's name may hold a dot
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node[last] = value
    seen: set[bytes] = set()

    def made(node: dict[str, Any]) -> bytes:
        class_ = global_("lost_project.models.DenseNet" if node is tree else "lost_project.models.Part")
        kind = class_ if class_ in seen else identify(class_)
        seen.add(class_)
        groups: dict[str, list[tuple[bytes, bytes]]] = {"_parameters": [], "_buffers": [], "_modules": []}
        for name, value in node.items():
            if isinstance(value, dict):
                groups["_modules"].append((text(name), made(value)))
            else:
                group = "_buffers" if name.startswith("running") else "_parameters"
                groups[group].append((text(name), leaf(value)))
        groups["_parameters"].append((text("unused"), NONE))
        ordered = {name: dict_(*pairs, start=ORDERED) for name, pairs in groups.items()}
        return (
            kind + b")\x81" + named(training=FALSE, _backend=NONE, _forward_hooks=ORDERED, **ordered) + b"b"
        )

    return made(tree)


# ---- numpy's arrays.

NDARRAY = call("numpy.core.multiarray._reconstruct", global_("numpy.ndarray"), numbers([0]), binary(b"b"))


def dtype_of_numpy(kind: str) -> bytes:
    return call("numpy.dtype", text(kind), FALSE, TRUE)


def array(
    *, shape: bytes = number(5) + b"\x85", dtype: str = "f4", order: str = "<", data: bytes = raw(ONES)
) -> bytes:
    kind = call("numpy.dtype", text(dtype), FALSE, TRUE)
    kind = dtype_of_numpy(dtype)
    kind += many(number(3), text(order), NONE, NONE, NONE, number(-1), number(-1), number(0)) + b"b"
    return NDARRAY + many(number(1), shape, kind, FALSE, binary(data)) + b"b"


# ---- A network by parts, to be packed as zip or legacy, and spoiled in between.

KIND = {torch.float32: "Float", torch.int64: "Long", torch.int32: "Int", torch.float64: "Double"}
SIZE = {kind: dtype.itemsize for dtype, kind in KIND.items()} | {"Weird": 4}


@dataclass
class Member:
    """A zip's record; ``packed``, ``local`` and ``central`` are what its headers and bytes lie about."""

    name: str
    data: bytes
    packed: bytes | None = None
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)


class Net:
    """A state dict as pairs of opcodes over numbered storages."""

    def __init__(
        self,
        *,
        legacy: bool = False,
        state: StateDict | None = None,
        folder: Path = Path(),
        tensor: Callable[[Net, Tensor], bytes] | None = None,
        string: Callable[[str], bytes] = text,
        location: str = "cpu",
        module: str = "torch",
    ) -> None:
        self.legacy, self.string, self.location, self.module = legacy, string, location, module
        self.command = f"touch '{folder / 'ran'}'"
        self.storages: dict[str, tuple[int, int, bytes]] = {}  # key -> bytes an element, count, elements
        self.next = 0
        self.beside: list[tuple[bytes, bytes]] = []
        self.container: str | None = None
        self.closing, self.top, self.byteorder = b".", "archive", b"little"
        make = tensor or Net.v2
        state = (network_of_2017() if legacy else network()) if state is None else state
        self.entries = {name: (string(name), make(self, value)) for name, value in state.items()}

    def __setitem__(self, name: str, value: bytes) -> None:
        """Puts other opcodes for a tensor, whose storage goes: what is wrong with the file are they alone."""
        self.storages.pop(str(list(self.entries).index(name)))
        self.entries[name] = (self.string(name), value)

    def add(self, key: bytes, value: bytes) -> None:
        self.entries[f"extra {len(self.entries)}"] = (key, value)

    def id(self, key: str, kind: str, count: int, view: bytes = NONE) -> bytes:
        """The persistent id of a storage."""
        kind = global_(f"{self.module}.{kind}Storage")
        parts = (self.string("storage"), kind, self.string(key), self.string(self.location), number(count))
        return many(*parts, *([view] if self.legacy else [])) + b"Q"

    @property
    def last(self) -> str:
        """The key of the last storage."""
        return str(self.next - 1)

    def storage(self, data: bytes, kind: str = "Float", count: int | None = None) -> bytes:
        key = str(self.next)
        self.next += 1
        actual = len(data) // SIZE[kind]
        self.storages[key] = (SIZE[kind], actual, data)
        return self.id(key, kind, actual if count is None else count)

    def v2(
        self,
        value: Tensor,
        *more: bytes,
        storage: bytes | None = None,
        size: Iterable[int] | None = None,
        stride: Iterable[int] | None = None,
        offset: int = 0,
        function: str | bytes = "torch._utils._rebuild_tensor_v2",
        flags: tuple[bytes, ...] = (FALSE, ORDERED),
    ) -> bytes:
        return call(
            function,
            self.storage(raw(value), KIND[value.dtype]) if storage is None else storage,
            number(offset),
            numbers(value.shape if size is None else size),
            numbers(value.contiguous().stride() if stride is None else stride),
            *flags,
            *more,
        )

    def pickled(self) -> bytes:
        root = dict_(*self.entries.values(), start=ORDERED)
        if self.container is not None:
            root = dict_((self.string(self.container), root), *self.beside)
        return b"\x80\x02" + root + self.closing

    def legacy_parts(self, keys: Iterable[str] | None = None) -> list[bytes]:
        order = sorted(self.storages) if keys is None else list(keys)
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}
        head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)]
        stored = [struct.pack("<q", self.storages[key][1]) + self.storages[key][2] for key in order]
        return [*head, self.pickled(), pickle.dumps(order, 2), *stored]

    def members(self) -> list[Member]:
        """As torch writes them; the attacks on zips find them by their place: data.pkl is the first."""
        records = {"data.pkl": self.pickled(), "byteorder": self.byteorder, "version": b"3\n"}
        records |= {f"data/{key}": data for key, (_, _, data) in self.storages.items()}
        if not self.byteorder:
            del records["byteorder"]
        return [Member(f"{self.top}/{name}", data) for name, data in records.items()]

    def file(self) -> bytes:
        return b"".join(self.legacy_parts()) if self.legacy else packed(self.members())


def packed(members: Iterable[Member], *, before: bytes = b"", between: bytes = b"") -> bytes:
    """A zip, header by header."""
    members = list(members)
    file, directory = bytearray(before), b""
    for member in members:
        content = member.data if member.packed is None else member.packed
        fields = {
            "flags": 0x800,
            "method": 0,
            "crc": zlib.crc32(member.data),
            "packed": len(content),
            "size": len(member.data),
            "name": member.name.encode(),
            "offset": len(file),
            "attributes": 0,
        }
        for header, lies in ((b"PK\3\4", member.local), (b"PK\1\2", member.central)):
            said = fields | lies
            about = (
                struct.pack("<HHHH", 20, said["flags"], said["method"], 0)
                + struct.pack("<HIII", 33, said["crc"], said["packed"], said["size"])
                + struct.pack("<HH", len(said["name"]), 0)
            )
            if header == b"PK\3\4":
                file += header + about + said["name"] + content + between
            else:
                tail = struct.pack("<HHHII", 0, 0, 0, said["attributes"], said["offset"])
                directory += header + struct.pack("<H", 20) + about + tail + said["name"]
    count = len(members)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(file), 0)
    return bytes(file) + directory + b"PK\5\6" + end


@dataclass
class Tar:
    """The archive of 2016: storages and tensors under numbers, and a pickle that refers to these."""

    storages: list[tuple[int, str, int, bytes]] = field(default_factory=list)
    views: list[tuple[int, int, int, int]] = field(default_factory=list)
    tensors: list[tuple[int, int, str, int, tuple[int, ...], tuple[int, ...], int]] = field(
        default_factory=list
    )
    root: bytes = b""

    def put(self, value: Tensor, *, storage: int | None = None, offset: int = 0) -> bytes:
        """Adds a tensor; returns its persistent id."""
        key = 94_000_000_000_000 + 64 * len(self.tensors)
        if storage is None:
            storage = key + 8
            self.storages.append((storage, KIND[value.dtype], value.numel(), raw(value)))
        shape = tuple(value.shape)
        self.tensors.append(
            (key, storage, KIND[value.dtype], len(shape), shape, value.contiguous().stride(), offset)
        )
        return text(str(key)) + b"Q"

    def parts(self) -> dict[str, bytes]:
        storages, tensors = pickle.dumps(len(self.storages), 2), pickle.dumps(len(self.tensors), 2)
        for key, kind, count, data in self.storages:
            head = many(number(key), text("cpu"), global_(f"torch.{kind}Storage"))
            storages += b"\x80\x02" + head + b"." + struct.pack("<q", count) + data
        for key, storage, kind, dimensions, shape, stride, offset in self.tensors:
            head = many(number(key), number(storage), global_(f"torch.{kind}Tensor"))
            tensors += b"\x80\x02" + head + b"." + struct.pack("<Ii", dimensions, 0)
            tensors += struct.pack(f"<{len(shape)}q{len(stride)}qq", *shape, *stride, offset)
        return {
            "sys_info": pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2),
            "pickle": b"\x80\x02" + self.root + b".",
            "tensors": tensors,
            "storages": storages + pickle.dumps(self.views, 2),
        }


def tar_of(leaf: Callable[[Tar, Tensor], bytes] = Tar.put) -> Tar:
    tar = Tar()
    entries = [(python_2(name), leaf(tar, value)) for name, value in network_of_2017().items()]
    tar.root = dict_(*entries, start=ORDERED)
    return tar


def tarred(parts: Iterable[tuple[str, bytes]], *, mtime: float = 0) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in parts:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def tar_header(
    tar: Tar, change: Callable[[tarfile.TarInfo], Any] = bool, *, spoil_sum: bool = False
) -> bytes:
    """The last member's header changed; then its checksum, if wanted."""
    parts = tar.parts()
    data = parts.pop("storages")
    head = tarfile.TarInfo("storages")
    head.size = len(data)
    change(head)
    encoded = bytearray(head.tobuf(tarfile.USTAR_FORMAT))
    if spoil_sum:
        encoded[150] ^= 1
    end = sum(512 + -(-len(data) // 512) * 512 for data in parts.values())
    return tarred(parts.items())[:end] + encoded + data + bytes(-len(data) % 512 + 1024)


# ---- safetensors.


def json_of(header: object) -> bytes:
    return json.dumps(header).encode()


def safe(header: object, data: bytes) -> bytes:
    encoded = header if isinstance(header, bytes) else json_of(header)
    return struct.pack("<Q", len(encoded)) + encoded + data


def safe_parts(order: Iterable[str] | None = None) -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = {}
    data = b""
    for name in order or network():
        value = network()[name]
        span = [len(data), len(data) + value.numel() * value.element_size()]
        dtype = "I64" if value.dtype == torch.int64 else "F32"
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": span}
        data += raw(value)
    return header, data
