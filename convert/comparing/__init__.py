"""Compares two networks: equal or not, by which cause, and whether one can become the other.  No torch."""
