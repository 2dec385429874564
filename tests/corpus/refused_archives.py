"""Files to refuse around their pickles: legacy layout, zips, tars, safetensors; and what is no checkpoint."""

from __future__ import annotations

import functools
import gzip
import io
import os
import pickle
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import StateDict
from torch import Tensor

from corpus.opcodes import (
    Member,
    Net,
    Tar,
    json_of,
    number,
    packed,
    safe,
    safe_parts,
    tar_header,
    tar_of,
    tarred,
    text,
)
from corpus.registry import (
    BIAS,
    HEAD,
    ONES,
    REFUSED,
    Refused,
    module,
    network,
    network_of_2017,
    once,
    optimizer,
    raw,
    refuse,
    saved,
)


# Legacy files: the list of storages, and where the file ends.
def whole_pickle() -> bytes:
    return pickle.dumps(network(), 2)


def legacy(change: Callable[[list[str]], list[str]]) -> bytes:
    net = Net(legacy=True)
    return b"".join(net.legacy_parts(change(sorted(net.storages))))


refuse("legacy: list leaves one out")(lambda: legacy(lambda keys: keys[:-1]))
refuse("legacy: list is empty")(lambda: legacy(lambda _: []))
refuse("legacy: list names one twice")(lambda: legacy(lambda keys: [*keys, keys[0]]))


@refuse("legacy: list names an unknown one")
def _() -> bytes:
    net = Net(legacy=True)
    before = net.legacy_parts()[:4]
    net.storage(raw(ONES))
    return b"".join([*before, *net.legacy_parts()[4:]])


for _name, _count in {"one more": 6, "one less": 4, "negative": -1, "2**62": 1 << 62}.items():

    @refuse(f"legacy: count of {_name}")
    def _(count: int = _count) -> bytes:
        net = Net(legacy=True)
        net[BIAS] = net.v2(ONES)
        net.storages[net.last] = (4, count, raw(ONES))
        return net.file()


for _part, _name in enumerate(["magic number", "protocol", "system", "object", "list", "elements"]):
    refuse(f"legacy: cut before the {_name}")(
        lambda part=_part: b"".join(Net(legacy=True).legacy_parts()[:part]) or b"\x80\x02"
    )
    refuse(f"legacy: cut within the {_name}")(
        lambda part=_part: b"".join(Net(legacy=True).legacy_parts()[: part + 1])[:-3]
    )
refuse("legacy: cut by one byte")(lambda: Net(legacy=True).file()[:-1])
refuse("legacy: another protocol")(
    lambda: b"".join(
        pickle.dumps(9, 2) if n == 1 else p for n, p in enumerate(Net(legacy=True).legacy_parts())
    )
)
APPENDED: dict[str, Callable[[], bytes]] = {
    "a byte": lambda: b"\1",
    "a zero": lambda: b"\0",
    "a zip": lambda: packed(Net().members()),
    "a pickle": whole_pickle,
    "itself": lambda: Net(legacy=True).file(),
}
for _name, _after in APPENDED.items():
    refuse(f"legacy: {_name} appended")(lambda after=_after: Net(legacy=True).file() + after())
    refuse(f"zip: {_name} appended")(lambda after=_after: Net().file() + after())
    refuse(f"torch's zip: {_name} appended")(lambda after=_after: saved(network()) + after())
    refuse(f"pickle: {_name} appended")(lambda after=_after: whole_pickle() + after())
    if _name != "a zero":  # tars are padded with these
        refuse(f"tar: {_name} appended")(lambda after=_after: tarred(tar_of().parts().items()) + after())
    refuse(f"safetensors: {_name} appended")(lambda after=_after: safe(*safe_parts()) + after())
    refuse(f"zip: {_name} before it")(lambda after=_after: after() + Net().file())
    refuse(f"zip: {_name} before it, and counted")(
        lambda after=_after: packed(Net().members(), before=after())
    )
    refuse(f"zip: {_name} between its records")(
        lambda after=_after: packed(Net().members(), between=after()[:500])
    )
