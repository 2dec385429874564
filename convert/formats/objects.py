"""Turns the calls in a checkpoint's pickles into tensors, arrays and dicts, without the libraries.

Every other call stays a ``Stub``.

Sources: ``torch/_utils.py`` and ``torch/_tensor.py`` (the functions named ``_rebuild_*``),
``torch/storage.py``; ``numpy/_core/src/multiarray/methods.c`` and ``descriptor.c``
(``array_reduce``, ``arraydescr_reduce``); ``Lib/copyreg.py`` of CPython.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any

from .raw import DTYPES, MOST_DIMENSIONS, Broken, Buffer, RawTensor, Storage, row_major_strides
from .stand_ins import Dict, LongText, Stub
from .untrusted import FormatError, Global, shown

# The classes of torch's storages, by the dtype of their elements.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": None,
    # Their elements mean something only with the scales of a quantised tensor.
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
}
# numpy's letters, each with the size of an element.
NUMPY = {
    "f8": "float64",
    "f4": "float32",
    "f2": "float16",
    "c16": "complex128",
    "c8": "complex64",
    "i8": "int64",
    "i4": "int32",
    "i2": "int16",
    "i1": "int8",
    "u8": "uint64",
    "u4": "uint32",
    "u2": "uint16",
    "u1": "uint8",
    "b1": "bool",
}
# Names of Python 2, and modules that moved.
MOVED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy",
    "numpy._core.multiarray": "numpy",
    "numpy.core.numeric": "numpy",
    "numpy._core.numeric": "numpy",
    "torch.tensor": "torch._tensor",
    "torch.nn.parameter": "torch.nn",
    "torch.autograd.variable": "torch.autograd",
}
# Sound pickles call these beside what is built here: values of Python, and objects of torch and numpy.
VALUES = {
    *(f"builtins.{name}" for name in ("bytes", "complex", "float", "frozenset", "int", "list", "object")),
    *(f"builtins.{name}" for name in ("range", "set", "slice", "str", "tuple", "xrange")),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePath", "PurePosixPath", "WindowsPath")),
    *(f"collections.{name}" for name in ("Counter", "deque")),
    *(
        "argparse.Namespace",
        "decimal.Decimal",
        "functools.partial",
        "uuid.UUID",
        "torch.device",
        "torch.Generator",
    ),
    *("torch.serialization._get_layout", "torch.storage._load_from_bytes", "torch.jit._pickle.build_intlist"),
}
FAMILIES = (
    "torch._utils._rebuild_",
    "torch._tensor._rebuild_",
    "numpy.random._pickle.",
    "numpy.random.bit_generator.",
)
CHUNK = 1 << 20
AS_PLAIN = "Save a plain copy of it: torch.Tensor.detach(tensor).clone()."
AS_FLOAT = "Save it as float32."
LAZY = "a tensor is negated or conjugated only when it is used"
RESOLVED = "Save its resolve_neg().resolve_conj()."
# Functions that make something else than a plain tensor, and those that make one.
UNPLAIN = {
    "_rebuild_qtensor": ("a quantised tensor", "Save its dequantize(), or the network before quantisation."),
    "_rebuild_sparse_tensor": ("a sparse tensor", "Save its to_dense()."),
    "_rebuild_sparse_csr_tensor": ("a sparse tensor", "Save its to_dense()."),
    "_rebuild_nested_tensor": ("a nested tensor", "Save its parts."),
    "_rebuild_meta_tensor_no_storage": (
        "a tensor without values, of the meta device",
        "Save the network after its weights were loaded.",
    ),
}


class NumpyDtype:
    """A dtype: made from its letters, and then told its byte order."""

    __slots__ = ("big_endian", "name")

    def __init__(self, letters: Any) -> None:
        self.name = NUMPY.get(letters) if isinstance(letters, str) else None
        self.big_endian = False

    def build(self, state: Any) -> None:
        """State as numpy's: (version, byte order, ...)."""
        if state[1] not in ("<", ">", "=", "|"):
            raise FormatError(f"an array's byte order is {shown(state[1])}, which numpy does not have")
        self.big_endian = state[1] == ">"


class Late:
    """A tensor that is made empty, and then given its elements; ``tensor`` is None until then."""

    __slots__ = ("tensor",)

    def __init__(self) -> None:
        self.tensor: RawTensor | Broken | None = None


class OldTensor(Late):
    """``torch.FloatTensor()`` and the like, of torch 0.1."""

    def build(self, state: Any) -> None:
        """State: (storage, offset, shape, strides)."""
        self.tensor = _tensor(*state)


class OldVariable(Late):
    """``Variable()``, of torch 0.1."""

    def build(self, state: Any) -> None:
        """State: (tensor, gradient, hooks, ...)."""
        first = state[0].tensor if isinstance(state[0], Late) else state[0]
        self.tensor = first if isinstance(first, RawTensor | Broken) else None


