"""Pickles to refuse: tensors out of their storage, names twice, commands and bombs."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from corpus.opcodes import (
    FALSE,
    NDARRAY,
    NONE,
    ORDERED,
    TRUE,
    Net,
    array,
    binary,
    call,
    dict_,
    dtype_of_numpy,
    global_,
    many,
    named,
    number,
    numbers,
    plain,
    python_2,
    text,
    with_more,
)
from corpus.registry import (
    BIAS,
    EITHER,
    HEAD,
    ONES,
    REFUSED,
    Refused,
    Sound,
    network,
    network_of_2017,
    numpy_network,
    once,
    path_of,
    raw,
    refuse,
)


def attack(
    name: str, says: str | None = None, kinds: Iterable[str] = ("zip", "legacy")
) -> Callable[[Callable[[Net], None]], None]:
    """Registers what spoils a network, in each format that can hold it."""

    def register(spoil: Callable[[Net], None]) -> None:
        for kind in kinds:

            def write(folder: Path, kind: str = kind) -> Refused:
                net = Net(legacy=kind == "legacy", folder=folder)
                spoil(net)
                path = path_of(folder, f"{kind} {name}")
                path.write_bytes(net.file())
                return Refused(path, says)

            once(REFUSED, f"{kind}: {name}", write)

    return register


# What is wrong before the tensor has a name.
WHERE = rf"{HEAD}|a tensor|storage|persistent|its pickle"


def bias(name: str, says: str | None = HEAD) -> Callable[[Callable[[Net], bytes]], None]:
    """Registers other opcodes for the classifier's bias."""

    def register(make: Callable[[Net], bytes]) -> None:
        attack(name, says)(lambda net: net.__setitem__(BIAS, make(net)))

    return register


# Tensors that reach where they must not, or are none.
GEOMETRY: dict[str, dict[str, Any]] = {
    "offset one past its storage": {"offset": 1},
    "size one past its storage": {"size": [6]},
    "stride past its storage": {"stride": [2]},
    "offset far past its storage": {"offset": 1 << 62},
    "negative offset": {"offset": -1},
    "negative size": {"size": [-5]},
    "two negative sizes": {"size": [-1, -5], "stride": [5, 1]},
    "negative stride": {"stride": [-1], "offset": 4},
    "stride of 0": {"stride": [0]},
    "overlapping strides": {"size": [2, 3], "stride": [1, 1]},
    "2**32 elements by stride 0": {"size": [1 << 32], "stride": [0]},
    "size of 2**64": {"size": [1 << 64]},
    "sizes whose product wraps": {"size": [1 << 32, 1 << 32], "stride": [0, 0]},
    "offset of a million bits": {"offset": 1 << 1_000_000},
    "fewer strides than sizes": {"size": [5, 1], "stride": [1]},
    "65 dimensions": {"size": [1] * 64 + [5], "stride": [1] * 65},
    "no strides": {"stride": []},
}
for _name, _lie in GEOMETRY.items():
    bias(_name, WHERE)(lambda net, lie=_lie: net.v2(ONES, **lie))

