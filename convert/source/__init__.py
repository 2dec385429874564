"""Bytes, or a name, to a checkpoint: named tensors."""
