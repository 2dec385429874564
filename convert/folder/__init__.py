"""A converted folder: its files, its receipt and card, and how it is written, opened and replaced."""
