"""A pickle machine that builds inert records: nothing in a pickle is ever imported or called.

It knows the opcodes of protocols 0 to 5, Python 2's among them.  A name becomes a
``Global``, a call of it whatever the caller's ``call`` makes of the two, usually a
``Stub``.  Dicts keep their pairs and refuse a key that comes twice.  Every opcode is
paid for out of a budget before it is carried out.

Source of the opcodes: ``Lib/pickletools.py`` of CPython.
"""

from __future__ import annotations

import codecs
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

from .raw import Whole
from .stand_ins import Dict, LongText, Stub
from .untrusted import MALFORMED, Budget, FormatError, Global

# Looked up now, so that reading a file imports nothing.
codecs.lookup("raw-unicode-escape")

# An integer beyond this is no size, seed or count; printing and hashing one takes long.
LONGEST_INTEGER = 255
# Bytes beyond this are not copied, but seen through a memoryview.
LONGEST_COPY = 256
# Text beyond this is kept as it is: one letter outside of Latin-1 makes every other as wide.
LONGEST_TEXT = 1 << 16
# Bytes that the stack and the memo take for an opcode, and for an object, or a pair within it.
OPCODE, RECORD, PAIR = 64, 400, 200
LONGEST_LINE = 1024

# Which argument these functions call: copyreg's, if it is another class than object, and torch's.
PASSED_ON = {"_reconstructor": 1, "_rebuild_from_type_v2": 0}

Call = Callable[[Any, Any], Any]
Load = Callable[[Any], Any]
# The names that a pickle wants to import, and whether it would call them.
Names = dict[Global, bool]