class NumpyArray(Late):
    """An array; ``tensor`` stays None where its elements are ``objects``."""

    __slots__ = ("objects",)

    def __init__(self) -> None:
        super().__init__()
        self.objects: list[Any] | None = None

    @property
    def looked_at(self) -> int:
        """How many bytes a call may look through."""
        return self.tensor.storage.size if isinstance(self.tensor, RawTensor) else 0

    def build(self, state: Any) -> None:
        """State as numpy's: (version, shape, dtype, whether Fortran's order, elements)."""
        if len(state) not in (4, 5):  # without the version, in old files
            raise FormatError(f"an array has a state of {len(state)} parts, expected 5")
        self.fill(*state[-4:])

    def fill(self, shape: Any, dtype: Any, fortran: Any, data: Any) -> None:
        """Takes the elements, where they are numbers.  Raises FormatError where they don't fill the shape."""
        if self.tensor is not None:
            raise FormatError("an array is filled twice")
        if not isinstance(dtype, NumpyDtype) or dtype.name is None or not isinstance(shape, tuple):
            self.objects = data if isinstance(data, list) else None
            return
        octets = _octets(data)
        storage = Storage("of an array", dtype.name, len(octets), octets, dtype.big_endian)
        strides = row_major_strides(shape[::-1])[::-1] if fortran else row_major_strides(shape)
        tensor = _view(dtype.name, shape, strides, storage, 0)
        if isinstance(tensor, RawTensor) and tensor.nbytes != len(octets):
            tensor = Broken(f"an array of shape {list(shape)} has {len(octets)} bytes, not {tensor.nbytes}")
        self.tensor = tensor


def storage_dtype(storage_class: Any) -> str | None:
    """The dtype of a storage's elements; None where only its tensors know.

    Raises:
        FormatError: there is no such class.
    """
    if not isinstance(storage_class, Global) or storage_class.name not in STORAGES:
        raise FormatError(f"a storage is of class {shown(storage_class)}, which torch does not have")
    return STORAGES[storage_class.name]


def is_harmless(callee: Global) -> bool:
    """Whether what a pickle calls makes a value, and is called in sound checkpoints of every kind."""
    name = f"{MOVED.get(callee.module, callee.module)}.{callee.name}"
    return name in BUILDERS or name in VALUES or name.startswith(FAMILIES)


def call(callee: Any, args: Any) -> Any:
    """Returns, as records, the result that calling ``callee`` with ``args`` would have.

    Raises:
        FormatError: it is a function that is known here, with arguments that it does not take.
    """
    if not isinstance(callee, Global | Stub) or not isinstance(args, tuple):
        raise FormatError(f"its pickle calls a {type(callee).__name__}")
    if isinstance(callee, Stub):
        return Stub(callee, args)
    name = f"{MOVED.get(callee.module, callee.module)}.{callee.name}"
    build = BUILDERS.get(name)
    return Stub(callee, args) if build is None else build(*args)


def _view(dtype: str, shape: Any, strides: Any, storage: Storage, offset: Any) -> RawTensor | Broken:
    try:
        return RawTensor(dtype, shape, strides, storage, offset)
    except FormatError as error:
        return Broken(error.found)


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, dtype: str | None = None
) -> RawTensor | Broken:
    if not isinstance(storage, Storage):
        return Broken("a tensor is made of something that is no storage")
    if not (_is_short(shape) and _is_short(strides)):
        return Broken("a tensor's shape or strides are no sequence, or a very long one")
    return _view(dtype or storage.dtype or "uint8", tuple(shape), tuple(strides), storage, offset)


def _is_short(value: Any) -> bool:
    """Returns whether a value may be copied without paying: a pickle can give one long list to many calls."""
    return isinstance(value, tuple | list) and len(value) <= MOST_DIMENSIONS


def _is_lazy(metadata: Any) -> bool:
    if not isinstance(metadata, Dict):
        return False
    return not _is_short(metadata.pairs) or any(bit for _, bit in metadata.pairs)


def _size(sizes: Any = ()) -> tuple[Any, ...]:
    if not _is_short(sizes):
        raise FormatError("a tensor's size is no sequence, or a very long one")
    return tuple(sizes)


def _bytearray(data: Any = b"", *encoding: Any) -> Buffer:
    if encoding:
        return _encoded(data)
    if isinstance(data, str | LongText):
        raise FormatError("text is taken for bytes")
    return memoryview(data)


def _tensor_v2(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, metadata: Any = None
) -> RawTensor | Broken:
    if _is_lazy(metadata):
        return Broken(LAZY, RESOLVED)
    return _tensor(storage, offset, shape, strides)


def _tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> RawTensor | Broken:
    if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in DTYPES:
        return Broken(f"a tensor is of dtype {shown(dtype)}, which is not known here", AS_FLOAT)
    if _is_lazy(metadata):
        return Broken(LAZY, RESOLVED)
    return _tensor(storage, offset, shape, strides, dtype.name)


def _first(value: Any, *_: Any) -> Any:
    """Returns the tensor in a wrapper that changes none of its elements."""
    return value


def _variable(value: Any = None, *_: Any) -> Any:
    return OldVariable() if value is None else value