for _share in (1, 25, 50, 75, 99):
    for _name, _whole in {
        "zip": lambda: Net().file(),
        "torch's zip": lambda: saved(network()),
        "pickle": whole_pickle,
        "tar": lambda: tarred(tar_of().parts().items()).rstrip(b"\0"),
        "safetensors": lambda: safe(*safe_parts()),
    }.items():
        refuse(f"{_name}: cut at {_share}%")(
            lambda share=_share, whole=_whole: whole()[: len(whole()) * share // 100]
        )
refuse("zip: cut by one byte")(lambda: Net().file()[:-1])


def done(*_: object) -> None:
    """For a lambda that does more than one thing, or gives back what it should not."""


# Zips whose records or headers are not what they say.
def zip_case(name: str, says: str | None = None) -> Callable[[Callable[[list[Member]], Any]], None]:
    """Registers what spoils the records; the last one is the classifier's bias."""

    def register(spoil: Callable[[list[Member]], Any]) -> None:
        def make() -> bytes:
            net = Net()
            net[BIAS] = net.v2(ONES)
            members = net.members()
            return packed(spoil(members) or members)

        refuse(f"zip: {name}", says)(make)

    return register


def lie(member: Member, *, local: bool = True, central: bool = True, **fields: Any) -> None:
    if local:
        member.local |= fields
    if central:
        member.central |= fields


def deflated(data: bytes) -> bytes:
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    return press.compress(data) + press.flush()


def bomb(members: list[Member], *, honest: bool) -> None:
    """2 GiB of zeros, packed 64 MiB at a time."""
    press, zeros = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 26)
    once = press.compress(zeros) + press.flush(zlib.Z_FULL_FLUSH)
    last = members[-1]
    last.packed = once * 32 + press.flush()
    crc = functools.reduce(lambda value, _: zlib.crc32(zeros, value), range(32), 0)
    size = 1 << 31 if honest else 20
    lie(last, method=8, size=size, crc=crc)
    if honest:
        members[0].data = members[0].data.replace(
            text(last.name.rpartition("/")[2]) + text("cpu") + number(5),
            text(last.name.rpartition("/")[2]) + text("cpu") + number(1 << 29),
        )


@zip_case("a bit flipped in the elements", "CRC|damaged|corrupt")
def _(members: list[Member]) -> None:
    data = bytearray(members[-1].data)
    data[3] ^= 1
    members[-1].packed = bytes(data)


@zip_case("a bit flipped in the pickle")
def _(members: list[Member]) -> None:
    data = bytearray(members[0].data)
    data[data.index(b"classifier")] ^= 1
    members[0].packed = bytes(data)


ZIPS: dict[str, Callable[[list[Member]], Any]] = {
    "a wrong CRC": lambda members: lie(members[-1], crc=1),
    "a wrong CRC in the record": lambda members: lie(members[-1], crc=1, central=False),
    "a wrong CRC in the directory": lambda members: lie(members[-1], crc=1, local=False),
    "a wrong CRC of an unused record": lambda members: lie(members[2], crc=1),
    "a record twice": lambda members: [*members, members[-1]],
    "a pickle twice": lambda members: [members[0], *members],
    "a record twice, and different": lambda members: [*members, Member(members[-1].name, bytes(20))],
    "a record one element short": lambda members: setattr(members[-1], "data", bytes(16)),
    "a record one byte short": lambda members: setattr(members[-1], "data", bytes(19)),
    "a record one element long": lambda members: setattr(members[-1], "data", bytes(24)),
    "a record is missing": lambda members: members[:-1],
    "a record that nothing refers to": lambda members: [*members, Member("archive/data/999", b"1234")],
    "the pickle is missing": lambda members: members[1:],
    "an unknown byte order": lambda members: setattr(members[1], "data", b"middle"),
    "an empty byte order": lambda members: setattr(members[1], "data", b""),
    "names that disagree": lambda members: lie(members[-1], local=False, name=b"archive/data/x" * 2),
    "names that are exchanged": lambda members: done(
        lie(members[-1], local=False, name=members[-2].name.encode()),
        lie(members[-2], local=False, name=members[-1].name.encode()),
    ),
    "sizes that disagree": lambda members: lie(members[-1], local=False, size=24, packed=24),
    "sizes that disagree in the record": lambda members: lie(members[-1], central=False, size=16, packed=16),
    "methods that disagree": lambda members: lie(members[-1], central=False, method=8),
    "stored, of two sizes": lambda members: lie(members[-1], size=16),
    "an unknown method": lambda members: lie(members[-1], method=99),
    "deflated garbage": lambda members: lie(members[-1], method=8),
    "deflated, and more than said": lambda members: done(
        setattr(members[-1], "packed", deflated(members[-1].data + bytes(400))),
        lie(members[-1], method=8),
    ),
    "deflated, and bytes after it": lambda members: done(
        setattr(members[-1], "packed", deflated(members[-1].data) + b"more"),
        lie(members[-1], method=8),
    ),
    "encrypted": lambda members: lie(members[-1], flags=0x801),
    "called a folder": lambda members: lie(members[-1], attributes=0x10),
    "a record within another": lambda members: lie(members[-1], local=False, offset=90),
    "a record past the end": lambda members: lie(members[-1], local=False, offset=1 << 31),
    "two records in one place": lambda members: [
        *members,
        Member("archive/data/999", members[-1].data, central={"offset": 0}),
    ],
    "two top folders": lambda members: setattr(members[-1], "name", "other/data/1"),
    "two pickles": lambda members: [*members, Member("other/data.pkl", members[0].data)],
    "no top folder": lambda members: [
        Member(member.name.removeprefix("archive/"), member.data) for member in members
    ],
    "an absolute name": lambda members: [*members, Member("/tmp/ran", b"1")],
    "2 GiB from 2 MB": functools.partial(bomb, honest=True),
    "2 GiB from 2 MB, said to be 20 bytes": functools.partial(bomb, honest=False),
}
for _name, _spoil in ZIPS.items():
    zip_case(_name)(_spoil)
