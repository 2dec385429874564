"""Files of other libraries by their names: what each is, and one way from it to a checkpoint.

They are told by how they begin or end, by the first fields of their protocol buffers, and by what their names
end in where the content tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from .raw import Whole
from .untrusted import FormatError, Global

# Behind the call that gives a library's arrays by name.
SAVE_ARRAYS = (
    "Save them under torchvision's names: safetensors.numpy.save_file(arrays, 'weights.safetensors')."
)
ARRAYS = f"Where that library is, read its arrays. {SAVE_ARRAYS}"
EXPORTED = "It was exported to be run: convert the checkpoint that it was made from."
IN_ITS_CODE = (
    "Loading it runs what it says. In the code that wrote it, save the arrays by name: "
    "safetensors.numpy.save_file(arrays, 'weights.safetensors')."
)
FROM_ONNX = (
    "If it was exported with optimize=False, save its weights by name: torch.save({one.name: "
    "torch.tensor(onnx.numpy_helper.to_array(one)) for one in onnx.load(file).graph.initializer}, "
    "'weights.pth'). Otherwise norms are folded into convolutions, which rounds: convert the checkpoint that "
    "it was exported from."
)
FROM_SHARDS = (
    "Where the network is, save it whole: from torch.distributed.checkpoint.state_dict import "
    "StateDictOptions, get_model_state_dict; torch.save(get_model_state_dict(model, "
    "options=StateDictOptions(full_state_dict=True)), 'whole.pth')."
)
FROM_SAVED_MODEL = (
    "Save its variables by name, and convert what this writes: numpy.savez('weights.npz', "
    "**{v.name.split(':')[0]: v.numpy() for v in tf.saved_model.load(folder).variables})."
)
FROM_TENSORFLOW = (
    "Where the network is, restore it and save its weights: tf.train.Checkpoint(model=model).restore("
    "tf.train.latest_checkpoint(folder)).expect_partial(); model.save_weights('whole.weights.h5')."
)
FROM_MXNET = (
    f"Read its arrays: arrays = {{n: a.asnumpy() for n, a in mxnet.nd.load(file).items()}}. {SAVE_ARRAYS} "
    "Those of Gluon's own DenseNet are in the order of torchvision's."
)
FROM_MINDSPORE = (
    "Read its arrays: arrays = {n: p.asnumpy() for n, p in mindspore.load_checkpoint(file).items()}. "
    f"{SAVE_ARRAYS}"
)
FROM_FLAX = (
    "Read its arrays: arrays = flax.serialization.msgpack_restore(open(file, 'rb').read()), nested dicts of "
    f"them. {SAVE_ARRAYS}"
)
FROM_ORBAX = (
    "Read its arrays: arrays = orbax.checkpoint.PyTreeCheckpointer().restore(folder), nested dicts of them. "
    f"{SAVE_ARRAYS}"
)
FROM_MATLAB = f"Read its arrays: scipy.io.loadmat(file). {SAVE_ARRAYS}"
TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
# The kinds of a field of protocol buffers, and how long those of a fixed length are.
VARINT, BYTES, FIXED = 0, 2, {1: 8, 5: 4}
MOST_FIELDS = 16
# The fields of ONNX's ModelProto end here, and those of Core ML's kinds of model begin.
MOST_OF_ONNX, FIRST_OF_CORE_ML = 26, 200
# Files that tell what their folder is; they are no checkpoint of their own.
FOLDERS = (
    ((".metadata",), "a distributed checkpoint of torch, a folder of shards", FROM_SHARDS),
    (("saved_model.pb",), "a SavedModel of TensorFlow", FROM_SAVED_MODEL),
    (("checkpoint",), "a checkpoint of TensorFlow", FROM_TENSORFLOW),
    (("_CHECKPOINT_METADATA", "manifest.ocdbt", "_METADATA"), "a checkpoint of Orbax (JAX)", FROM_ORBAX),
    (("Manifest.json",), "a package of Core ML", EXPORTED),
)


class Foreign(NamedTuple):
    """A format that is not read here.

    Attributes:
        kind: what it is, for a message.
        advice: one way from it to a checkpoint.
        starts: bytes that it begins with.
        at: where these lie.
        holds: what must be in its first bytes, too.
    """

    kind: str
    advice: str
    starts: tuple[bytes, ...]
    at: int = 0
    holds: bytes = b""


FOREIGN = (
    Foreign("a bzip2 file", "Unpack it with bunzip2.", (b"BZh",)),
    Foreign("an xz file", "Unpack it with unxz.", (b"\xfd7zXZ",)),
    Foreign("a zstd file", "Unpack it with unzstd.", (b"\x28\xb5\x2f\xfd",)),
    Foreign("a 7z archive", "Unpack it.", (b"7z\xbc\xaf",)),
    Foreign("a rar archive", "Unpack it.", (b"Rar!",)),
    Foreign("a pointer of git LFS, not the file itself", "Run git lfs pull.", (b"version https://git-lfs",)),
    Foreign("a model of TensorFlow Lite (LiteRT)", EXPORTED, (b"TFL3",), 4),
    Foreign("a program of ExecuTorch", EXPORTED, (b"ET12", b"ET13"), 4),
    Foreign("a model of GGML", ARRAYS, (b"GGUF", b"lmgg", b"tjgg")),
    Foreign("an engine of TensorRT", EXPORTED, (b"ptrt", b"ftrt")),
    Foreign("a network of ncnn", EXPORTED, (b"7767517\n",)),
    Foreign("a file of MATLAB, such as MatConvNet's", FROM_MATLAB, (b"MATLAB 5.0 MAT-file",)),
    Foreign("a network of Torch7 (Lua)", ARRAYS, (b"\4\0\0\0\1\0\0\0\3\0\0\0V ", b"4\n1\n3\nV ")),
    Foreign("parameters of MXNet (Gluon)", FROM_MXNET, (b"\x12\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0",)),
    Foreign("the graph of a model of OpenVINO", EXPORTED, (b"<",), holds=b"<net "),
    Foreign(
        "an HTML or XML page, not a checkpoint: a login or an error, perhaps", "Download it again.", (b"<",)
    ),
    Foreign(
        "JSON, not a checkpoint: an index of several files, or an error message",
        "Merge the files of an index into one, or download it again.",
        (b"{",),
    ),
)
# Endings of names, for files whose content tells nothing, or something else.
BY_NAME = (
    (".distcp", "a shard of a distributed checkpoint of torch", FROM_SHARDS),
    (".pdiparams", "the weights of an inference model of Paddle", EXPORTED),
    (".mindir", "a graph of MindSpore", EXPORTED),
    (".msgpack", "a checkpoint of Flax (JAX)", FROM_FLAX),
)
SHARD_OF_TENSORFLOW = re.compile(r".*\.data-\d{5}-of-\d{5}", re.ASCII)
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"ZF")
Fields = list[tuple[int, int, int, int]]


def refuse_by_name(name: str) -> None:
    """Raises FormatError for a file whose name alone tells that it is another library's."""
    for suffix, kind, advice in BY_NAME:
        if name.lower().endswith(suffix):
            raise FormatError(f"it is {kind}", advice)
    if SHARD_OF_TENSORFLOW.fullmatch(name):
        raise FormatError("it is a part of a checkpoint of TensorFlow", FROM_TENSORFLOW)