LIES: dict[str, Callable[[Net], bytes]] = {
    "true for a size": lambda net: net.v2(ONES[:1]).replace(numbers([1]), many(TRUE), 1),
    "no tuple for a size": lambda net: net.v2(ONES).replace(numbers([5]), number(5), 1),
    "a float for an offset": lambda net: net.v2(ONES).replace(number(0), plain(0.0), 1),
    "no storage": lambda net: net.v2(ONES, storage=NONE),
    "too few arguments": lambda net: call("torch._utils._rebuild_tensor_v2", net.storage(bytes(20))),
    "too many arguments": lambda net: net.v2(ONES, b"}", b"}", b"}"),
    "storage declared one shorter": lambda net: net.v2(ONES, storage=net.storage(bytes(20), count=4)),
    "storage declared one longer": lambda net: net.v2(ONES, storage=net.storage(bytes(20), count=6)),
    "storage of negative count": lambda net: net.v2(ONES, storage=net.storage(bytes(20), count=-5)),
    "storage of 2**62 elements": lambda net: net.v2(ONES, storage=net.storage(bytes(20), count=1 << 62)),
    "unknown storage class": lambda net: net.v2(ONES, storage=net.storage(bytes(20), "Weird")),
    "persistent id that is no tuple": lambda _: text("0") + b"Q",
    "persistent id of protocol 0": lambda _: b"P0\n",
    "persistent id of another type": lambda _: many(text("tensor"), text("0")) + b"Q",
    "conjugated": lambda net: net.v2(ONES, named(conj=TRUE)),
    "negated": lambda net: net.v2(ONES, named(neg=TRUE)),
    "None": lambda _: NONE,
    "a number": lambda _: number(3),
    "text": lambda _: text("3"),
    "a list": lambda _: b"]" + number(1) + b"a",
    "a storage": lambda net: net.storage(bytes(20)),
    "a function that torch lacks": lambda net: net.v2(ONES, function="torch._utils._rebuild_tensor_v9"),
    "meta": lambda _: call(
        "torch._utils._rebuild_meta_tensor_no_storage",
        global_("torch.float32"),
        numbers([5]),
        numbers([1]),
        FALSE,
    ),
}
for _name, _lie in LIES.items():
    bias(_name, WHERE)(_lie)


@attack("one storage under two types")
def _(net: Net) -> None:
    net[BIAS] = net.v2(ONES)
    net.add(text("bits"), net.v2(ONES, storage=net.id(net.last, "Int", 5)))


@attack("one storage with two counts")
def _(net: Net) -> None:
    net[BIAS] = net.v2(ONES)
    net.add(text("part"), net.v2(ONES[:3], storage=net.id(net.last, "Float", 3)))


@attack("a storage that is not there", "storage")
def _(net: Net) -> None:
    net[BIAS] = net.v2(ONES, storage=net.id("9999", "Float", 5))


for _name, _view in {"offset": (1, 5), "count": (0, 6), "negative offset": (-1, 5), "short": (0, 4)}.items():

    @attack(f"storage view past its storage: {_name}", kinds=["legacy"])
    def _(net: Net, view: tuple[int, int] = _view) -> None:
        net.storage(raw(ONES))
        view_id = many(text(f"{net.last} view"), *map(number, view))
        net[BIAS] = net.v2(ONES, storage=net.id(net.last, "Float", 5, view_id))


# Names, and dicts that say one thing twice.
attack("a name twice", HEAD)(lambda net: net.add(text(BIAS), net.v2(ONES)))
attack("a name twice, once of Python 2", HEAD)(lambda net: net.add(python_2(BIAS), net.v2(ONES)))


@attack("a container twice", "state_dict")
def _(net: Net) -> None:
    net.container = "state_dict"
    net.beside = [(text("state_dict"), dict_(*Net(legacy=net.legacy).entries.values()))]


@attack("a name set anew through the memo", HEAD)
def _(net: Net) -> None:
    net.container = "state_dict"
    net.beside = [(text("epoch"), number(3))]
    whole = Net.pickled(net).replace(ORDERED + b"(", ORDERED + b"q\0(", 1)[:-1]
    again = b"h\0" + text(BIAS) + net.v2(ONES) + b"s0"
    net.pickled = lambda: whole + again + b"."


ODD_NAMES = {
    "bytes": binary(b"a.weight"),
    "a number": number(3),
    "a surrogate": text("a.\ud800"),
    "a tuple": numbers([1]),
    "no UTF-8": b"X\1\0\0\0\xff",
}
for _name, _key in ODD_NAMES.items():
    attack(f"a name that is {_name}")(lambda net, key=_key: net.add(key, net.v2(ONES)))


@attack("1.5 million empty tensors")
def _(net: Net) -> None:
    made = net.v2(torch.ones(0)).removesuffix(b"R")
    function, arguments = made[: made.index(b"(")], made[made.index(b"(") :]
    net.add(text("none"), function + b"q\0" + arguments + b"q\1R")
    names = (b"X\x08\0\0\0n%07d" % index for index in range(1_500_000))
    net.add(b"", b"".join(name + b"h\0h\1R" for name in names))


