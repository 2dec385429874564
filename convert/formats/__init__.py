"""Formats: how bytes become named tensors, and how tensors become bytes.  Needs no torch."""
