"""Updates the rows after a frame: embeds it as the next input, and advances positions and history."""

import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, RowSampling

_BLOCK_HIDDEN = 256


def embed_frame(codes: Tensor, table: Tensor, out: Tensor, num_active: Tensor) -> None:
    """Write the sum over codebooks of rows of `table` [K * V, H], for `codes` [R, K], to `out` [R, H].

    Only the first `num_active` [1] rows change.
    """
    num_rows, num_codebooks = codes.shape
    hidden = table.shape[1]
    block = min(padded(hidden), _BLOCK_HIDDEN)
    launch(
        _embed_frame,
        (num_rows, triton.cdiv(hidden, block)),
        *(codes, table, out, num_active),
        HIDDEN=hidden,
        NUM_CODEBOOKS=num_codebooks,
        VOCAB=table.shape[0] // num_codebooks,
        BLOCK_H=block,
        num_warps=2,
    )


def advance(codes: Tensor, position: Tensor, sampling: RowSampling, num_active: Tensor) -> None:
    """Add `codes` [R, K] to the history of the first `num_active` [1] rows, and count a frame and a position."""
    num_rows, num_codebooks = codes.shape
    launch(
        _advance,
        (num_rows,),
        *(codes, position, sampling.frame, sampling.history, num_active),
        WINDOW=REPETITION_WINDOW_FRAMES,
        NUM_CODEBOOKS=num_codebooks,
        BLOCK_K=padded(num_codebooks),
        num_warps=1,
    )


@triton.jit
def _embed_frame(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    codes,
    table,
    out,
    num_active,
    HIDDEN: tl.constexpr,
    NUM_CODEBOOKS: tl.constexpr,
    VOCAB: tl.constexpr,
    BLOCK_H: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_others(DEPENDENT)
    row = tl.program_id(0)
    if row < tl.load(num_active):
        columns = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
        mask = columns < HIDDEN
        embedded = tl.zeros((BLOCK_H,), tl.float32)
        for codebook in range(NUM_CODEBOOKS):
            code = tl.load(codes + row * NUM_CODEBOOKS + codebook) + codebook * VOCAB
            embedded += tl.load(table + code * HIDDEN + columns, mask=mask, other=0.0).to(tl.float32)
        tl.store(out + row * HIDDEN + columns, embedded.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _advance(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    codes,
    position,
    frame,
    history,
    num_active,
    WINDOW: tl.constexpr,
    NUM_CODEBOOKS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_others(DEPENDENT)
    row = tl.program_id(0)
    if row < tl.load(num_active):
        codebooks = tl.arange(0, BLOCK_K)
        mask = codebooks < NUM_CODEBOOKS
        count = tl.load(frame + row)
        place = (row * WINDOW + count % WINDOW) * NUM_CODEBOOKS
        drawn = tl.load(codes + row * NUM_CODEBOOKS + codebooks, mask=mask)
        tl.store(history + place + codebooks, drawn, mask=mask)
        tl.store(frame + row, count + 1)
        tl.store(position + row, tl.load(position + row) + 1)
