"""The proof that a converted network is the reference's function.

Two things are shown, and neither stands for the other: that no byte of a tensor was
changed, and that every tensor went to its right place.  The second needs a network
that never saw the converter's renaming (``references``).  Both networks run on the same
inputs with the same deterministic kernels, so every value must agree to the bit
(``comparisons``); ``coverage`` says how much of the network that can see.
"""
