"""The sizes of a CSM checkpoint, from its config."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from transformers import CsmConfig, CsmDepthDecoderConfig, MimiConfig

from serve_app.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class RopeShape:
    """Rotary embedding parameters. The last four apply to `llama3` only."""

    kind: str
    theta: float
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_positions: int = 0

    @classmethod
    def from_config(cls, parameters: Mapping[str, Any] | None) -> Self:
        if parameters is None or "rope_theta" not in parameters:
            raise CheckpointError("config.json: rope_parameters (or rope_theta and rope_scaling) are missing")
        kind = parameters.get("rope_type", "default")
        theta = float(parameters["rope_theta"])
        if kind == "default":
            return cls(kind, theta)
        if kind == "llama3":
            return cls(
                kind,
                theta,
                float(parameters["factor"]),
                float(parameters["low_freq_factor"]),
                float(parameters["high_freq_factor"]),
                int(parameters["original_max_position_embeddings"]),
            )
        raise CheckpointError(f"config.json: rope_type {kind!r} is not served; 'default' and 'llama3' are")


@dataclass(frozen=True, slots=True)
class TransformerShape:
    """One Llama-like stack: the backbone or the depth decoder."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope: RopeShape

    @classmethod
    def from_config(cls, config: CsmConfig | CsmDepthDecoderConfig) -> Self:
        if config.attention_bias or config.mlp_bias or config.hidden_act != "silu":
            raise CheckpointError(
                "config.json: attention_bias, mlp_bias and a hidden_act other than 'silu' are not served"
            )
        return cls(
            num_layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads or config.num_attention_heads,
            head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
            max_positions=config.max_position_embeddings,
            rms_norm_eps=config.rms_norm_eps,
            rope=RopeShape.from_config(config.rope_parameters),
        )


@dataclass(frozen=True, slots=True)
class CsmShape:
    """The whole model. `vocab_size` includes reserved ids, `codebook_size` does not: Mimi crashes on them."""

    backbone: TransformerShape
    depth: TransformerShape
    num_codebooks: int
    vocab_size: int
    codebook_size: int
    text_vocab_size: int

    @classmethod
    def from_config(cls, config: CsmConfig) -> Self:
        depth, codec, num_codebooks = config.depth_decoder_config, config.codec_config, config.num_codebooks
        if not isinstance(depth, CsmDepthDecoderConfig) or not isinstance(codec, MimiConfig) or num_codebooks is None:
            raise CheckpointError("config.json: depth_decoder_config, a Mimi codec_config and num_codebooks are needed")
        _check_agreement(config, depth)
        return cls(
            backbone=TransformerShape.from_config(config),
            depth=TransformerShape.from_config(depth),
            num_codebooks=num_codebooks,
            vocab_size=config.vocab_size,
            codebook_size=min(codec.codebook_size, config.vocab_size),
            text_vocab_size=config.text_vocab_size,
        )


def _check_agreement(config: CsmConfig, depth: CsmDepthDecoderConfig) -> None:
    if depth.num_codebooks != config.num_codebooks or depth.vocab_size != config.vocab_size:
        raise CheckpointError("config.json: backbone and depth decoder disagree on num_codebooks or vocab_size")
    if depth.backbone_hidden_size != config.hidden_size:
        raise CheckpointError("config.json: depth_decoder_config.backbone_hidden_size is not hidden_size")
    if depth.max_position_embeddings < (depth.num_codebooks or 0):
        raise CheckpointError("config.json: depth_decoder_config.max_position_embeddings is below num_codebooks")
    if config.codebook_eos_token_id != 0:
        raise CheckpointError("config.json: codebook_eos_token_id must be 0")
    if not config.tie_codebooks_embeddings:
        raise CheckpointError("config.json: tie_codebooks_embeddings false is not served; the audio table is shared")