def refuse_by_magic(data: Whole) -> None:
    """Raises FormatError for a file that begins, or ends, as another library's do."""
    head = bytes(data[:512])
    for one in FOREIGN:
        start = head if one.at else head.lstrip()
        if any(start.startswith(magic, one.at) for magic in one.starts) and one.holds in head:
            raise FormatError(f"it is {one.kind}", one.advice)
    if bytes(data[-8:]) == TABLE_MAGIC:
        raise FormatError("it is a part of a checkpoint of TensorFlow", FROM_TENSORFLOW)
    if head.startswith(ZLIB):
        raise FormatError("it is compressed by zlib, as joblib compresses", IN_ITS_CODE)


def refuse_by_fields(data: Whole) -> None:
    """Raises FormatError for a file of protocol buffers whose first fields are those of a known message."""
    fields = _fields(data, 0, len(data))
    numbers = [(number, wire) for number, wire, _, _ in fields]
    first, rest = numbers[:1], set(numbers[1:])
    if first == [(1, VARINT)]:
        if (7, BYTES) in rest and all(number <= MOST_OF_ONNX for number, _ in rest):
            raise FormatError("it is an ONNX model", FROM_ONNX)
        if rest == {(2, BYTES)}:
            raise FormatError("it is the graph of a SavedModel of TensorFlow", FROM_SAVED_MODEL)
        if (2, BYTES) in rest and max(numbers)[0] >= FIRST_OF_CORE_ML:
            raise FormatError("it is a model of Core ML", EXPORTED)
    if first != [(1, BYTES)]:
        return
    if (100, BYTES) in rest or (rest and rest <= {(2, BYTES), (3, BYTES), (4, VARINT)}):
        raise FormatError("it is a network of Caffe", ARRAYS)
    inner = _fields(data, *fields[0][2:])[:2]
    if [field[:2] for field in inner] != [(1, BYTES), (2, BYTES)]:
        return
    if bytes(data[slice(*inner[1][2:])]).isalnum():  # an operation
        raise FormatError("it is a graph of TensorFlow", EXPORTED)
    raise FormatError("it is a checkpoint of MindSpore", FROM_MINDSPORE)


def refuse_joblib(names: Collection[Global]) -> None:
    """Raises FormatError for a pickle between whose parts joblib puts the elements of arrays."""
    if any(name.module.startswith("joblib.") for name in names):
        raise FormatError("it is a file of joblib", IN_ITS_CODE)


def foreign_folder(names: Collection[str]) -> tuple[str, str] | None:
    """Returns what a folder of these files is, and the way from it; None where nothing tells."""
    for marks, kind, advice in FOLDERS:
        if any(mark in names for mark in marks):
            return kind, advice
    return None


def _fields(data: Whole, position: int, end: int) -> Fields:
    """Returns number, kind, start and end of the first fields of a message; none where it is no message."""
    found: Fields = []
    while position < end and len(found) < MOST_FIELDS:
        tag, start = _varint(data, position)
        wire = tag & 7
        if wire == VARINT:
            _, stop = _varint(data, start)
        elif wire == BYTES:
            length, start = _varint(data, start)
            stop = start + length
        else:
            stop = start + FIXED.get(wire, end)
        if not tag >> 3 or stop > end or stop <= position:
            return []
        found.append((tag >> 3, wire, start, stop))
        position = stop
    return found


def _varint(data: Whole, position: int) -> tuple[int, int]:
    """Returns a number, and what is behind it; beyond ten bytes there is none."""
    value = 0
    for place, octet in enumerate(bytes(data[position : position + 10])):
        value |= (octet & 0x7F) << 7 * place
        if not octet & 0x80:
            return value, position + place + 1
    return 0, position
