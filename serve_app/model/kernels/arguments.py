"""What the kernels and their plain forms both take."""

from typing import NamedTuple

from torch import Tensor

from serve_app.model.sampling import RowSampling


class DepthBlock(NamedTuple):
    """The positions of one depth pass, the same for all rows."""

    start: int
    num_tokens: int


class Codebook(NamedTuple):
    """Which codebook is drawn."""

    number: int
    size: int
    """C: ids from there up are reserved, and never drawn."""


class NextInput(NamedTuple):
    """Where the drawn codes' embeddings go."""

    table: Tensor
    """[at least C, E], those of this codebook."""
    out: Tensor
    """[R, E]; rows may be strided."""


class FrameRows(NamedTuple):
    """The memory of B rows, which a frame changes in place."""

    kv: Tensor
    """[layers, 2, B, G, P, D]; position P - 1 is a spare."""
    next_input: Tensor
    """[B, H]"""
    position: Tensor
    """[B]"""
    sampling: RowSampling
    num_active: Tensor
    """[1] rows that are somebody's, the first ones. The others write to their spare position and to nothing else."""