def _of_type(function: Any, _: Any, args: Any, *__: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2(function, type, args, state)."""
    # Only what takes its arguments as they are: what is within them has not been paid for.
    if not isinstance(function, Global) or str(function) not in REBUILD or not _is_short(args):
        return Broken(f"a tensor is made by {shown(function)}, which is not known here", AS_PLAIN)
    return BUILDERS[str(function)](*args)


def _of_device(value: Any, dtype: Any, *_: Any) -> Any:
    """torch._utils._rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad), and its kin.

    numpy has no bfloat16: such elements come as float32, of which the upper half is all there is.
    """
    tensor = value.tensor if isinstance(value, Late) else value
    if not isinstance(tensor, RawTensor) or not isinstance(dtype, Global) or dtype.module != "torch":
        return Broken("a tensor of another device is made of what is no tensor")
    if tensor.dtype == dtype.name:
        return tensor
    # Only arrays pay for being searched.
    if isinstance(value, NumpyArray) and (tensor.dtype, dtype.name) == ("float32", "bfloat16"):
        upper = _upper_halves(tensor)
        if upper is not None:
            return upper
    return Broken(f"a tensor of {tensor.dtype} is to become one of {shown(dtype)}, which rounds", AS_FLOAT)


def _upper_halves(tensor: RawTensor) -> RawTensor | None:
    """The same elements as bfloat16, uncopied; None where a lower half is not zero."""
    storage = tensor.storage
    assert storage.data is not None  # an array is made of its elements
    octets = memoryview(storage.data).cast("B")
    lower = (2, 3) if storage.big_endian else (0, 1)
    if any(bytes(octets[place::4]).strip(b"\0") for place in lower):
        return None
    halves = Storage(storage.label, "bfloat16", storage.size, storage.data, storage.big_endian)
    strides = tuple(2 * stride for stride in tensor.strides)
    offset = 2 * tensor.offset + (0 if storage.big_endian else 1)
    return RawTensor("bfloat16", tensor.shape, strides, halves, offset)


def _unplain(what: str, advice: str) -> Callable[..., Broken]:
    return lambda *_: Broken(f"it is {what}", advice)


def _ordered(pairs: Any = ()) -> Dict:
    ordered = Dict()
    for key, value in pairs:
        ordered.add(key, value)
    return ordered


def _new(callee: Any, *args: Any) -> Any:
    """copyreg.__newobj__ and copyreg._reconstructor."""
    return call(callee, args)


def _encoded(text: Any, *_: Any) -> bytearray:
    """_codecs.encode(text, "latin1"), as protocols below 3 keep bytes."""
    if isinstance(text, str):
        return bytearray(text.encode("latin-1"))
    if not isinstance(text, LongText):  # a tuple of the file's own could name a codec to import
        raise FormatError(f"its pickle encodes a {type(text).__name__}")
    octets, encoding = text
    decoder = codecs.getincrementaldecoder(encoding)()
    encoded = bytearray()
    for start in range(0, len(octets), CHUNK):
        encoded += decoder.decode(bytes(octets[start : start + CHUNK])).encode("latin-1")
    return encoded


def _octets(data: Any) -> Buffer:
    """The elements of an array: bytes, or Python 2's str, which was taken for text."""
    if isinstance(data, LongText):
        data = data.octets
    return data.encode() if isinstance(data, str) else memoryview(data)


def _scalar(dtype: Any, data: Any = b"") -> Any:
    """numpy.core.multiarray.scalar(dtype, bytes)."""
    array = NumpyArray()
    array.fill((), dtype, False, data)
    return array


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> NumpyArray:
    """numpy.core.numeric._frombuffer(buffer, dtype, shape, order)."""
    array = NumpyArray()
    array.fill(shape, dtype, order == "F", data)
    return array


REBUILD = tuple(
    f"torch._utils._rebuild_{name}"
    for name in ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
)
BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    **{
        f"torch._utils._rebuild_{name}": _of_device
        for name in ("device_tensor_from_numpy", "device_tensor_from_cpu_tensor", "xla_tensor")
    },
    **{f"torch._utils.{name}": _unplain(*said) for name, said in UNPLAIN.items()},
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.nn.Parameter": _variable,
    "torch.nn.Buffer": _variable,
    "torch.autograd.Variable": _variable,
    "torch.Size": _size,
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *_: Dict(),
    "builtins.dict": _ordered,
    "builtins.bytearray": _bytearray,
    "copyreg.__newobj__": _new,
    "copyreg._reconstructor": _new,
    "_codecs.encode": _encoded,
    "numpy.dtype": lambda letters, *_: NumpyDtype(letters),
    "numpy._reconstruct": lambda *_: NumpyArray(),
    "numpy.scalar": _scalar,
    "numpy._frombuffer": _from_buffer,
}
for _name in STORAGES:
    for _module in ("torch", "torch.cuda"):
        BUILDERS[f"{_module}.{_name.removesuffix('Storage')}Tensor"] = OldTensor
