"""Arguments that the kernels and their plain forms share."""

from typing import NamedTuple

import torch
from torch import Tensor

from serve_app.model.sampling import RowSampling


class Places(NamedTuple):
    """Where the keys and values of T tokens lie: one token a row, or several of some rows."""

    rows: Tensor
    """[T]"""
    positions: Tensor
    """[T]. No sequence reads the last position, where padding lies."""


class Residual(NamedTuple):
    """A residual stream whose last additions are not summed up yet."""

    x: Tensor
    """[T, H]. Rows may be strided."""
    parts: Tensor
    """[parts, T, H] in float32, which are to be added. There may be none."""

    @classmethod
    def of(cls, x: Tensor) -> "Residual":
        return cls(x, x.new_empty(0, *x.shape, dtype=torch.float32))

    def of_last_tokens(self, num_tokens: int) -> "Residual":
        """Of the last of each row's tokens: views."""
        return Residual(*(each.unflatten(-2, (-1, num_tokens))[..., -1, :] for each in self))


class Norm(NamedTuple):
    """An RMSNorm."""

    gains: Tensor
    """[H]"""
    eps: float


class PromptTokens(NamedTuple):
    """The tokens of a prefill pass: of several prompts, one range after the other."""

    text_ids: Tensor
    """[T]. -1 where the token is a frame."""
    codes: Tensor
    """[K, T], of the frames."""
    places: Places


class Codebook(NamedTuple):
    """The codebook to draw."""

    number: int
    size: int
    """C. Ids from C up are reserved, and never drawn."""


class NextInput(NamedTuple):
    """The embeddings of the drawn codes, which are the next pass's input."""

    table: Tensor
    """[at least C, E], the rows of this codebook."""
    out: Tensor
    """[R, E]. Rows may be strided."""


class FrameRows(NamedTuple):
    """The memory of B rows, which a frame updates in place."""

    kv: Tensor
    """[layers, 2, B, G, P, D]. No sequence reads position P - 1."""
    next_input: Tensor
    """[B, H]"""
    position: Tensor
    """[B]"""
    sampling: RowSampling
    num_active: Tensor
    """[1] how many rows are running: the first ones. The others write only to their spare position."""
