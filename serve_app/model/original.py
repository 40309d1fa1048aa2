"""Sesame's original layout, as its own csm repository and trainers built on it write it, in transformers' names.

Its transformers are torchtune's: a head's rotary pairs are neighbours (0, 1), (2, 3), … where transformers rotates one
half of a head against the other. So the rows of queries and keys are put into another order.
Names and order: transformers' convert_csm.py, which made the Hub's files.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch import Tensor

from serve_app.model.shape import CsmShape, TransformerShape
from serve_app.model.stored import StoredTensor
from serve_app.model.weights import AUDIO_TABLES

_STACKS = {"backbone": "backbone_model", "decoder": "depth_decoder.model"}
_PARTS = {
    "attn.q_proj.weight": "self_attn.q_proj.weight",
    "attn.k_proj.weight": "self_attn.k_proj.weight",
    "attn.v_proj.weight": "self_attn.v_proj.weight",
    "attn.output_proj.weight": "self_attn.o_proj.weight",
    "mlp.w1.weight": "mlp.gate_proj.weight",
    "mlp.w2.weight": "mlp.down_proj.weight",
    "mlp.w3.weight": "mlp.up_proj.weight",
    "sa_norm.scale": "input_layernorm.weight",
    "mlp_norm.scale": "post_attention_layernorm.weight",
}
_SINGLES = {
    "text_embeddings.weight": "embed_text_tokens.weight",
    "audio_embeddings.weight": AUDIO_TABLES[0],
    "projection.weight": "depth_decoder.model.inputs_embeds_projector.weight",
    "codebook0_head.weight": "lm_head.weight",
    "audio_head": "depth_decoder.codebooks_head.weight",
    "backbone.norm.scale": "backbone_model.norm.weight",
    "decoder.norm.scale": "depth_decoder.model.norm.weight",
}
_LAYER = re.compile(r"(backbone|decoder)\.layers\.(\d+)\.(.+)")
_TURNED = re.compile(r"\.self_attn\.([qk])_proj\.weight$")


def is_original(names: Iterable[str]) -> bool:
    """Whether these are the names of Sesame's layout."""
    return any(transformers_name(name) is not None for name in names)


def transformers_name(name: str) -> str | None:
    """The name in transformers' layout, or None for one that Sesame's layout does not have."""
    if (match := _LAYER.fullmatch(name)) and match[3] in _PARTS:
        return f"{_STACKS[match[1]]}.layers.{match[2]}.{_PARTS[match[3]]}"
    return _SINGLES.get(name)


def from_original(tensors: Iterable[StoredTensor], shape: CsmShape) -> Iterator[StoredTensor]:
    """The same tensors in transformers' layout. Names that Sesame's layout does not have stay as they are."""
    for tensor in tensors:
        name = transformers_name(tensor.name) or tensor.name
        if match := _TURNED.search(name):
            stack = shape.backbone if name.startswith(_STACKS["backbone"]) else shape.depth
            yield replace(tensor, name=name, make=lambda t=tensor, s=stack, m=match: _halves(t.make(), _heads(m[1], s)))
        else:
            yield replace(tensor, name=name)


def _heads(projection: str, shape: TransformerShape) -> int:
    return shape.num_heads if projection == "q" else shape.num_kv_heads


def _halves(weight: Tensor, num_heads: int) -> Tensor:
    """[heads * D, H] with a head's rows as pairs, to one with all first rows of the pairs before all second ones."""
    if weight.shape[0] % (2 * num_heads):
        return weight  # Of another model, which loading says with the tensor's name.
    return weight.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)