class Unpickler:
    """Reads one pickle.

    Args:
        data: holds the pickle.
        start: where it begins.
        end: where it must have ended.
        budget: what it may cost.
        call: makes something of a callee and its arguments.
        load: makes something of a persistent id.
        names: collects the globals, in order.
    """

    def __init__(
        self,
        data: Whole,
        start: int,
        end: int,
        budget: Budget,
        call: Call,
        load: Load | None = None,
        names: Names | None = None,
    ) -> None:
        self.data = data
        self.view = memoryview(data)[:end]
        self.position = start
        self.budget = budget
        self.call = call
        self.persistent = load
        self.names = {} if names is None else names
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.done = False

    def load(self) -> Any:
        """The pickled object; ``position`` is behind its end afterwards.

        Raises:
            FormatError: this is no whole and sound pickle, or costs too much.
        """
        start = self.position
        try:
            while not self.done:
                operation = OPERATIONS.get(self.view[self.position])
                if operation is None:
                    raise FormatError(f"byte {self.position} is no opcode of a pickle")
                self.position += 1
                self.budget.take(OPCODE)
                operation(self)
            value = self.stack.pop()
            if self.stack or self.marks:
                raise FormatError("its pickle leaves things behind on the stack")
        except FormatError:
            raise
        except MALFORMED as error:
            raise FormatError(
                f"its pickle, which begins at byte {start}, ends or is damaged at byte {self.position}"
            ) from error
        return value

    # The reader of each opcode's argument.

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        end = self.position + count
        if count < 0 or end > len(self.view):
            raise FormatError(
                f"it ends within its pickle: {count} bytes are said to follow byte {self.position}"
            )
        taken = self.view[self.position : end]
        self.position = end
        return taken

    def unsigned(self, size: int) -> int:
        """A little-endian integer."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> memoryview:
        """Up to a newline, which is left out."""
        end = self.data.find(b"\n", self.position, len(self.view))
        if end < 0:
            raise FormatError(f"a line within its pickle, at byte {self.position}, does not end")
        return self.take(end + 1 - self.position)[:-1]

    def short_line(self) -> bytes:
        """A line that holds a number or a name."""
        line = self.line()
        if len(line) > LONGEST_LINE:
            raise FormatError(f"a number or a name in its pickle takes {len(line)} bytes")
        return bytes(line)

    # The action of each opcode.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_sized(self, value: Any) -> None:
        self.budget.take(sys.getsizeof(value))
        self.stack.append(value)

    def push_record(self, value: Any) -> None:
        self.budget.take(RECORD)
        self.stack.append(value)

    def text(self, encoded: memoryview | bytes, encoding: str = "utf-8") -> None:
        if len(encoded) > LONGEST_TEXT:
            self.push_record(LongText(encoded, encoding))
        else:
            self.push_sized(str(encoded, encoding, "surrogatepass"))

    def old_text(self, encoded: memoryview | bytes) -> None:
        """Python 2's str: text, or the bytes of an array."""
        try:
            self.push_sized(str(encoded, "utf-8") if len(encoded) <= LONGEST_TEXT else encoded)
        except UnicodeDecodeError:
            self.octets(encoded)

    def quoted(self, line: memoryview) -> None:
        """As Python 2's repr writes a str."""
        self.budget.take(len(line))
        text = bytes(line)
        if len(text) < 2 or text[0] not in b"'\"" or text[-1] != text[0]:
            raise ValueError(text[:9])
        self.old_text(codecs.escape_decode(text[1:-1])[0])

    def octets(self, octets: memoryview | bytes) -> None:
        copied = bytes(octets) if len(octets) <= LONGEST_COPY else octets
        self.push_sized(copied)

    def integer(self, size: int) -> None:
        if size > LONGEST_INTEGER:
            raise FormatError(f"an integer in its pickle is said to take {size} bytes")
        self.push_sized(int.from_bytes(self.take(size), "little", signed=True))

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[len(self.stack) - count :])
        if len(items) != count:
            raise IndexError
        if count:
            del self.stack[-count:]
        self.push_sized(items)

    def collect(self, items: list[Any]) -> Any:
        """Into the list, set or object on top of the stack."""
        target = self.stack[-1]
        self.budget.take(16 * len(items))
        (target.items if isinstance(target, Stub) else _list(target)).extend(items)

    def set_items(self, items: list[Any]) -> None:
        self.insert(self.stack[-1], items)

    def insert(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, Dict) or len(items) % 2:
            raise FormatError("a key without a value, or outside of a dict")
        self.budget.take(PAIR * (len(items) // 2))
        for key, value in zip(items[::2], items[1::2], strict=True):
            target.add(key, value)

    def new_dict(self, items: list[Any]) -> None:
        target = Dict()
        self.push_record(target)
        self.insert(target, items)

    def frozen_set(self, items: list[Any]) -> None:
        stub = Stub(Global("builtins", "frozenset"))
        stub.items = items
        self.push_record(stub)

    def name(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 2000:
            raise FormatError("a name that its pickle wants to import is no text")
        found = Global(module, name)
        self.names.setdefault(found, False)
        return found

    def find_class(self) -> Global:
        return self.name(*(self.short_line().decode() for _ in range(2)))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push_record(self.name(module, name))

    def apply(self, callee: Any, args: Any) -> None:
        self.budget.take(sum(map(_copied, args)) + 16 * len(args))
        self.push_record(self.call(callee, args))

    def note_call(self, callee: Any, args: Any) -> None:
        """Marks the names that a call would run: the function's, and one that it passes on to be called."""
        called = [callee]
        if isinstance(callee, Stub):  # an object whose class has __call__, such as functools.partial
            called = [callee.callee, *callee.args[:1]]
        elif isinstance(callee, Global) and isinstance(args, tuple):
            place = PASSED_ON.get(callee.name, len(args))
            called += args[place : place + 1]
        self.names.update((name, True) for name in called if isinstance(name, Global))

    def reduce(self) -> None:
        args, callee = self.stack.pop(), self.stack.pop()
        self.note_call(callee, args)
        self.apply(callee, args)

    def instantiate(self) -> None:
        """NEWOBJ: makes an object of a class, without its ``__init__``."""
        args, callee = self.stack.pop(), self.stack.pop()
        self.apply(callee, args)

    def make(self, items: list[Any]) -> None:
        """OBJ: the class is the first of what was marked."""
        self.note_call(items[0], ())
        self.apply(items[0], tuple(items[1:]))

    def call_class(self, callee: Global, args: tuple[Any, ...]) -> None:
        """INST: the class stands in the opcode."""
        self.note_call(callee, ())
        self.apply(callee, args)

    def make_with_keywords(self) -> None:
        keywords, args, callee = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if not isinstance(keywords, Dict):
            raise TypeError
        self.apply(callee, (*args, keywords) if keywords.pairs else args)

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(state, tuple):
            self.budget.take(sum(map(_copied, state)) + 16 * len(state))
        if not hasattr(target, "build"):
            raise FormatError(f"attributes are set on a {type(target).__name__}")
        target.build(state)

    def put(self, index: int) -> None:
        # Every pickler counts up; anything else only takes memory.
        if not 0 <= index <= self.position:
            raise FormatError(f"its pickle numbers an object {index}, at byte {self.position}")
        self.memo[index] = self.stack[-1]

    def load_persistent(self, identifier: Any) -> None:
        if self.persistent is None:
            raise FormatError("it refers to an object outside of it, and there is none")
        if isinstance(identifier, tuple):
            self.budget.take(16 * len(identifier))
        self.push_record(self.persistent(identifier))

    def frame(self, size: int) -> None:
        if self.position + size > len(self.view):
            raise FormatError(f"it ends within its pickle: a frame of {size} bytes is said to follow")

    def stop(self) -> None:
        self.done = True

    def protocol(self) -> None:
        if (found := self.unsigned(1)) > pickle.HIGHEST_PROTOCOL:
            raise FormatError(f"its pickle is of protocol {found}, expected 0 to {pickle.HIGHEST_PROTOCOL}")


def _copied(argument: Any) -> int:
    """Returns the cost of an argument that a call may copy: a pickle's memo can use it again."""
    if isinstance(argument, LongText):
        return len(argument.octets)
    if isinstance(argument, list | tuple):
        return RECORD * len(argument)
    if isinstance(argument, str):
        return sys.getsizeof(argument)
    return int(getattr(argument, "looked_at", 0))


def _list(target: Any) -> list[Any]:
    if not isinstance(target, list):
        raise FormatError(f"something is appended to a {type(target).__name__}")
    return target


def _decimal(line: bytes) -> int | bool:
    return line == b"01" if line in (b"00", b"01") else int(line)


def _float(octets: memoryview) -> float:
    return float(struct.unpack(">d", octets)[0])


Operation = Callable[[Unpickler], Any]
OPERATIONS: dict[int, Operation] = {
    code[0]: operation
    for code, operation in {
        pickle.PROTO: Unpickler.protocol,
        pickle.FRAME: lambda m: m.frame(m.unsigned(8)),
        pickle.STOP: Unpickler.stop,
        pickle.MARK: Unpickler.mark,
        pickle.POP: Unpickler.pop,
        pickle.POP_MARK: Unpickler.pop_mark,
        pickle.DUP: lambda m: m.push(m.stack[-1]),
        # Constants and numbers.
        pickle.NONE: lambda m: m.push(None),
        pickle.NEWTRUE: lambda m: m.push(True),
        pickle.NEWFALSE: lambda m: m.push(False),
        pickle.INT: lambda m: m.push_sized(_decimal(m.short_line())),
        pickle.LONG: lambda m: m.push_sized(int(m.short_line().removesuffix(b"L"))),
        pickle.BININT: lambda m: m.integer(4),
        pickle.BININT1: lambda m: m.push(m.unsigned(1)),
        pickle.BININT2: lambda m: m.push(m.unsigned(2)),
        pickle.LONG1: lambda m: m.integer(m.unsigned(1)),
        pickle.LONG4: lambda m: m.integer(m.unsigned(4)),
        pickle.FLOAT: lambda m: m.push(float(m.short_line())),
        pickle.BINFLOAT: lambda m: m.push(_float(m.take(8))),
        # Text and bytes.
        pickle.UNICODE: lambda m: m.text(m.line(), "raw-unicode-escape"),
        pickle.SHORT_BINUNICODE: lambda m: m.text(m.take(m.unsigned(1))),
        pickle.BINUNICODE: lambda m: m.text(m.take(m.unsigned(4))),
        pickle.BINUNICODE8: lambda m: m.text(m.take(m.unsigned(8))),
        pickle.STRING: lambda m: m.quoted(m.line()),
        pickle.SHORT_BINSTRING: lambda m: m.old_text(m.take(m.unsigned(1))),
        pickle.BINSTRING: lambda m: m.old_text(m.take(m.unsigned(4))),
        pickle.SHORT_BINBYTES: lambda m: m.octets(m.take(m.unsigned(1))),
        pickle.BINBYTES: lambda m: m.octets(m.take(m.unsigned(4))),
        pickle.BINBYTES8: lambda m: m.octets(m.take(m.unsigned(8))),
        pickle.BYTEARRAY8: lambda m: m.octets(m.take(m.unsigned(8))),
        # Containers.
        pickle.EMPTY_TUPLE: lambda m: m.push(()),
        pickle.TUPLE1: lambda m: m.tuple_of(1),
        pickle.TUPLE2: lambda m: m.tuple_of(2),
        pickle.TUPLE3: lambda m: m.tuple_of(3),
        pickle.TUPLE: lambda m: m.push_sized(tuple(m.pop_mark())),
        pickle.EMPTY_LIST: lambda m: m.push_sized([]),
        pickle.LIST: lambda m: m.push_sized(m.pop_mark()),
        pickle.APPEND: lambda m: m.collect([m.stack.pop()]),
        pickle.APPENDS: lambda m: m.collect(m.pop_mark()),
        pickle.EMPTY_DICT: lambda m: m.push_record(Dict()),
        pickle.DICT: lambda m: m.new_dict(m.pop_mark()),
        pickle.SETITEM: lambda m: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
        pickle.SETITEMS: lambda m: m.set_items(m.pop_mark()),
        pickle.EMPTY_SET: lambda m: m.push_record(Stub(Global("builtins", "set"))),
        pickle.ADDITEMS: lambda m: m.collect(m.pop_mark()),
        pickle.FROZENSET: lambda m: m.frozen_set(m.pop_mark()),
        # Names and calls.
        pickle.GLOBAL: lambda m: m.push_record(m.find_class()),
        pickle.STACK_GLOBAL: Unpickler.stack_global,
        pickle.REDUCE: Unpickler.reduce,
        pickle.NEWOBJ: Unpickler.instantiate,
        pickle.NEWOBJ_EX: Unpickler.make_with_keywords,
        pickle.INST: lambda m: m.call_class(m.find_class(), tuple(m.pop_mark())),
        pickle.OBJ: lambda m: m.make(m.pop_mark()),
        pickle.BUILD: Unpickler.build,
        pickle.PERSID: lambda m: m.load_persistent(m.short_line().decode()),
        pickle.BINPERSID: lambda m: m.load_persistent(m.stack.pop()),
        # The memo.
        pickle.PUT: lambda m: m.put(int(m.short_line())),
        pickle.BINPUT: lambda m: m.put(m.unsigned(1)),
        pickle.LONG_BINPUT: lambda m: m.put(m.unsigned(4)),
        pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
        pickle.GET: lambda m: m.push(m.memo[int(m.short_line())]),
        pickle.BINGET: lambda m: m.push(m.memo[m.unsigned(1)]),
        pickle.LONG_BINGET: lambda m: m.push(m.memo[m.unsigned(4)]),
    }.items()
}
