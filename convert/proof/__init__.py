"""The proof that a converted network is the reference's function.

Two things are shown, and neither stands for the other: that no byte of a tensor was
changed, and that every tensor went to its right place.  The second needs a network
that never saw the converter's renaming (``references``).  Both networks run on the same
inputs with the same deterministic kernels, so every value must agree to the bit
(``comparisons``).  Both are recorded meanwhile (``recorder``): equal names are equal results
for every input of these shapes (``every_input``).  Where names tell nothing, ``coverage`` says
how much of the network the values can see.
"""
