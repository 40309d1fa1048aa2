"""Draws one code for each row, as `sampling.FrameSampler` does, but without a sort.

One kernel serves every batch, because it reads each row's parameters on the device. It keeps or drops codes with equal
logits together: all that equal the last of the top k, and all that equal the one that crosses top_p. FrameSampler
keeps an arbitrary choice of those. It also sums probabilities in another order, so a sum within rounding of top_p may
fall on the other side.
"""

import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Codebook, NextInput
from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, RowSampling

# As in sampling.py, but unsigned, so that a shift is logical.
_GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
_MIX_1 = tl.constexpr(0xBF58476D1CE4E5B9)
_MIX_2 = tl.constexpr(0x94D049BB133111EB)
_RECENT = tl.constexpr(8)
"""Recent codes that are compared at once."""


def draw_codes(
    logits: Tensor, sampling: RowSampling, codebook: Codebook, codes: Tensor, next_input: NextInput | None = None
) -> None:
    """[R, at least C] logits to column `codebook` of `codes` [R, K], and to the embeddings that the next pass takes.

    Logits are at most float32. Only tests of the plain form use float64.
    """
    table, out = next_input or (logits, logits)
    width = 0 if next_input is None else table.shape[1]
    launch(
        _draw,
        (logits.shape[0],),
        *(logits, codes, table, out),
        *(sampling.temperature, sampling.top_k, sampling.top_p, sampling.repetition_penalty, sampling.greedy),
        *(sampling.seed, sampling.min_frames, sampling.frame, sampling.history),
        *(codebook.number, logits.stride(0), codes.stride(0), out.stride(0), *sampling.history.stride()[:2]),
        CODEBOOK_SIZE=codebook.size,
        WINDOW=REPETITION_WINDOW_FRAMES,
        WIDTH=width,
        BLOCK=padded(codebook.size),
        BLOCK_W=padded(max(width, 1)),
        num_warps=8,
    )


@triton.jit
def _mix(x):
    x = (x ^ (x >> 30)) * _MIX_1
    x = (x ^ (x >> 27)) * _MIX_2
    return x ^ (x >> 31)


@triton.jit
def _negative_gumbel(seed, frame, codebook, codes):
    """The noise of one row's codebook, in float64. See `sampling.noise_keys` and `sampling.negative_gumbel`."""
    key = _mix(_mix(seed.to(tl.uint64)) + (frame + 1).to(tl.uint64) * _GOLDEN)
    key = _mix(key + (codebook + 1).to(tl.uint64) * _GOLDEN)
    counters = key + _GOLDEN + codes.to(tl.uint64) * _GOLDEN
    uniform = ((_mix(counters) >> 12).to(tl.int64).to(tl.float64) + 0.5) * 2.220446049250313e-16
    return tl.log(-tl.log(uniform))


@triton.jit
def _ordered(x):
    """float32 to int32 of the same order."""
    bits = tl.where(x == 0, 0.0, x).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _top_k_threshold(order, is_code, top_k):
    """The k-th largest of `order`, or less where no value lies between. A bisection that counts the values above."""
    low = tl.cast(tl.min(tl.where(is_code, order, 0x7FFFFFFF), axis=0), tl.int64)
    high = tl.cast(tl.max(tl.where(is_code, order, -0x80000000), axis=0), tl.int64) + 1
    count = tl.sum(is_code.to(tl.int32), axis=0)
    while (high - low > 1) & (count != top_k):
        middle = (low + high) >> 1
        above = tl.sum((is_code & (order >= middle.to(tl.int32))).to(tl.int32), axis=0)
        if above >= top_k:
            low = middle
            count = above
        else:
            high = middle
    return low.to(tl.int32)


