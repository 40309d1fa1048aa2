"""The sizes of the checkpoints that `create` makes. `codec/mimi.py` lists what moshi requires of a Mimi."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from transformers import CsmConfig

from serve_app.errors import CheckpointError

Preset = Literal["tiny", "small", "csm-1b"]

_RESERVED_CODES = 3
"""Ids above Mimi's codes in every codebook's vocabulary. The last one is padding."""

_SUB_CONFIGS = ("depth_decoder_config", "codec_config")


def _rope(high_freq_factor: float, low_freq_factor: float, original_positions: int) -> dict[str, Any]:
    return {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "high_freq_factor": high_freq_factor,
        "low_freq_factor": low_freq_factor,
        "original_max_position_embeddings": original_positions,
    }


def _stack(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
    }


def _codec(hidden: int, filters: int, layers: int, heads: int, codebook_size: int, codebook_dim: int) -> dict[str, Any]:
    return {
        **_stack(layers, hidden, 4 * hidden, heads, heads),
        "num_filters": filters,
        "codebook_size": codebook_size,
        "codebook_dim": codebook_dim,
        "vector_quantization_hidden_dimension": codebook_dim,
        "upsample_groups": hidden,
        "layer_scale_initial_scale": 1.0,
    }


_PRESETS: dict[Preset, dict[str, Any]] = {
    "tiny": {
        **_stack(2, 64, 128, 4, 2),
        "depth_decoder_config": _stack(2, 32, 64, 4, 2),
        "codec_config": _codec(32, 4, 2, 4, 64, 16),
    },
    "small": {
        **_stack(4, 256, 512, 4, 2),
        "depth_decoder_config": _stack(2, 64, 128, 4, 2),
        "codec_config": _codec(64, 8, 2, 8, 2048, 32),
    },
    "csm-1b": {
        **_stack(16, 2048, 8192, 32, 8),
        "text_vocab_size": 128256,
        "bos_token_id": 128000,
        "depth_decoder_config": _stack(4, 1024, 8192, 8, 2),
        "codec_config": _codec(512, 64, 8, 8, 2048, 256),
    },
}

_SHARED: dict[str, Any] = {
    "num_codebooks": 32,
    "max_position_embeddings": 2048,
    "rope_parameters": _rope(0.5, 0.125, 1024),
    "codebook_eos_token_id": 0,
    # The small presets' tokenizers hold 256 bytes, and four special tokens right after them.
    "text_vocab_size": 260,
    "bos_token_id": 256,
}


def preset_config(preset: Preset, overrides: Mapping[str, Any] | None = None) -> CsmConfig:
    """The preset with `overrides` by config key. Overrides of the two sub-configs are merged into them.

    Sizes that depend on others, such as the depth decoder's vocabulary, follow them unless they are overridden too.
    """
    if preset not in get_args(Preset):
        raise CheckpointError(f"unknown preset {preset!r}: choose one of {', '.join(get_args(Preset))}")
    overrides = overrides or {}
    values = {**_SHARED, **_PRESETS[preset], **overrides}
    for key in _SUB_CONFIGS:
        values[key] = {**_PRESETS[preset][key], **overrides.get(key, {})}
    return CsmConfig(**_with_followers(values))


def _with_followers(values: dict[str, Any]) -> dict[str, Any]:
    num_codebooks, bos = values["num_codebooks"], values["bos_token_id"]
    vocab_size = values.get("vocab_size", values["codec_config"]["codebook_size"] + _RESERVED_CODES)
    depth = {
        "num_codebooks": num_codebooks,
        "vocab_size": vocab_size,
        "backbone_hidden_size": values["hidden_size"],
        "max_position_embeddings": num_codebooks + 1,
        "rope_parameters": _rope(0.0078125, 0.001953125, 16),
        **values["depth_decoder_config"],
    }
    codec = {"model_type": "mimi", "num_quantizers": num_codebooks, **values["codec_config"]}
    return {
        "vocab_size": vocab_size,
        "codebook_pad_token_id": vocab_size - 1,
        "pad_token_id": bos + 2,
        "audio_token_id": bos + 2,
        "audio_eos_token_id": bos + 3,
        **values,
        "depth_decoder_config": depth,
        "codec_config": codec,
    }
