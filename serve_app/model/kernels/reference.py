"""The plain forms of the kernels, made of torch's and the model's operations, row by row where that is simpler.

Each kernel must agree with its plain form. `check` compares them at start, and tests do so on more sizes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.model.kernels.arguments import Codebook, NextInput, Norm, Places, PromptTokens, Residual
from serve_app.model.kv_views import attention
from serve_app.model.matrix import Matrix, linear
from serve_app.model.rope import RotationTable, rotate
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, FrameSampler, RowSampling, SamplingPlan


def rms_norm(x: Tensor, norm: Norm) -> Tensor:
    return F.rms_norm(x, norm.gains.shape, norm.gains, norm.eps)


def add_parts(residual: Residual) -> Residual:
    x, parts = residual
    return Residual.of((x.float() + parts.sum(dim=0)).to(x.dtype))


def normed_qkv(
    residual: Residual, norm: Norm, qkv: Matrix, table: RotationTable, places: Places, kv: Tensor
) -> tuple[Tensor, Tensor]:
    x, (_, _, num_groups, _, head_dim) = add_parts(residual).x, kv.shape
    heads = linear(rms_norm(x, norm), qkv).view(len(x), 1, -1, head_dim)
    num_heads = heads.shape[2] - 2 * num_groups
    to_rotate, values = heads.split((num_heads + num_groups, num_groups), dim=2)
    rotated = rotate(to_rotate, table.at_positions(places.positions))
    for token, (row, position) in enumerate(torch.stack(places, dim=1).tolist()):
        kv[0, row, :, position] = rotated[token, 0, num_heads:]
        kv[1, row, :, position] = values[token, 0]
    return x, rotated[:, 0, :num_heads]


def decode_attention(queries: Tensor, kv: Tensor, places: Places, num_readable: int) -> Tensor:
    mixed = torch.zeros(len(queries), queries[0].numel(), device=queries.device, dtype=queries.dtype)
    for token, (row, position) in enumerate(zip(places.rows.tolist(), places.positions.tolist(), strict=True)):
        if position < num_readable:
            keys, values = kv[:, row : row + 1, :, : position + 1]
            mixed[token] = attention(queries[token : token + 1, None], keys, values, None)[0, 0]
    return mixed


def prefill_attention(queries: Tensor, kv: Tensor, places: Places) -> Tensor:
    return decode_attention(queries, kv, places, num_readable=kv.shape[3] - 1)


def add_attention_output(x: Tensor, queries: Tensor, kv: Tensor, out: Matrix, places: Places) -> Residual:
    return add_linear(x, decode_attention(queries, kv, places, num_readable=kv.shape[3]), out)


def add_linear(x: Tensor, inputs: Tensor, matrix: Matrix) -> Residual:
    return Residual.of(x + linear(inputs, matrix))


def normed_linear(residual: Residual, norm: Norm, matrix: Matrix, out: Tensor) -> None:
    out.copy_(linear(rms_norm(add_parts(residual).x, norm), matrix))


def normed_swiglu(residual: Residual, norm: Norm, gate_up: Matrix) -> tuple[Tensor, Tensor]:
    x = add_parts(residual).x
    gate, up = linear(rms_norm(x, norm), gate_up).chunk(2, dim=-1)
    return x, F.silu(gate) * up


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
