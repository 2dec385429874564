"""Tells a checkpoint among other files by its first bytes.

What torch, safetensors and Keras write counts.  Pickles of anything, arrays of numpy and packed files may
hold a checkpoint as well, and mostly do not.
"""

from __future__ import annotations

from .archive import MAGIC as ZIP_MAGIC
from .keras import is_hdf5
from .safetensors import looks_like_safetensors
from .torch_legacy import MAGIC_NUMBER
from .torch_tar import MAGIC as TAR_MAGIC
from .torch_tar import MAGIC_AT as TAR_MAGIC_AT

# So many bytes are enough.
BEGINNING = 1024
# The number with which torch's files of before 1.6 begin, as a pickle of any protocol has it.
LEGACY = b"\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little")
# A zip keeps the length of its first file's name here, and then that name.
LENGTH_AT, NAME_AT = 26, 30
# The files that torch puts first into its zips, each in a folder; and Keras' first file.
TORCH_FIRST = ("/data.pkl", "/version", "/byteorder", "/.format_version", "/.data/serialization_id")
KERAS_FIRST = ("metadata.json", "config.json", "model.weights.h5")
# The files of torch's tars of 2016.
TAR_FIRST = ("sys_info", "pickle", "tensors", "storages")


def looks_like_checkpoint(beginning: bytes) -> bool:
    """Whether a file that begins so is what torch, safetensors or Keras write."""
    if beginning.startswith(ZIP_MAGIC):
        length = int.from_bytes(beginning[LENGTH_AT : LENGTH_AT + 2], "little")
        first = beginning[NAME_AT : NAME_AT + length].decode("utf-8", "replace")
        return first.endswith(TORCH_FIRST) or first in KERAS_FIRST
    if beginning[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
        return beginning[:100].rstrip(b"\0").decode("utf-8", "replace").strip("./") in TAR_FIRST
    return beginning[2:].startswith(LEGACY) or is_hdf5(beginning) or looks_like_safetensors(beginning)