@triton.jit
def _top_p_threshold(order, is_kept, values, top_p):
    """The least of `order` above which the kept codes sum to less than `top_p`."""
    weights = tl.where(is_kept, tl.exp(values - tl.max(tl.where(is_kept, values, float("-inf")), axis=0)), 0.0)
    probabilities = weights / tl.sum(weights, axis=0)
    low = tl.cast(tl.min(tl.where(is_kept, order, 0x7FFFFFFF), axis=0), tl.int64) - 1
    high = tl.cast(tl.max(tl.where(is_kept, order, -0x80000000), axis=0), tl.int64)
    while high - low > 1:
        middle = (low + high) >> 1
        before = tl.sum(tl.where(order > middle.to(tl.int32), probabilities, 0.0), axis=0)
        if before < top_p:
            high = middle
        else:
            low = middle
    return high.to(tl.int32)


@triton.jit
def _penalized(logits, codes, penalty, recent_codes, frame_stride, WINDOW: tl.constexpr):
    """`recent_codes` points at this row's and codebook's code in the window's first frame. -1 is no code."""
    marks = tl.zeros(codes.shape, tl.int32)
    for first in range(0, WINDOW, _RECENT):
        recent = tl.load(recent_codes + (first + tl.arange(0, _RECENT)) * frame_stride).to(tl.int32)
        marks += tl.sum((codes[:, None] == recent[None, :]).to(tl.int32), axis=1)
    penalized = tl.where(logits > 0, tl.div_rn(logits, penalty), logits * penalty)
    return tl.where(marks > 0, penalized, logits)


@triton.jit(do_not_specialize=["codebook"])
def _draw(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    logits,
    drawn,
    table,
    out,
    temperature,
    top_k,
    top_p,
    repetition_penalty,
    greedy,
    seed,
    min_frames,
    frame,
    history,
    codebook,
    logits_stride,
    drawn_stride,
    out_stride,
    history_stride,
    history_frame_stride,
    CODEBOOK_SIZE: tl.constexpr,
    WINDOW: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_W: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """One program a row."""
    wait_for_others(DEPENDENT)
    row = tl.program_id(0)
    codes = tl.arange(0, BLOCK)
    is_code = codes < CODEBOOK_SIZE
    values = tl.load(logits + row * logits_stride + codes, mask=is_code, other=float("-inf")).to(tl.float32)
    row_frame = tl.load(frame + row)
    penalty = tl.load(repetition_penalty + row)
    if penalty != 1.0:
        values = _penalized(
            values, codes, penalty, history + row * history_stride + codebook, history_frame_stride, WINDOW
        )
    # End of speech is a frame of zeros, so a first code other than zero rules it out.
    too_early = (codebook == 0) & (row_frame < tl.load(min_frames + row))
    values = tl.where((codes == 0) & too_early, float("-inf"), values)

    if tl.load(greedy + row):
        scores = values.to(tl.float64)
    else:
        order = _ordered(values)
        is_kept = is_code & (order >= _top_k_threshold(order, is_code, tl.load(top_k + row).to(tl.int32)))
        values = values * tl.div_rn(1.0, tl.load(temperature + row))
        limit = tl.load(top_p + row)
        if limit < 1.0:
            is_kept = is_kept & (order >= _top_p_threshold(order, is_kept, values, limit))
        noisy = values.to(tl.float64) - _negative_gumbel(tl.load(seed + row), row_frame, codebook, codes)
        scores = tl.where(is_kept, noisy, float("-inf"))
    best = tl.max(tl.where(is_code, scores, float("-inf")), axis=0)
    # The first of equals, and never a code out of range, even if logits are NaN.
    code = tl.min(tl.where(is_code & (scores == best), codes, CODEBOOK_SIZE - 1), axis=0)
    tl.store(drawn + row * drawn_stride + codebook, code)
    if WIDTH > 0:
        columns = tl.arange(0, BLOCK_W)
        embedded = tl.load(table + code * WIDTH + columns, mask=columns < WIDTH)
        tl.store(out + row * out_stride + columns, embedded, mask=columns < WIDTH)
