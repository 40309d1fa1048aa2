"""One call of every kernel on random inputs, for the kernel and its plain form alike."""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from serve_app.model.kernels.arguments import Codebook, NextInput, Places, PromptTokens, Residual
from serve_app.model.kernels.inputs import Inputs, Sizes

Case = Callable[[ModuleType, Inputs, Sizes], list[Tensor]]
"""Calls an operation of `fused` or `reference`, and returns every tensor that it returns or changes."""


def _rms_norm(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    return [operations.rms_norm(inputs.residuals(sizes)[0].x, inputs.norm(sizes))]


def _add_parts(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    return [operations.add_parts(inputs.residuals(sizes)[1]).x]


def _normed_qkv(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    table, norm, places = inputs.rotation(sizes), inputs.norm(sizes), inputs.row_places(sizes)
    qkv = inputs.matrix((sizes.num_heads + 2 * sizes.num_groups) * sizes.head_dim, sizes.hidden)
    found = []
    for residual in inputs.residuals(sizes):
        kv = _poisoned_kv(inputs, sizes)
        found += [*operations.normed_qkv(residual, norm, qkv, table, places, kv), kv]
    return found


def _decode_attention(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    kv, places = _poisoned_kv(inputs, sizes), inputs.row_places(sizes)
    queries = inputs.normal(sizes.num_rows, sizes.num_heads, sizes.head_dim)
    for row, position in torch.stack(places, dim=1).tolist():
        kv[:, row, :, : position + 1] = inputs.normal(2, sizes.num_groups, position + 1, sizes.head_dim)
    return [operations.decode_attention(queries, kv, places, sizes.num_positions - 1)]


def _prefill_attention(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    kv, places = _poisoned_kv(inputs, sizes), inputs.prompt_places(sizes)
    queries = inputs.normal(len(places.rows), sizes.num_heads, sizes.head_dim)
    for row in range(sizes.num_rows):
        end = int(places.positions[places.rows == row][: -3 if row == 0 else None].max()) + 1
        kv[:, row, :, :end] = inputs.normal(2, sizes.num_groups, end, sizes.head_dim)
    return [operations.prefill_attention(queries, kv, places)]


def _add_attention_output(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    """Of rows at all positions of a frame."""
    kv, out = _poisoned_kv(inputs, sizes), inputs.matrix(sizes.hidden, sizes.num_heads * sizes.head_dim)
    positions = torch.arange(sizes.num_rows, device=inputs.device) % sizes.num_codebooks
    places = Places(torch.arange(sizes.num_rows, device=inputs.device).flip(0), positions)
    for row, position in torch.stack(places, dim=1).tolist():
        kv[:, row, :, : position + 1] = inputs.normal(2, sizes.num_groups, position + 1, sizes.head_dim)
    queries = inputs.normal(sizes.num_rows, sizes.num_heads, sizes.head_dim)
    frames = kv[:, :, :, : sizes.num_codebooks]
    x = inputs.normal(sizes.num_rows, sizes.hidden)
    return [_summed(operations.add_attention_output(x, queries, frames, out, places))]


def _add_linear(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    x, matrix = inputs.normal(sizes.num_rows, 2, sizes.hidden)[:, 1], inputs.matrix(sizes.hidden, sizes.inner)
    return [_summed(operations.add_linear(x, inputs.normal(sizes.num_rows, sizes.inner), matrix))]


def _normed_linear(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    """Into rows that are strided."""
    matrix, norm, found = inputs.matrix(sizes.inner + 3, sizes.hidden), inputs.norm(sizes), []
    for residual in inputs.residuals(sizes):
        out = torch.zeros(sizes.num_rows, 2, sizes.inner + 3, device=inputs.device, dtype=torch.float32)
        operations.normed_linear(residual, norm, matrix, out[:, 1])
        found.append(out)
    return found


def _normed_swiglu(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    gate_up, norm = inputs.matrix(2 * sizes.inner, sizes.hidden), inputs.norm(sizes)
    residuals = inputs.residuals(sizes)
    return [each for residual in residuals for each in operations.normed_swiglu(residual, norm, gate_up)]


def _draw_codes(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    sampling, vocab = inputs.sampling(sizes), sizes.codebook_size + 3
    codes = torch.full((sizes.num_rows, sizes.num_codebooks), -1, device=inputs.device)
    table, embedded = inputs.normal(vocab, sizes.hidden), inputs.normal(sizes.num_rows, 2, sizes.hidden)
    for number in range(sizes.num_codebooks):
        # In float32, because in the model's type many logits would be equal.
        logits = 3 * torch.randn(sizes.num_rows, vocab, generator=torch.Generator().manual_seed(number))
        logits[:, sizes.codebook_size :] = 50.0
        drawn, following = Codebook(number, sizes.codebook_size), NextInput(table, embedded[:, 1])
        operations.draw_codes(logits.to(inputs.device), sampling, drawn, codes, following)
    return [codes, embedded]


def _embed_tokens(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    vocab, places = sizes.codebook_size + 3, inputs.prompt_places(sizes)
    codes = inputs.integers(0, sizes.codebook_size, sizes.num_codebooks, len(places.rows))
    text_table, audio_table = inputs.normal(50, sizes.hidden), inputs.normal(sizes.num_codebooks * vocab, sizes.hidden)
    tokens = PromptTokens(inputs.integers(-1, 2, len(places.rows)) * 49, codes, places)
    return [operations.embed_tokens(tokens, text_table, audio_table)]


def _embed_frame(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    vocab, num_active = sizes.codebook_size + 3, torch.tensor([max(1, sizes.num_rows - 1)], device=inputs.device)
    codes = inputs.integers(0, sizes.codebook_size, sizes.num_rows, sizes.num_codebooks)
    table, out = inputs.normal(sizes.num_codebooks * vocab, sizes.hidden), inputs.normal(sizes.num_rows, sizes.hidden)
    operations.embed_frame(codes, table, out, num_active)
    return [out]


def _advance(operations: ModuleType, inputs: Inputs, sizes: Sizes) -> list[Tensor]:
    sampling, num_active = inputs.sampling(sizes), torch.tensor([max(1, sizes.num_rows - 1)], device=inputs.device)
    codes = inputs.integers(0, sizes.codebook_size, sizes.num_rows, sizes.num_codebooks)
    position = inputs.positions(sizes)
    operations.advance(codes, position, sampling, num_active)
    return [position, sampling.frame, sampling.history]


def _poisoned_kv(inputs: Inputs, sizes: Sizes) -> Tensor:
    """[2, rows, G, P, D], a view full of NaN, so that a read of an unwritten position shows."""
    size = (2, 2, sizes.num_rows + 1, sizes.num_groups, sizes.num_positions, sizes.head_dim)
    return torch.full(size, torch.nan, device=inputs.device, dtype=inputs.dtype)[1, :, : sizes.num_rows]


def _summed(residual: Residual) -> Tensor:
    x, parts = residual
    return (x.float() + parts.sum(dim=0)).to(x.dtype)


CASES: dict[str, Case] = {
    "rms_norm": _rms_norm,
    "add_parts": _add_parts,
    "normed_qkv": _normed_qkv,
    "decode_attention": _decode_attention,
    "prefill_attention": _prefill_attention,
    "add_attention_output": _add_attention_output,
    "add_linear": _add_linear,
    "normed_linear": _normed_linear,
    "normed_swiglu": _normed_swiglu,
    "draw_codes": _draw_codes,
    "embed_tokens": _embed_tokens,
    "embed_frame": _embed_frame,
    "advance": _advance,
}
