"""Kernels of the decode step and of prefill in Triton: each does in one pass over memory what takes torch several.

This package and `check`, which tells whether the kernels work here, import without Triton.
Shapes: R rows, S tokens a row, T tokens, H hidden, N query heads, G key-value heads, D head dim, P positions,
K codebooks, V vocabulary of a codebook, C codes that may be drawn.
"""