LONG, CONTROL = "n" * 1_000_000, "a\n\r\x1b[31mb\u202e"
for _name, _value in {"a long": LONG, "an unprintable": CONTROL}.items():
    attack(f"no tensor under {_name} name")(lambda net, value=_value: net.add(text(value), NONE))
    attack(f"{_name} name twice")(
        lambda net, value=_value: [net.add(text(value), net.v2(ONES)) for _ in range(2)] and None
    )
    bias(f"{_name} storage", None)(lambda net, value=_value: net.v2(ONES, storage=net.id(value, "Float", 5)))
    bias(f"{_name} storage class", None)(
        lambda net, value=_value: net.v2(ONES, storage=net.storage(bytes(20))).replace(
            global_("torch.FloatStorage"), text(value) + text("b") + b"\x93", 1
        )
    )
    bias(f"{_name} function", None)(lambda _, value=_value: call(text(value) + text(value) + b"\x93"))
    bias(f"{_name} persistent id", None)(lambda _, value=_value: text(value) + b"Q")


# Modules whose parts say one thing twice, or hold themselves.
def part(*, parameters: bytes = b"}", buffers: bytes = b"}", modules: bytes = b"}") -> bytes:
    state = named(_parameters=parameters, _buffers=buffers, _modules=modules)
    return global_("lost_project.models.Part") + b")\x81" + state + b"b"


MODULES: dict[str, Callable[[bytes], bytes]] = {
    "a name as parameter and buffer": lambda one: part(parameters=named(a=one), buffers=named(a=one)),
    "a name as parameter and of a part": lambda one: part(
        parameters=dict_((text("a.b"), one)), modules=named(a=part(parameters=named(b=one)))
    ),
    "a parameter that is none": lambda one: part(parameters=named(a=one, b=number(3))),
    "a part that is none": lambda one: part(parameters=named(a=one), modules=named(b=number(3))),
    "parts that are a list": lambda one: part(parameters=named(a=one), modules=b"]"),
    "itself as a part": lambda one: (
        global_("lost_project.models.Part")
        + b")\x81q\0"
        + named(_parameters=named(a=one), _buffers=b"}", _modules=named(b=b"h\0"))
        + b"b"
    ),
    "a billion parts": lambda one: (
        part(parameters=named(a=one))
        + b"".join(
            b"q%c0" % level + part(modules=dict_(*((text(str(n)), b"h%c" % level) for n in range(10))))
            for level in range(12)
        )
    ),
    "a part 100,000 deep": lambda one: (
        (
            global_("a.Part")
            + b")\x81}("
            + b"".join(text(key) + b"}" for key in ("_parameters", "_buffers", "_modules"))
            + text("a")
        )
        * 100_000
        + part(parameters=named(a=one))
        + b"sub" * 100_000
    ),
}
for _name, _module in MODULES.items():

    @attack(f"a module with {_name}")
    def _(net: Net, module: Callable[[bytes], bytes] = _module) -> None:
        whole = module(net.v2(ONES))
        net.pickled = lambda: b"\x80\x02" + whole + b"."
        net.storages = {key: net.storages[key] for key in list(net.storages)[-1:]}


# Wrappings of wrappings.
@refuse("pickle: bytes in bytes, 500 times")
def _() -> bytes:
    """A storage in a legacy file within a legacy file within a legacy file ..."""
    innermost = Net(legacy=True, state={})
    made = innermost.storage(raw(ONES))
    for depth in range(500):
        net = innermost if depth == 0 else Net(legacy=True, state={})
        net.pickled = lambda inner=made: b"\x80\x02" + inner + b"."
        made = call("torch.storage._load_from_bytes", binary(net.file()))
    return with_more(network(), net.v2(ONES, storage=made))


def number_of_numpy(kind: str, data: bytes) -> bytes:
    return call("numpy.core.multiarray.scalar", dtype_of_numpy(kind), binary(data))


