"""Reads what Keras saves: HDF5 files, and the zips called ``.keras`` with such a file in them.

The HDF5 library is built for files that are trusted: a damaged one can crash it or keep it busy for
ever.  Keras writes a small part of what HDF5 allows, and that part is read here: groups that hold
each other by name alone, and arrays in one piece.  Links, data in other files, filters, chunks and
virtual arrays are refused, for Keras writes none.  No tensor is copied.

Source of HDF5's layout: HDF5 File Format Specification Version 3.0,
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
Source of Keras' names: keras/src/legacy/saving/legacy_h5_format.py and keras/src/saving/saving_lib.py
of Keras 3.15.1.
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

from .archive import MAGIC as ZIP_MAGIC
from .archive import Archive
from .raw import DTYPES, MALFORMED, Budget, Buffer, FormatError, RawTensor, Storage, Whole, in_order, shown
from .unpickle import Dict

SIGNATURE = b"\x89HDF\r\n\x1a\n"
WEIGHTS, CONFIG = "model.weights.h5", "config.json"
SAVE_AGAIN = "Load it with Keras, and save it again from there."
# An address that leads nowhere.
UNDEFINED = (1 << 64) - 1
# What a message, a link or a name takes in memory.
COST = 400
# How deep models may lie within models; each level takes two groups.
DEEPEST = 32
LONGEST_CONFIG = 8 << 20

# Kinds of messages in the header of an object.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, FILTERS = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8, 0xB
ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0xC, 0x10, 0x11, 0x15
SHARED = 2  # among the flags of a message
# What a symbol table says of an entry that is no object but a path.
SOFT_LINK = 2
CONTIGUOUS = 1
INTEGER, FLOAT, TEXT, OPAQUE, VARIABLE = 0, 1, 3, 5, 9
# Bits: offset, precision, where the exponent lies, its size, where the mantissa lies, its size; bias.
FLOATS = {
    (0, 16, 10, 5, 0, 10, 15): "float16",
    (0, 16, 7, 8, 0, 7, 127): "bfloat16",
    (0, 32, 23, 8, 0, 23, 127): "float32",
    (0, 64, 52, 11, 0, 52, 1023): "float64",
}
IMPLIED_BIT = 0x20

# Groups of Keras' own files in which its layers lie; that of Keras 2.13 is the second.
LAYERS = ("layers", "_layer_checkpoint_dependencies")
# By what Keras 3 calls layers of a class, in the order of ``save_own_variables``.
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
NUMBERED = re.compile(r"([a-z0-9_]*?[a-z0-9])(?:_([1-9][0-9]{0,8}))?", re.ASCII)
POSITION = re.compile(r"(?:(?P<layer>.+)/)?vars/(?P<index>0|[1-9][0-9]{0,8})", re.ASCII)
# What TensorFlow appended to the name of a variable.
OUTPUT = re.compile(r":[0-9]+$", re.ASCII)


def is_hdf5(data: Buffer) -> bool:
    """Whether it begins as an HDF5 file does."""
    return bytes(data[: len(SIGNATURE)]) == SIGNATURE


def is_keras(data: Whole) -> bool:
    """Whether it is a zip with an HDF5 file of weights in it, as ``.keras`` is."""
    if data[: len(ZIP_MAGIC)] != ZIP_MAGIC:
        return False
    try:
        return WEIGHTS in Archive(data, Budget(len(data))).records
    except MALFORMED:  # whoever reads it as a zip of torch says what is wrong
        return False


def read_hdf5(data: Buffer, budget: Budget) -> Dict:
    """The variables, views of ``data``, by ``layer/variable``.

    Raises:
        FormatError: it is not sound, or not what Keras writes.
    """
    return _read(data, budget, {})


def read_keras(data: Whole, budget: Budget) -> Dict:
    """The same of a ``.keras``; its config says what the layers are called where the weights don't.

    Raises:
        FormatError: it is not sound, or not what Keras writes.
    """
    archive = Archive(data, budget)
    names: dict[str, str] = {}
    if CONFIG in archive.records:
        text = archive.read(CONFIG)
        if len(text) > LONGEST_CONFIG:
            raise FormatError(f"its {CONFIG} has {len(text):,} bytes, as no network's has")
        # Twenty times its length is what JSON takes at most.
        budget.take(20 * len(text))
        try:
            names = dict(_names_of(json.loads(bytes(text)), ""))
        except MALFORMED as error:
            raise FormatError(f"its {CONFIG} is not what Keras writes") from error
    return _read(archive.read(WEIGHTS), budget, names)


def _read(data: Buffer, budget: Budget, names: Mapping[str, str]) -> Dict:
    tensors = Dict()
    try:
        tree = _Tree(_File(data, budget))
        places = _legacy_places(tree) if tree.is_legacy else _places(tree, names)
        ends: list[tuple[int, int, str]] = []
        for name, path in places:
            budget.take(COST + len(name))
            tensor, start = tree.file.tensor(tree.datasets[path], path)
            tensors.add(name, tensor)
            ends.append((start, start + tensor.nbytes, path))
    except FormatError:
        raise
    except MALFORMED as error:
        raise FormatError("its parts do not have the form that HDF5 gives them") from error
    ends.sort()
    for (_, end, one), (start, _, other) in pairwise(ends):
        if start < end:
            raise FormatError(f"{shown(one)} and {shown(other)} share bytes")
    return tensors


# HDF5


class _Type(NamedTuple):
    """Class of a datatype, bytes of an element, bits that depend on the class, and the rest."""

    kind: int
    size: int
    bits: int
    rest: memoryview


@dataclass(frozen=True)
class _Object:
    """A group or a dataset: its messages by kind, and its attributes, undecoded."""

    messages: dict[int, memoryview] = field(default_factory=dict)
    attributes: dict[str, memoryview] = field(default_factory=dict)


class _File:
    """The parts of an HDF5 file, each read from a given address, within bounds and paid for."""

    def __init__(self, data: Buffer, budget: Budget) -> None:
        self.data = memoryview(data)
        self.budget = budget
        version, offset_size, length_size = (self.part(at, 1)[0] for at in (8, 13, 14))
        if version > 1:
            raise FormatError("it is an HDF5 file of a newer form than Keras writes", SAVE_AGAIN)
        if (offset_size, length_size) != (8, 8):
            raise FormatError("it is an HDF5 file with addresses that have not 8 bytes")
        shift = 4 * version
        base, _, end, _ = self.numbers("4Q", 24 + shift)
        if base != 0 or end != len(self.data):
            raise FormatError(
                f"it should have {end:,} bytes, not {len(self.data):,}: it is cut off, or something follows"
            )
        (self.root,) = self.numbers("Q", 64 + shift)

    def part(self, start: int, count: int) -> memoryview:
        """Raises FormatError where these bytes are not there."""
        if not 0 <= start <= start + count <= len(self.data):
            raise FormatError(f"it refers to byte {start + count} of {len(self.data)}")
        return self.data[start : start + count]

    def numbers(self, form: str, start: int) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.part(start, struct.calcsize(f"<{form}")))

    def expect(self, magic: bytes, start: int) -> None:
        if bytes(self.part(start, len(magic))) != magic:
            raise FormatError(f"{magic[:4]!r} is not at byte {start}, where it should be")

    def object(self, address: int) -> _Object:
        """The object whose header is there."""
        if bytes(self.part(address, 4)) == b"OHDR":
            raise FormatError("it holds an object of a newer form than Keras writes", SAVE_AGAIN)
        version, _, count, _, size = self.numbers("BBHII", address)
        if version != 1:
            raise FormatError(f"no object is at byte {address}, where one should be")
        found = _Object()
        blocks = [self.part(address + 16, size)]
        for block in blocks:
            at = 0
            while at + 8 <= len(block) and count > 0:
                self.budget.take(COST)
                count -= 1
                kind, length, flags = struct.unpack_from("<HHB", block, at)
                content = block[at + 8 : at + 8 + length]
                at += 8 + length
                if len(content) != length:
                    raise FormatError(f"the header of the object at byte {address} is cut off")
                self._note(found, kind, flags, content)
                if kind == CONTINUATION:
                    blocks.append(self.part(*struct.unpack("<QQ", content[:16])))
        if count:
            raise FormatError(f"the header of the object at byte {address} lacks {count} messages")
        return found

    def _note(self, found: _Object, kind: int, flags: int, content: memoryview) -> None:
        if kind in (LINK, LINK_INFO, ATTRIBUTE_INFO):
            raise FormatError("it holds links or attributes of a newer form than Keras writes", SAVE_AGAIN)
        if kind == EXTERNAL:
            raise FormatError("it keeps data in other files, as Keras does not")
        if kind == FILTERS:
            raise FormatError("it holds arrays that went through a filter, as Keras writes none", SAVE_AGAIN)
        if kind not in (DATASPACE, DATATYPE, LAYOUT, ATTRIBUTE, SYMBOL_TABLE):
            return
        if flags & SHARED:
            raise FormatError("it holds a message that objects share, as Keras writes none")
        if kind == ATTRIBUTE:
            name, value = _attribute(content)
            if name in found.attributes:
                raise FormatError(f"an object has the attribute {shown(name)} twice")
            found.attributes[name] = value
        elif kind in found.messages:
            raise FormatError("an object has a message twice")
        else:
            found.messages[kind] = content

    def links(self, group: _Object) -> Iterator[tuple[str, int]]:
        """Names in a group, and the addresses of their objects."""
        tree, heap = struct.unpack("<QQ", group.messages[SYMBOL_TABLE][:16])
        self.expect(b"HEAP\0", heap)
        size, _, start = self.numbers("3Q", heap + 8)
        names = self.part(start, size)
        waiting, seen = [tree], {tree}
        while waiting:
            address = waiting.pop()
            if bytes(self.part(address, 4)) == b"SNOD":
                yield from self._symbols(address, names)
                continue
            self.expect(b"TREE\0", address)
            (count,) = self.numbers("H", address + 6)
            # Behind a header of 24 bytes: a key, and then a child and a key, and so on.
            below = self.numbers(f"{2 * count + 1}Q", address + 24)[1::2]
            self.budget.take(COST * (1 + count))
            if not seen.isdisjoint(below) or len(set(below)) != count:
                raise FormatError("a part of a group is in it twice")
            seen.update(below)
            waiting += reversed(below)

    def _symbols(self, node: int, names: memoryview) -> Iterator[tuple[str, int]]:
        (count,) = self.numbers("H", node + 6)
        for at in range(node + 8, node + 8 + 40 * count, 40):
            name_at, address, cached = self.numbers("QQI", at)
            if cached == SOFT_LINK or address == UNDEFINED:
                raise FormatError("it holds a link to another place, as Keras writes none")
            if name_at >= len(names):
                raise FormatError("a name lies outside of the names of its group")
            # No name is longer, and a search without an end could be asked for again and again.
            name, end, _ = bytes(names[name_at : name_at + 4 * COST]).partition(b"\0")
            self.budget.take(COST + len(name))
            if not name or not end or b"/" in name or name == b".":
                raise FormatError(f"a group holds something that is called {shown(name)}")
            yield name.decode(), address

    def tensor(self, dataset: _Object, label: str) -> tuple[RawTensor, int]:
        """An array, and where it begins."""
        layout = dataset.messages[LAYOUT]
        if layout[0] != 3 or layout[1] != CONTIGUOUS:
            raise FormatError(f"{shown(label)} is not stored in one piece, as Keras does", SAVE_AGAIN)
        start, size = struct.unpack("<QQ", layout[2:18])
        shape = _shape(dataset.messages[DATASPACE])
        dtype, big_endian = self._dtype(dataset, label)
        if prod(shape) * DTYPES[dtype].size != size:
            raise FormatError(f"{shown(label)} has {size} bytes, expected {dtype} of shape {list(shape)[:8]}")
        if not size:  # it may have no place then
            start = 0
        elif start == UNDEFINED:
            raise FormatError(f"{shown(label)} was never written")
        storage = Storage(label[:200], dtype, size, self.part(start, size), big_endian)
        return in_order(dtype, shape, storage), start

    def _dtype(self, dataset: _Object, label: str) -> tuple[str, bool]:
        """The dtype of an array, and whether it is big-endian."""
        kind = _type(dataset.messages[DATATYPE])
        big_endian, dtype = bool(kind.bits & 1), None
        if kind.kind == FLOAT and kind.bits & 0xFF in (IMPLIED_BIT, IMPLIED_BIT | 1):
            dtype = FLOATS.get(struct.unpack("<HH4BI", kind.rest[:12]))
            sign = kind.bits >> 8 & 0xFF
            dtype = dtype if sign == 8 * kind.size - 1 else None
        elif kind.kind == INTEGER and tuple(kind.rest[:4]) == (0, 0, 8 * kind.size, 0):
            dtype = f"{'' if kind.bits & 8 else 'u'}int{8 * kind.size}"
        elif kind.kind == OPAQUE and self.texts(dataset, "dtype") == ["bfloat16"]:
            dtype, big_endian = "bfloat16", False
        if dtype not in DTYPES or DTYPES[dtype].size != kind.size:
            raise FormatError(f"{shown(label)} has elements that are no plain numbers")
        return dtype, big_endian

    def texts(self, owner: _Object, name: str) -> list[str] | None:
        """The texts in an attribute; None where it is not there."""
        if name not in owner.attributes:
            return None
        kind, shape, values = _parts_of_attribute(owner.attributes[name])
        if 0 in shape:
            return []
        count = prod(shape)
        self.budget.take(COST * count)
        # The bits of what varies in length say whether it is text, or a list of something.
        varies = (kind.kind, kind.bits & 0xF, kind.size) == (VARIABLE, 1, 16)
        if not (varies or kind.kind == TEXT) or not 0 < kind.size * count <= len(values):
            raise FormatError(f"the attribute {shown(name)} is no text")
        octets = [bytes(values[at : at + kind.size]) for at in range(0, kind.size * count, kind.size)]
        if varies:
            octets = [self._from_heap(*struct.unpack("<IQI", where)) for where in octets]
        return [text.partition(b"\0")[0].decode() for text in octets]

    def _from_heap(self, length: int, heap: int, index: int) -> bytes:
        """Text whose length varies lies in a heap, as one of its numbered objects."""
        if not length:
            return b""
        self.expect(b"GCOL\1", heap)
        (size,) = self.numbers("Q", heap + 8)
        at, end = heap + 16, heap + len(self.part(heap, size))
        while at + 16 <= end:
            self.budget.take(COST // 10)
            found, _, _, held = self.numbers("HHIQ", at)
            if found == index and index:
                if not length <= held <= end - at - 16:
                    break
                self.budget.take(length)
                return bytes(self.part(at + 16, length))
            if not found:  # what is free comes last
                break
            at += 16 + (held + 7) // 8 * 8
        raise FormatError("a text is not in the heap that it should be in")


def _type(message: memoryview) -> _Type:
    kind, bits, size = message[0] & 0xF, int.from_bytes(message[1:4], "little"), message[4:8]
    return _Type(kind, int.from_bytes(size, "little"), bits, message[8:])


def _shape(message: memoryview) -> tuple[int, ...]:
    version, rank = message[0], message[1]
    if version not in (1, 2) or (version == 2 and message[3] == 2):
        raise FormatError("an array has no shape")
    return struct.unpack_from(f"<{rank}Q", message, 8 if version == 1 else 4)


def _attribute(message: memoryview) -> tuple[str, memoryview]:
    """An attribute's name; the rest is looked at where it is wanted."""
    version, flags, name_size = struct.unpack_from("<BBH", message)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise FormatError("it holds an attribute of a form that Keras does not write")
    at = 9 if version == 3 else 8
    return bytes(message[at : at + name_size]).rstrip(b"\0").decode(), message


