"""The plain forms of the kernels, made of torch's and the model's operations, row by row where that is simpler.

Each kernel must agree with its plain form. `check` compares them at start, and tests do so on more sizes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.model.kernels.arguments import Codebook, DepthBlock, NextInput, Norm, Places, PromptTokens, Residual
from serve_app.model.kv_views import attention, kv_at_block
from serve_app.model.matrix import Matrix, linear
from serve_app.model.rope import RotationTable, rotate
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, FrameSampler, RowSampling, SamplingPlan


def add_rms_norm(residual: Residual, norm: Norm) -> tuple[Tensor, Tensor]:
    x, parts = residual
    summed = (x.float() + parts.float().sum(dim=0)).to(x.dtype)
    return summed, F.rms_norm(summed, norm.gains.shape, norm.gains, norm.eps)


def rope_and_write(qkv: Tensor, table: RotationTable, places: Places, kv: Tensor, num_heads: int) -> Tensor:
    num_groups, head_dim = kv.shape[2], kv.shape[4]
    heads = qkv.view(len(qkv), 1, -1, head_dim)
    to_rotate, values = heads.split((num_heads + num_groups, num_groups), dim=2)
    rotated = rotate(to_rotate, table.at_positions(places.positions))
    for token, (row, position) in enumerate(torch.stack(places, dim=1).tolist()):
        kv[0, row, :, position] = rotated[token, 0, num_heads:]
        kv[1, row, :, position] = values[token, 0]
    return rotated[:, 0, :num_heads]


def normed_qkv(
    residual: Residual, norm: Norm, qkv: Matrix, table: RotationTable, places: Places, kv: Tensor
) -> tuple[Tensor, Tensor]:
    x, normed = add_rms_norm(residual, norm)
    projected, (_, _, num_groups, _, head_dim) = linear(normed, qkv), kv.shape
    num_heads = projected.shape[1] // head_dim - 2 * num_groups
    return x, rope_and_write(projected, table, places, kv, num_heads)


def decode_attention(queries: Tensor, kv: Tensor, positions: Tensor, num_readable: int) -> Tensor:
    return _attended(queries, kv, Places(torch.arange(len(queries)), positions), num_readable)


def prefill_attention(queries: Tensor, kv: Tensor, places: Places) -> Tensor:
    return _attended(queries, kv, places, num_readable=kv.shape[3] - 1)


def attention_output(queries: Tensor, kv: Tensor, places: Places, out: Matrix) -> Tensor:
    return linear(_attended(queries, kv, places, num_readable=kv.shape[3]), out)[None]


def depth_attention(qkv: Tensor, table: RotationTable, kv: Tensor, num_heads: int, block: DepthBlock) -> Tensor:
    _, num_rows, num_groups, _, head_dim = kv.shape
    end = block.start + block.num_tokens
    heads = qkv.view(num_rows, block.num_tokens, -1, head_dim)
    to_rotate, values = heads.split((num_heads + num_groups, num_groups), dim=2)
    queries, keys = rotate(to_rotate, table.at_block(block.start, end)).split((num_heads, num_groups), dim=2)
    return kv_at_block(kv[None], block.start, end)[0].attend(queries, keys, values).flatten(0, 1)


def skinny_linear(x: Tensor, matrix: Matrix, out: Tensor | None = None) -> Tensor:
    product = linear(x, matrix)
    return product if out is None else out.copy_(product)


def split_linear(x: Tensor, matrix: Matrix) -> Tensor:
    return linear(x, matrix)[None]


def swiglu(x: Tensor, gate_up: Matrix) -> Tensor:
    gate, up = linear(x, gate_up).chunk(2, dim=-1)
    return F.silu(gate) * up


def normed_linear(residual: Residual, norm: Norm, matrix: Matrix, out: Tensor) -> None:
    out.copy_(linear(add_rms_norm(residual, norm)[1], matrix))


def normed_swiglu(residual: Residual, norm: Norm, gate_up: Matrix) -> tuple[Tensor, Tensor]:
    x, normed = add_rms_norm(residual, norm)
    return x, swiglu(normed, gate_up)


def draw_codes(
    logits: Tensor, sampling: RowSampling, codebook: Codebook, codes: Tensor, next_input: NextInput | None = None
) -> None:
    plan = SamplingPlan(
        codebook.size, one_top_k=False, any_greedy=True, all_greedy=False, any_top_p=True, any_penalty=True
    )
    drawn = FrameSampler(sampling, plan, codes.shape[1], codebook.size).draw(codebook.number, logits)
    codes[:, codebook.number] = drawn
    if next_input is not None:
        next_input.out.copy_(next_input.table[drawn])


def embed_tokens(tokens: PromptTokens, text_table: Tensor, audio_table: Tensor) -> Tensor:
    text = F.embedding(tokens.text_ids.clamp_min(0), text_table)
    offsets = torch.arange(len(tokens.codes), device=text.device) * (len(audio_table) // len(tokens.codes))
    frames = F.embedding(tokens.codes + offsets[:, None], audio_table).sum(dim=0)
    return torch.where(tokens.text_ids[:, None] < 0, frames, text)


def embed_frame(codes: Tensor, table: Tensor, out: Tensor, num_active: Tensor) -> None:
    num_codebooks, active = codes.shape[1], int(num_active)
    offsets = torch.arange(num_codebooks, device=codes.device) * (len(table) // num_codebooks)
    out[:active] = F.embedding(codes[:active] + offsets, table).sum(dim=1)


def advance(codes: Tensor, position: Tensor, sampling: RowSampling, num_active: Tensor) -> None:
    for row in range(int(num_active)):
        sampling.history[row, int(sampling.frame[row]) % REPETITION_WINDOW_FRAMES] = codes[row]
        sampling.frame[row] += 1
        position[row] += 1


def _attended(queries: Tensor, kv: Tensor, places: Places, num_readable: int) -> Tensor:
    mixed = torch.zeros(len(queries), queries[0].numel(), device=queries.device, dtype=queries.dtype)
    for token, (row, position) in enumerate(zip(places.rows.tolist(), places.positions.tolist(), strict=True)):
        if position < num_readable:
            keys, values = kv[:, row : row + 1, :, : position + 1]
            mixed[token] = attention(queries[token : token + 1, None], keys, values, None)[0, 0]
    return mixed
