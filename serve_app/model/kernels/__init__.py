"""The decode step's own kernels, written in Triton: what torch does in several passes over memory, done in one.

Importing this package, or `check`, which says whether the kernels serve here, needs no Triton; the kernels do.
Shapes: R rows, H hidden, N query heads, G key-value heads, D head dim, P positions, K codebooks, V vocabulary of a
codebook, C codes that may be drawn.
"""