ARRAYS_TO_REFUSE: dict[str, bytes] = {
    "more elements than bytes": array(shape=numbers([6])),
    "fewer elements than bytes": array(shape=numbers([4])),
    "a negative shape": array(shape=numbers([-5])),
    "two negative sizes": array(shape=numbers([-5, -1])),
    "2**32 by 2**32 elements": array(shape=numbers([1 << 32, 1 << 32])),
    "65 dimensions": array(shape=numbers([1] * 64 + [5])),
    "no tuple for a shape": array(shape=number(5)),
    "an unknown type": array(dtype="f3"),
    "text for elements": array(dtype="U1"),
    "objects": array(dtype="O8", data=bytes(40)),
    "an unknown order": array(order="?"),
    "no state": NDARRAY,
    "a scalar too short": number_of_numpy("f4", b"123"),
    "a scalar too long": number_of_numpy("f4", b"12345"),
}
for _name, _array in ARRAYS_TO_REFUSE.items():
    refuse(f"numpy: {_name}")(lambda array=_array: with_more(numpy_network(), array))


# Pickles that are none, that never end, or that run a command.
def nested_tuples(depth: int) -> bytes:
    """Each holds the one before it ten times: 10**depth leaves in a few bytes."""
    return b")" + b"".join(b"q%c0(" % level + b"h%c" % level * 10 + b"t" for level in range(depth))


def colliding(count: int) -> bytes:
    return dict_(*((number(index * ((1 << 61) - 1)), NONE) for index in range(1, count)))


# Read and dropped again before a sound tensor.
STRAY: dict[str, bytes] = {
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\x00",
    "EXT4": b"\x84\x01\x00\x00\x00",
    "NEXT_BUFFER": b"\x97",
    "READONLY_BUFFER": b"N\x98",
    "an unknown opcode": b"\xff",
    "a memo index of 2**31": NONE + b"r\x00\x00\x00\x80",
    "a negative memo index": NONE + b"p-1\n",
    "an unknown memo index": b"j\x00\x00\x00\x7f",
    "a stack underflow": b"000000000000",
    "marks that are not there": b"tttt",
    "BYTEARRAY8 of 2**40": b"\x96" + struct.pack("<Q", 1 << 40),
    "BINBYTES8 of 2**63": b"\x8e" + struct.pack("<Q", 1 << 63),
    "BINUNICODE8 of 2**40": b"\x8d" + struct.pack("<Q", 1 << 40),
    "BINSTRING of negative length": b"T\xff\xff\xff\xff",
    "LONG4 of negative length": b"\x8b\xff\xff\xff\xff",
    "a frame past the end": b"\x95" + struct.pack("<Q", 1 << 40) + NONE,
    "a protocol of 200": b"\x80\xc8" + NONE,
    "GLOBAL without an end": b"cos",
    "STACK_GLOBAL of numbers": number(1) + number(2) + b"\x93",
    "SETITEMS of three": b"}(NNNu",
    "APPEND to None": b"NNa",
    "a number that is none": b"Ione\n",
}
for _name, _opcodes in STRAY.items():
    bias(f"opcodes: {_name}", None)(lambda net, opcodes=_opcodes: opcodes + b"0" + net.v2(ONES))

# In place of a tensor.
BULK: dict[str, bytes] = {
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n",
    "a long of a million digits": b"L" + b"9" * 1_000_000 + b"L\n",
    "a list 10 million deep": b"]" * 10_000_000 + b"a" * 9_999_999,
    "a tuple 10 million deep": b"(" * 10_000_000 + b"t" * 10_000_000,
    "dicts 3 million deep": b"}" + b"N}" * 3_000_000 + b"s" * 3_000_000,
    "calls a million deep": (global_("a.b") + b"(") * 1_000_000 + b"tR" * 1_000_000,
    "a billion laughs": nested_tuples(30),
    "a dict as its own key": b"}q\0h\0Ns",
    "a billion laughs as a key": b"}" + nested_tuples(30) + b"Ns",
}
for _name, _opcodes in BULK.items():
    bias(_name, None)(lambda _, opcodes=_opcodes: opcodes)


@attack("keys that collide, beside")
def _(net: Net) -> None:
    net.container, net.beside = "state_dict", [(text("seen"), colliding(300_000))]


attack("no STOP")(lambda net: setattr(net, "closing", b""))
attack("two values at STOP", kinds=["zip"])(lambda net: setattr(net, "closing", b".N."))


def python(net: Net) -> bytes:
    return text(f"__import__('os').system({net.command!r})")


