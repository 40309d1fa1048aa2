"""Embeds the tokens of a prefill pass in one pass over the tables."""

import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import PromptTokens
from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded

_BLOCK_HIDDEN = 256


def embed_tokens(tokens: PromptTokens, text_table: Tensor, audio_table: Tensor) -> Tensor:
    """Rows of `text_table` [text vocabulary, H], and for frames the sum over codebooks of rows of `audio_table`
    [K * V, H]: [T, H]."""
    num_codebooks, num_tokens = tokens.codes.shape
    hidden = text_table.shape[1]
    block = min(padded(hidden), _BLOCK_HIDDEN)
    out = text_table.new_empty(num_tokens, hidden)
    launch(
        _embed_tokens,
        (num_tokens, triton.cdiv(hidden, block)),
        *(tokens.text_ids, tokens.codes, text_table, audio_table, out, tokens.codes.stride(0)),
        HIDDEN=hidden,
        NUM_CODEBOOKS=num_codebooks,
        VOCAB=audio_table.shape[0] // num_codebooks,
        BLOCK_H=block,
        num_warps=2,
    )
    return out


@triton.jit
def _embed_tokens(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    text_ids,
    codes,
    text_table,
    audio_table,
    out,
    code_stride,
    HIDDEN: tl.constexpr,
    NUM_CODEBOOKS: tl.constexpr,
    VOCAB: tl.constexpr,
    BLOCK_H: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_others(DEPENDENT)
    token = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    mask = columns < HIDDEN
    text_id = tl.load(text_ids + token)
    embedded = tl.zeros((BLOCK_H,), tl.float32)
    if text_id >= 0:
        embedded = tl.load(text_table + text_id * HIDDEN + columns, mask=mask, other=0.0).to(tl.float32)
    else:
        for codebook in range(NUM_CODEBOOKS):
            code = tl.load(codes + codebook * code_stride + token) + codebook * VOCAB
            embedded += tl.load(audio_table + code * HIDDEN + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + token * HIDDEN + columns, embedded.to(out.dtype.element_ty), mask=mask)