zip_case("TorchScript", "TorchScript")(
    lambda members: [
        *members,
        Member("archive/constants.pkl", b"\x80\x02)."),
        Member("archive/code/__torch__.py", b"class DenseNet(Module): pass"),
    ]
)
refuse("zip: no checkpoint in it")(lambda: packed([Member("weights.pth", Net(legacy=True).file())]))
refuse("zip: nothing in it")(lambda: packed([]))
refuse("zip: more records said than there are")(
    lambda: (
        Net().file()[:-22]
        + Net().file()[-22:].replace(*(struct.pack("<H", len(Net().members()) + n) * 2 for n in (0, 1)))
    )
)


# Tars.
def tar_case(name: str, says: str | None = None) -> Callable[[Callable[[Tar], Any]], None]:
    """Registers what spoils the records of a tar, or returns its members."""

    def register(spoil: Callable[[Tar], Any]) -> None:
        def make() -> bytes:
            tar = tar_of()
            made = spoil(tar)
            return made if isinstance(made, bytes) else tarred((made or tar.parts()).items())

        refuse(f"tar: {name}", says)(make)

    return register


def tensor_said(tar: Tar, **changes: Any) -> None:
    fields = ("key", "storage", "kind", "dimensions", "shape", "stride", "offset")
    last = dict(zip(fields, tar.tensors[-1], strict=True)) | changes
    tar.tensors[-1] = tuple(last.values())


def without(tar: Tar, name: str) -> dict[str, bytes]:
    return {key: data for key, data in tar.parts().items() if key != name}


for _member in ("storages", "tensors", "pickle"):
    tar_case(f"{_member} missing", _member)(lambda tar, member=_member: without(tar, member))
    tar_case(f"{_member} twice", _member)(
        lambda tar, member=_member: tarred([*tar.parts().items(), (member, tar.parts()[member])])
    )
    tar_case(f"bytes after {_member}")(
        lambda tar, member=_member: tar.parts() | {member: tar.parts()[member] + b"\0"}
    )
    tar_case(f"{_member} cut")(lambda tar, member=_member: tar.parts() | {member: tar.parts()[member][:-1]})
TARS: dict[str, Callable[[Tar], Any]] = {
    "size beyond the end": lambda tar: tar_header(tar, lambda head: setattr(head, "size", 1 << 32)),
    "a symbolic link": lambda tar: tar_header(
        tar, lambda head: done(setattr(head, "type", b"2"), setattr(head, "linkname", "/etc/passwd"))
    ),
    "a wrong checksum": lambda tar: tar_header(tar, spoil_sum=True),
    "another member": lambda tar: tar.parts() | {"../ran": b"1"},
    "data after the end": lambda tar: tarred(tar.parts().items()) + b"more".ljust(512, b"\0"),
    "2**31 dimensions": lambda tar: tensor_said(tar, dimensions=1 << 31),
    "2**31 - 1 dimensions": lambda tar: tensor_said(tar, dimensions=(1 << 31) - 1),
    "a storage left out": lambda tar: done(tar.storages.pop()),
    "a storage twice": lambda tar: tar.storages.append(tar.storages[-1]),
    "a storage that nothing refers to": lambda tar: tar.storages.append((5, "Float", 1, b"1234")),
    "a tensor left out": lambda tar: done(tar.tensors.pop()),
    "a tensor twice": lambda tar: tar.tensors.append(tar.tensors[-1]),
    "an offset past its storage": lambda tar: tensor_said(tar, offset=1),
    "a size past its storage": lambda tar: tensor_said(tar, shape=(6,)),
    "a stride of 0": lambda tar: tensor_said(tar, stride=(0,)),
    "a negative offset": lambda tar: tensor_said(tar, offset=-1),
    "tensors of another type": lambda tar: tensor_said(tar, kind="Int"),
    "a count of 2**62": lambda tar: tar.storages.append((*tar.storages.pop()[:2], 1 << 62, raw(ONES))),
    "a negative count": lambda tar: tar.storages.append((*tar.storages.pop()[:2], -1, raw(ONES))),
    "a view past its storage": lambda tar: done(
        tar.views.append((5, tar.storages[-1][0], 1, 5)),
        tensor_said(tar, storage=5),
    ),
    "a view of nothing": lambda tar: tar.views.append((5, 6, 0, 1)),
}
for _name, _spoil_tar in TARS.items():
    tar_case(_name)(_spoil_tar)