def _parts_of_attribute(message: memoryview) -> tuple[_Type, tuple[int, ...], memoryview]:
    """An attribute's datatype, its shape and its elements."""
    version, _, *sizes = struct.unpack_from("<BBHHH", message)
    # Version 1 fills each part up to 8 bytes.
    name, kind, space = ((size + 7) // 8 * 8 if version == 1 else size for size in sizes)
    at = (9 if version == 3 else 8) + name
    return _type(message[at:]), _shape(message[at + kind :]), message[at + kind + space :]


class _Tree:
    """All groups and datasets of a file by their paths, in the order of the file; each is there once.

    A file of Keras 2's form says in attributes what it holds; it may lie under ``model_weights``, and
    the optimizer's beside that.
    """

    def __init__(self, file: _File) -> None:
        self.file = file
        self.groups: dict[str, _Object] = {}
        self.datasets: dict[str, _Object] = {}
        waiting: list[tuple[tuple[str, ...], int]] = [((), file.root)]
        seen = {file.root}
        while waiting:
            path, address = waiting.pop()
            item = file.object(address)
            (self.groups if SYMBOL_TABLE in item.messages else self.datasets)["/".join(path)] = item
            if SYMBOL_TABLE not in item.messages:
                continue
            for name, below in file.links(item):
                file.budget.take(sum(map(len, path)))
                if below in seen or len(path) >= DEEPEST:
                    raise FormatError(f"{shown('/'.join((*path, name)))} is there twice, or too deep")
                seen.add(below)
                waiting.append(((*path, name), below))
        self.root = "model_weights/" if "model_weights" in self.groups else ""

    @property
    def is_legacy(self) -> bool:
        """Whether it is in Keras 2's form."""
        return self.list_of(self.root, "layer_names") is not None

    def list_of(self, group: str, name: str) -> list[str] | None:
        """A list of names that is an attribute, or several with a number each where it is long."""
        if (owner := self.groups.get(group.rstrip("/"))) is None:
            raise FormatError(f"it lists {shown(group)}, which is not there")
        if (whole := self.file.texts(owner, name)) is not None:
            return whole
        parts: list[str] = []
        chunk = 0
        while (part := self.file.texts(owner, f"{name}{chunk}")) is not None:
            parts += part
            chunk += 1
        return parts if chunk else None


# Keras


def _legacy_places(tree: _Tree) -> Iterator[tuple[str, str]]:
    """Names of variables, and where they are, in Keras 2's form: the file lists both."""
    left = {path for path in tree.datasets if path.startswith(tree.root)}
    if not tree.root:
        left = {path for path in left if not path.startswith("optimizer_weights/")}
    extra = ["top_level_model_weights"] if f"{tree.root}top_level_model_weights" in tree.groups else []
    for layer in [*(tree.list_of(tree.root, "layer_names") or ()), *extra]:
        weights = tree.list_of(f"{tree.root}{layer}", "weight_names") or []
        own = [OUTPUT.sub("", weight).removeprefix(f"{layer}/") for weight in weights]
        # The layer's name may come again, and changed, for TensorFlow gave each scope a name of its own.
        last = [name.rpartition("/")[2] for name in own]
        # A model within the model has many variables of one name.
        for name, weight in zip(own if len(set(last)) < len(last) else last, weights, strict=True):
            path = f"{tree.root}{layer}/{weight}"
            if path not in left:
                raise FormatError(f"it lists {shown(path)}, which is not there, or was listed before")
            left.remove(path)
            yield f"{layer}/{name}", path
    if left:
        raise FormatError(f"it holds {len(left)} arrays that it does not list, such as {shown(min(left))}")


def _places(tree: _Tree, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The same in Keras 3's form, which numbers layers within their class and variables within a layer.

    Args:
        tree: of the file.
        names: what the layers are called, by path, where the file does not say it.
    """
    count: Counter[str] = Counter()
    places: list[tuple[str, int, str]] = []
    for path in tree.datasets:
        top, match = path.partition("/")[0], POSITION.fullmatch(path)
        if top not in (*LAYERS, "vars") and match:
            continue  # the optimizer, metrics and what else is no part of the network
        if match is None:
            raise FormatError(f"it holds {shown(path)}, and Keras' weights lie elsewhere")
        layer = match["layer"] or ""
        count[layer] += 1
        places.append((layer, int(match["index"]), path))
    if not places:
        raise FormatError("it is an HDF5 file without weights of Keras", SAVE_AGAIN)
    # Names that a file or its config gives, else those that the order of a DenseNet implies.
    known = {layer: called for layer in count if (called := _called(tree, layer, names))}
    known = known or _names_by_order(tree, list(count))
    for layer, index, path in sorted(places, key=lambda place: (_ordinal(place[0]), place[:2])):
        if index >= count[layer]:
            raise FormatError(f"{shown(layer)} lacks one of its variables")
        variables = VARIABLES.get(_class_of(layer), ())
        # Without its scale or its offset a normalisation has fewer, and which is not said.
        sure = count[layer] == len(variables) or (variables[:1] == ("kernel",) and count[layer] == 1)
        yield f"{known.get(layer, layer)}/{variables[index] if sure else index}".lstrip("/"), path


def _class_of(layer: str) -> str:
    return _numbered(layer.rpartition("/")[2])[0]


def _numbered(name: str) -> tuple[str, int]:
    """``conv2d_12`` is ``conv2d`` and 12, and the first is plain ``conv2d``."""
    match = NUMBERED.fullmatch(name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)


def _ordinal(layer: str) -> int:
    return _numbered(layer.rpartition("/")[2])[1]


def _called(tree: _Tree, layer: str, names: Mapping[str, str]) -> str | None:
    """What a layer is called, and the models that it is in; None where one of them is not told."""
    called = []
    parts = layer.split("/")
    if len(parts) % 2:  # each is one of the layers of what holds it
        return None
    for end in range(2, len(parts) + 1, 2):
        path = "/".join(parts[:end])
        own = tree.groups.get(f"{path}/vars")
        told = tree.file.texts(own, "name") if own is not None else None
        name = told[0] if told else names.get(path.replace(LAYERS[1], LAYERS[0]))
        if not name:
            return None
        called.append(name)
    return "/".join(called)


def _names_of(model: Any, above: str) -> Iterator[tuple[str, str]]:
    """Paths of layers in the file of weights, and what the model's config calls them."""
    if above.count("/") > DEEPEST:
        raise FormatError("its models lie within each other without an end")
    used: Counter[str] = Counter()
    for layer in model["config"].get("layers", ()):
        kind = _snake_case(layer["class_name"])
        path = f"{above}{LAYERS[0]}/{kind}{f'_{used[kind]}' if used[kind] else ''}"
        used[kind] += 1
        if isinstance(name := layer["config"].get("name"), str):
            yield path, name
        if isinstance(layer["config"].get("layers"), list):
            yield from _names_of(layer, f"{path}/")


def _snake_case(name: str) -> str:
    """As ``to_snake_case`` of Keras: ``BatchNormalization`` becomes ``batch_normalization``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _names_by_order(tree: _Tree, layers: Sequence[str]) -> dict[str, str]:
    """What keras.applications calls the layers of a DenseNet, which lie in the network's order.

    Empty where they are no DenseNet's.
    """
    found = {kind: sorted((x for x in layers if _class_of(x) == kind), key=_ordinal) for kind in VARIABLES}
    convs, norms, heads = found["conv2d"], found["batch_normalization"], found["dense"]
    if len(norms) != len(convs) + 1 or len(convs) + len(norms) + len(heads) != len(layers) or len(heads) > 1:
        return {}
    sizes = [_shape(tree.datasets[f"{layer}/vars/0"].messages[DATASPACE])[:2] for layer in convs]
    named_convs, named_norms = ["conv1_conv"], ["conv1_bn"]
    stage, number, at = 2, 1, 1
    while at < len(sizes):
        if sizes[at : at + 2] == [(1, 1), (3, 3)]:
            block = f"conv{stage}_block{number}"
            named_convs += [f"{block}_1_conv", f"{block}_2_conv"]
            named_norms += [f"{block}_0_bn", f"{block}_1_bn"]
            number, at = number + 1, at + 2
        elif sizes[at] == (1, 1):
            named_convs.append(f"pool{stage}_conv")
            named_norms.append(f"pool{stage}_bn")
            stage, number, at = stage + 1, 1, at + 1
        else:
            return {}
    named = [*named_convs, *named_norms, "bn", *["predictions"] * len(heads)]
    return dict(zip([*convs, *norms, *heads], named, strict=True))
