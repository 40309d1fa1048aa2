"""Fills the model from the Hub's parameter names (transformers' layout), using each exactly once."""

import logging
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from serve_app.errors import CheckpointError
from serve_app.model.csm import Csm
from serve_app.model.matrix import QuantizationChoice
from serve_app.model.shape import CsmShape, TransformerShape

_log = logging.getLogger(__name__)

CODEC_PREFIX = "codec_model."
AUDIO_TABLES = ("backbone_model.embed_tokens.embed_audio_tokens.weight", "depth_decoder.model.embed_tokens.weight")
"""The table of the backbone and that of the depth decoder. CSM-1B ties them: one table with two names.

`save_pretrained` writes only the second, the Hub's files hold both. Adapters may change one of them alone.
"""

Destination = Callable[[Csm], Tensor]
"""Returns the view of the model that a stored tensor fills."""


def destinations(shape: CsmShape) -> dict[str, Destination]:
    """Where each stored tensor goes, without the codec's tensors."""
    plan: dict[str, Destination] = {
        "embed_text_tokens.weight": lambda model: model.text_embedding,
        "lm_head.weight": lambda model: model.first_head,
        "depth_decoder.model.inputs_embeds_projector.weight": lambda model: model.projection,
        # Stored as [codebook, hidden, vocab] for x @ W; ours is [codebook, vocab, hidden] like every other matrix.
        "depth_decoder.codebooks_head.weight": lambda model: model.depth_heads.transpose(1, 2),
    }
    plan |= {AUDIO_TABLES[0]: lambda model: model.audio_embedding, AUDIO_TABLES[1]: lambda model: model.depth_table}
    plan |= dict(_stack("backbone_model", "backbone", shape.backbone))
    plan |= dict(_stack("depth_decoder.model", "depth", shape.depth))
    return plan


def _stack(stored: str, ours: str, shape: TransformerShape) -> Iterator[tuple[str, Destination]]:
    queries = shape.num_heads * shape.head_dim
    keys = queries + shape.num_kv_heads * shape.head_dim
    values = keys + shape.num_kv_heads * shape.head_dim
    inner = shape.intermediate_size
    parts: dict[str, tuple[str, slice]] = {
        "self_attn.q_proj": ("qkv", slice(0, queries)),
        "self_attn.k_proj": ("qkv", slice(queries, keys)),
        "self_attn.v_proj": ("qkv", slice(keys, values)),
        "self_attn.o_proj": ("out", slice(None)),
        "mlp.gate_proj": ("gate_up", slice(0, inner)),
        "mlp.up_proj": ("gate_up", slice(inner, 2 * inner)),
        "mlp.down_proj": ("down", slice(None)),
        "input_layernorm": ("attention_norm", slice(None)),
        "post_attention_layernorm": ("mlp_norm", slice(None)),
    }
    for index in range(shape.num_layers):
        for name, (part, rows) in parts.items():
            yield f"{stored}.layers.{index}.{name}.weight", _rows_of(ours, index, part, rows)
    yield f"{stored}.norm.weight", lambda model: getattr(model, ours).norm


def _rows_of(transformer: str, index: int, part: str, rows: slice) -> Destination:
    return lambda model: getattr(getattr(model, transformer).blocks[index], part)[rows]


def load_weights(model: Csm, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Fill `model` from `tensors`, by their stored names.

    Raises CheckpointError for a name that is unknown, missing or of another shape.
    """
    plan = destinations(model.shape)
    missing = set(plan)
    with torch.no_grad():
        for name, tensor in tensors:
            if name.startswith(CODEC_PREFIX):
                continue
            if name not in missing:
                raise CheckpointError(f"weights: {name} is not a tensor of this model")
            target = plan[name](model)
            if target.shape != tensor.shape:
                raise CheckpointError(f"weights: {name} is {list(tensor.shape)}, config.json says {list(target.shape)}")
            target.copy_(tensor)
            missing.discard(name)
    _tie(model, missing)
    if missing:
        raise CheckpointError(f"weights: {len(missing)} tensors are missing, among them {min(missing)}")


def _tie(model: Csm, missing: set[str]) -> None:
    """Where one audio table is missing, the other is both."""
    backbone, depth = AUDIO_TABLES
    if (backbone in missing) == (depth in missing):
        return
    if backbone in missing:
        model.audio_embedding.copy_(model.depth_table)
    else:
        model.depth_table.copy_(model.audio_embedding)
    missing.difference_update(AUDIO_TABLES)


def build_model(
    shape: CsmShape,
    tensors: Iterable[tuple[str, Tensor]],
    device: torch.device,
    dtype: torch.dtype,
    quantization: QuantizationChoice = "none",
) -> Csm:
    """The model on `device`, ready to run."""
    model = Csm(shape, device, dtype)
    load_weights(model, tensors)
    model.fold()
    if quantization == "auto":
        num_kept = model.quantize_where_allowed()
        _log.info("quantization auto: %s, %d matrices keep their type", model.quantization, num_kept)
    else:
        model.quantize(quantization)
    return model