# safetensors.
def safe_case(name: str, says: str | None = None) -> Callable[[Callable[[dict[str, Any], bytes], Any]], None]:
    """Registers what changes the header in place, or returns the file."""

    def register(change: Callable[[dict[str, Any], bytes], Any]) -> None:
        def make() -> bytes:
            header, data = safe_parts()
            made = change(header, data)
            return made if isinstance(made, bytes) else safe(header, data)

        refuse(f"safetensors: {name}", says)(make)

    return register


SAFE: dict[str, Callable[[dict[str, Any], bytes], Any]] = {
    "overlap": lambda header, _: header[BIAS].update(
        data_offsets=[place - 4 for place in header[BIAS]["data_offsets"]]
    ),
    "a hole": lambda header, data: safe(
        header | {"far": {"dtype": "F32", "shape": [1], "data_offsets": [len(data) + 4, len(data) + 8]}},
        data + bytes(8),
    ),
    "trailing bytes": lambda header, data: safe(header, data + b"\0"),
    "bytes short": lambda header, data: safe(header, data[:-1]),
    "header beyond the file": lambda header, data: struct.pack("<Q", 1 << 40) + json_of(header) + data,
    "header of 2**63": lambda header, data: struct.pack("<Q", 1 << 63) + json_of(header) + data,
    "header of no length": lambda _, data: struct.pack("<Q", 0) + data,
    "a shape that disagrees": lambda header, _: header[BIAS].update(shape=[6]),
    "a negative shape": lambda header, _: header[BIAS].update(shape=[-1, -5]),
    "an unknown dtype": lambda header, _: header[BIAS].update(dtype="F33"),
    "true for a number": lambda header, _: header[BIAS].update(shape=[5, True]),
    "a float for a number": lambda header, _: header[BIAS].update(shape=[5.0]),
    "offsets in reverse": lambda header, _: header[BIAS]["data_offsets"].reverse(),
    "a field too many": lambda header, _: header[BIAS].update(strides=[1]),
    "a field too few": lambda header, _: done(header[BIAS].pop("dtype")),
    "an entry that is no object": lambda header, _: header.update({BIAS: 3}),
    "header that is a list": lambda header, data: safe(list(header), data),
    "header that is no JSON": lambda _, data: safe(b"{" + b"x" * 99, data),
    "header with NaN": lambda header, data: safe(
        json_of(header)[:-1] + b', "__metadata__": {"a": NaN}}', data
    ),
    "header in UTF-16": lambda header, data: safe(json_of(header).decode().encode("utf-16"), data),
    "header with a byte order mark": lambda header, data: safe(b"\xef\xbb\xbf" + json_of(header), data),
    "header 200,000 deep": lambda header, data: safe(
        json_of(header)[:-1] + b', "a": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_001, data
    ),
    "header behind a space": lambda header, data: safe(b" " + json_of(header), data),
    "metadata that is no text": lambda header, _: header.update(__metadata__={"epoch": 3}),
    "metadata that is a list": lambda header, _: header.update(__metadata__=["a"]),
    "metadata that is a tensor": lambda header, _: header.update(
        __metadata__={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    ),
    "a surrogate in a name": lambda header, _: header.update({"a\ud800": header.pop(BIAS)}),
    "a number of 5,000 digits": lambda header, data: safe(
        json_of(header)[:-1] + b', "a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b"]}}", data
    ),
    "no tensors": lambda *_: safe({}, b""),
}
for _name, _change in SAFE.items():
    safe_case(_name)(_change)
TWICE = {"the same": {}, "another dtype": {"dtype": "I32"}, "other bytes": {"data_offsets": [4, 24]}}
for _name, _other in TWICE.items():
    safe_case(f"a name twice, {_name}", f"{HEAD}|twice")(
        lambda header, data, other=_other: safe(
            json_of(header)[:-1] + b"," + json_of(BIAS) + b":" + json_of(header[BIAS] | other) + b"}", data
        )
    )
safe_case("metadata twice", "twice")(
    lambda header, data: safe(b'{"__metadata__":{},"__metadata__":{"a":"b"},' + json_of(header)[1:], data)
)


def refuse_saved(name: str, says: str | None = None) -> Callable[[Callable[[], object]], None]:
    """Registers what torch saves in either format."""

    def register(make: Callable[[], object]) -> None:
        for kind in ("zip", "legacy"):
            refuse(f"{kind}: {name}", says)(lambda legacy=kind == "legacy": saved(make(), legacy=legacy))

    return register


# Two networks, and the file does not say which.
def other() -> StateDict:
    return {name: value + 1 for name, value in network().items()}


TWO: dict[str, Callable[[], dict[str, Any]]] = {
    "state_dict, state_dict_ema": lambda: {"state_dict": network(), "state_dict_ema": other()},
    "model, model_ema": lambda: {"model": network(), "epoch": 3, "model_ema": other()},
    "state_dict, net": lambda: {"state_dict": network(), "net": other()},
    "model, teacher": lambda: {"model": module(), "teacher": other()},
    "generator, discriminator": lambda: {"generator": network(), "discriminator": network_of_2017()},
}
for _name, _two in TWO.items():
    refuse_saved(f"two networks, {_name}", "".join(rf"(?=.*\b{key}\b)" for key in _name.split(", ")))(_two)


# Tensors of torch's other kinds, and files without a network.
def kinds_of_tensor() -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "quantised": torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8),
            "sparse": ONES.to_sparse(),
            "sparse rows": torch.eye(5).to_sparse_csr(),
            "meta": ONES.to("meta"),
            "nested": torch.nested.nested_tensor([ONES, ONES[:2]]),
        }