def system(net: Net) -> bytes:
    return call("posix.system", text(net.command))


def through_map(net: Net, close: bytes) -> bytes:
    """Classes only: a tuple that is made of what a map yields."""
    arguments = many(global_("posix.system"), many(text(net.command)))
    return global_("builtins.tuple") + b"(" + global_("builtins.map") + arguments + close + b"t" + close


def array_of(item: bytes) -> bytes:
    return NDARRAY + many(number(1), numbers([1]), dtype_of_numpy("O8"), FALSE, b"]" + item + b"a") + b"b"


def evil(net: Net) -> bytes:
    return binary(b"\x80\x02" + system(net) + b".")


WAYS: dict[str, Callable[[Net], bytes]] = {
    "REDUCE": system,
    "INST": lambda net: b"(" + text(net.command) + b"iposix\nsystem\n",
    "OBJ": lambda net: b"(" + global_("posix.system") + text(net.command) + b"o",
    "NEWOBJ": lambda net: through_map(net, b"\x81"),
    "NEWOBJ_EX": lambda net: through_map(net, b"}\x92"),
    "STACK_GLOBAL": lambda net: call(text("posix") + text("system") + b"\x93", text(net.command)),
    "eval": lambda net: call("builtins.eval", python(net)),
    "exec": lambda net: call("builtins.exec", python(net)),
    "Python 2's eval": lambda net: call("__builtin__.eval", python(net)),
    "getattr": lambda net: call(
        call("builtins.getattr", call("builtins.__import__", text("os")), text("system")), text(net.command)
    ),
    "__setstate__": lambda net: (
        global_("argparse.Namespace")
        + b")\x81"
        + named(__setstate__=global_("posix.system"))
        + b"b"
        + text(net.command)
        + b"b"
    ),
    "pickle.loads": lambda net: call("pickle.loads", evil(net)),
    "torch.load": lambda net: call("torch.load", call("_io.BytesIO", evil(net))),
    "torch.hub.load": lambda _: call("torch.hub.load", text("stranger/repo"), text("model")),
    "_load_from_bytes": lambda net: call("torch.storage._load_from_bytes", evil(net)),
    "a storage by _load_from_bytes": lambda net: net.v2(
        ONES, storage=call("torch.storage._load_from_bytes", evil(net))
    ),
    "a numpy array of objects": lambda net: array_of(system(net)),
    "a type's rebuild function": lambda net: call(
        "torch._tensor._rebuild_from_type_v2",
        global_("posix.system"),
        global_("torch.Tensor"),
        many(text(net.command)),
        b"}",
    ),
    "a parameter": lambda net: call("torch._utils._rebuild_parameter", system(net), TRUE, ORDERED),
    "a storage": lambda net: net.v2(ONES, storage=system(net)),
    "a size": lambda net: net.v2(ONES).replace(numbers([5]), many(system(net)), 1),
    "a storage's class": lambda net: net.v2(ONES).replace(global_("torch.FloatStorage"), system(net), 1),
}
for _name, _way in WAYS.items():
    bias(f"runs a command: {_name}", None)(_way)


attack("runs a command: as a name")(lambda net: net.add(system(net), net.v2(ONES)))


def beside(name: str, value: Callable[[Net], bytes]) -> None:
    def write(folder: Path, kind: str) -> Sound:
        net = Net(legacy=kind == "legacy", state=network_of_2017(), folder=folder)
        net.container, net.beside = "state_dict", [(text("extra"), value(net))]
        path = path_of(folder, f"{kind} beside {name}")
        path.write_bytes(net.file())
        return Sound(path, network_of_2017(), f"torch-{kind}", "state_dict")

    for kind in ("zip", "legacy"):
        once(EITHER, f"{kind}: beside {name}", functools.partial(write, kind=kind))


for _name, _way in WAYS.items():
    beside(f"a command by {_name}", _way)
beside("hooks", lambda net: net.v2(ONES, flags=(FALSE, dict_((number(0), system(net)), start=ORDERED))))
for _name, _opcodes in BULK.items():
    beside(_name, lambda _, opcodes=_opcodes: opcodes)