for _name in kinds_of_tensor():
    refuse_saved(f"torch's {_name} tensor", HEAD)(
        lambda name=_name: network() | {BIAS: kinds_of_tensor()[name]}
    )
for _name, _content in {
    "an empty dict": {},
    "a list of tensors": [ONES],
    "a tensor": ONES,
    "numbers": {"epoch": 3, "lr": 0.1},
    "an optimizer": optimizer(),
    "a function": torch.add,
}.items():
    refuse_saved(f"nothing but {_name}")(lambda content=_content: content)


# No checkpoints at all.
def archive_of_numpy(save: Callable[..., None], **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


OTHERS: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", "is empty"),
    "one byte": (b"\x80", None),
    "HTML": (b"\n<!DOCTYPE html><html><title>log in</title></html>", "HTML"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "JSON": (b'{"error": "Repository not found"}', None),
    "git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 32342954\n",
        "(?i)lfs",
    ),
    "gzip": (gzip.compress(bytes(999)), None),
    "zeros": (bytes(32_000_000), None),
    "random bytes": (random.Random(0).randbytes(100_000), None),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(4096), None),
    "npy": (archive_of_numpy(np.save, arr=np.ones(5)), "one array of NumPy"),
    "npz": (archive_of_numpy(np.savez, arr_0=np.ones(5), arr_1=np.ones(3)), "2 arrays without names"),
    "text": (b"The weights are on the other disk.\n", None),
    "words": (b"cos\nsystem\n(S'true'\ntR.", None),
    "a pickle's header": (b"\x80\x02", None),
    "a pickle's header and end": (b"\x80\x02.", None),
    "a pickled number": (pickle.dumps(3), None),
}
for _name, (_data, _says) in OTHERS.items():
    refuse(f"no checkpoint: {_name}", _says)(lambda data=_data: data)


def _fifo(folder: Path) -> Refused:
    path = folder / "fifo"
    if not path.exists():
        os.mkfifo(path)
    return Refused(path, "no regular file")


once(REFUSED, "a FIFO", _fifo)
once(REFUSED, "a folder", lambda folder: Refused(folder, "no regular file"))
once(REFUSED, "missing", lambda folder: Refused(folder / "nowhere.pth", "(?i)no such file"))
once(REFUSED, "a device", lambda _: Refused(Path("/dev/zero"), "no regular file"))
