"""moshi's Mimi, filled from the codec weights of a CSM checkpoint (transformers' names)."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from moshi.models import loaders
from moshi.models.compression import MimiModel
from torch import Tensor
from transformers import MimiConfig

from serve_app.errors import CheckpointError
from serve_app.messages import FRAME_RATE_HZ, FRAME_SAMPLES, SAMPLE_RATE_HZ

_LAYER = r"(encoder|decoder)_transformer\.layers\.(\d+)\."
_MOSHI_LAYER = r"\1_transformer.transformer.layers.\2."
_SEANET = r"(encoder|decoder)\.layers\.(\d+)\."
_QUANTIZER = r"quantizer\.%s_residual_vector_quantizer\."
_PROJECTION = re.compile(_LAYER + r"self_attn\.([qkv])_proj\.weight")
_FUSED_PROJECTION = _MOSHI_LAYER + "self_attn.in_projs.0.weight"

_RENAMES: tuple[tuple[str, str], ...] = (
    # Newer transformers nest the modules in memory; the names on disk stayed flat.
    (r"(encoder|decoder)\.\1_(seanet)\.", r"\1."),
    (r"(encoder|decoder)\.(\1_transformer|downsample|upsample)\.", r"\2."),
    # With four ratios, layers 2, 5, 8 and 11 of the decoder are its transposed convolutions.
    (r"decoder\.layers\.(2|5|8|11)\.conv\.", r"decoder.model.\1.convtr.convtr."),
    (_SEANET + r"conv\.", r"\1.model.\2.conv.conv."),
    (_SEANET + r"block\.(\d+)\.conv\.", r"\1.model.\2.block.\3.conv.conv."),
    (r"downsample\.conv\.", "downsample.conv.conv.conv."),
    (r"upsample\.conv\.", "upsample.convtr.convtr.convtr."),
    (_LAYER + r"self_attn\.o_proj\.", _MOSHI_LAYER + "self_attn.out_projs.0."),
    (_LAYER + r"mlp\.fc([12])\.", _MOSHI_LAYER + r"linear\3."),
    (_LAYER + r"input_layernorm\.", _MOSHI_LAYER + "norm1."),
    (_LAYER + r"post_attention_layernorm\.", _MOSHI_LAYER + "norm2."),
    (_LAYER + r"self_attn_layer_scale\.", _MOSHI_LAYER + "layer_scale_1."),
    (_LAYER + r"mlp_layer_scale\.", _MOSHI_LAYER + "layer_scale_2."),
    (_QUANTIZER % "semantic", "quantizer.rvq_first."),
    (_QUANTIZER % "acoustic", "quantizer.rvq_rest."),
    (r"(quantizer\.rvq_\w+)\.layers\.(\d+)\.codebook\.", r"\1.vq.layers.\2._codebook."),
    (r"(quantizer\..*\._codebook)\.embed_sum", r"\1.embedding_sum"),
    (r"(quantizer\..*\._codebook)\.initialized", r"\1._initialized"),
)
"""Patterns of name prefixes. They apply in this order, each to the result of those before."""

_REQUIREMENTS: tuple[tuple[str, Callable[[MimiConfig], bool]], ...] = (
    (f"sampling_rate {SAMPLE_RATE_HZ}", lambda c: c.sampling_rate == SAMPLE_RATE_HZ),
    ("one audio channel", lambda c: c.audio_channels == 1),
    ("four upsampling_ratios", lambda c: len(c.upsampling_ratios or ()) == 4),
    (f"frames of {FRAME_SAMPLES} samples", lambda c: c.frame_size == FRAME_SAMPLES),
    ("num_residual_layers 1", lambda c: c.num_residual_layers == 1),
    ("no use_conv_shortcut", lambda c: not c.use_conv_shortcut),
    ("causal convolutions trimmed on the right", lambda c: c.use_causal_conv and c.trim_right_ratio == 1),
    ("pad_mode constant", lambda c: c.pad_mode == "constant"),
    ("num_filters of 2 or more", lambda c: c.num_filters >= 2),
    ("upsample_groups equal to hidden_size", lambda c: c.upsample_groups == c.hidden_size),
    ("as many key-value heads as heads", lambda c: c.num_key_value_heads == c.num_attention_heads),
    ("heads that divide hidden_size", lambda c: _head_dim(c) * c.num_attention_heads == c.hidden_size),
    ("an even head_dim", lambda c: _head_dim(c) % 2 == 0),
    ("no attention_bias", lambda c: not c.attention_bias),
    ("hidden_act gelu", lambda c: c.hidden_act == "gelu"),
    ("norm_eps 1e-5", lambda c: c.norm_eps == 1e-5),
    ("unscaled rope", lambda c: _rope(c).get("rope_type", "default") == "default"),
    (
        "codebook_dim equal to vector_quantization_hidden_dimension",
        lambda c: c.codebook_dim == c.vector_quantization_hidden_dimension,
    ),
)
"""What moshi's Mimi cannot express otherwise, or the names above count on."""


def load_mimi(
    tensors: Iterable[tuple[str, Tensor]], config: MimiConfig, num_codebooks: int, device: torch.device
) -> MimiModel:
    """Mimi in float32, because in bfloat16 it sounds audibly worse.

    It may share memory with `tensors`, so that two Mimis of the same tensors need the memory once.
    Raises CheckpointError for a config or weights that moshi cannot use.
    """
    mimi = empty_mimi(config, num_codebooks)
    stored = moshi_tensors(tensors, config)
    _require_same_shapes(stored, mimi.state_dict())
    state = {name: tensor.to(device, torch.float32).contiguous() for name, tensor in stored.items()}
    mimi.load_state_dict(state, strict=True, assign=True)
    return mimi.requires_grad_(False).eval()


def empty_mimi(config: MimiConfig, num_codebooks: int) -> MimiModel:
    """A Mimi without memory, on the "meta" device. Raises CheckpointError for a config that moshi cannot use."""
    _require_expressible(config, num_codebooks)
    with torch.device("meta"):
        return loaders.get_mimi(None, moshi_config(config), "meta", num_codebooks)


def moshi_tensors(tensors: Iterable[tuple[str, Tensor]], config: MimiConfig) -> dict[str, Tensor]:
    """Rename tensors to moshi's names, from flat names on disk or nested ones in memory."""
    state: dict[str, Tensor] = {}
    projections: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for stored, tensor in tensors:
        name = _moshi_name(stored)
        if match := _PROJECTION.fullmatch(name):
            projections[match.expand(_FUSED_PROJECTION)][match[3]] = tensor
        else:
            state[name] = tensor
    return state | {name: _fused(name, parts, config) for name, parts in projections.items()}


def _moshi_name(name: str) -> str:
    for stored, ours in _RENAMES:
        if match := re.match(stored, name):
            name = match.expand(ours) + name[match.end() :]
    return name


def _fused(name: str, parts: Mapping[str, Tensor], config: MimiConfig) -> Tensor:
    square = (config.hidden_size, config.hidden_size)
    if parts.keys() != set("qkv") or any(part.shape != square for part in parts.values()):
        found = {key: list(part.shape) for key, part in sorted(parts.items())}
        raise CheckpointError(f"codec weights: {name} needs q, k and v of {list(square)}, found {found}")
    heads = config.num_attention_heads
    return torch.cat([_interleaved(parts["q"], heads), _interleaved(parts["k"], heads), parts["v"]])


def _interleaved(weight: Tensor, num_heads: int) -> Tensor:
    # Stored rows of a head hold all real parts of the rotation, then all imaginary ones. moshi needs them in pairs.
    width = weight.shape[1]
    return weight.reshape(num_heads, 2, -1, width).transpose(1, 2).reshape(-1, width)


def _head_dim(config: MimiConfig) -> int:
    return config.head_dim or config.hidden_size // config.num_attention_heads


def _rope(config: MimiConfig) -> Mapping[str, Any]:
    return config.rope_parameters or {}


def _require_expressible(config: MimiConfig, num_codebooks: int) -> None:
    for requirement, holds in _REQUIREMENTS:
        if not holds(config):
            raise CheckpointError(f"codec_config: this server needs a Mimi with {requirement}")
    if not config.num_semantic_quantizers <= num_codebooks <= config.num_quantizers:
        raise CheckpointError(f"codec_config: {config.num_quantizers} codebooks, the model needs {num_codebooks}")


def _require_same_shapes(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if unknown := stored.keys() - expected.keys():
        raise CheckpointError(f"codec weights: {len(unknown)} unknown tensors, among them {min(unknown)}")
    if missing := expected.keys() - stored.keys():
        raise CheckpointError(f"codec weights: {len(missing)} tensors are missing, among them {min(missing)}")
    for name, tensor in stored.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{list(tensor.shape)}, codec_config says {list(expected[name].shape)}"
            raise CheckpointError(f"codec weights: {name} is {shapes}")


def moshi_config(config: MimiConfig) -> dict[str, Any]:
    """The configuration of the same codec for moshi's `get_mimi`."""
    width = config.hidden_size
    return {
        "sample_rate": SAMPLE_RATE_HZ,
        "frame_rate": FRAME_RATE_HZ,
        "channels": 1,
        "seanet": {
            "channels": 1,
            "dimension": width,
            "causal": True,
            "n_filters": config.num_filters,
            "n_residual_layers": 1,
            "activation": "ELU",
            "compress": config.compress,
            "dilation_base": config.dilation_growth_rate,
            "kernel_size": config.kernel_size,
            "residual_kernel_size": config.residual_kernel_size,
            "last_kernel_size": config.last_kernel_size,
            "norm": "none",
            "pad_mode": config.pad_mode,
            "ratios": list(config.upsampling_ratios or ()),
            "true_skip": True,
        },
        "quantizer": {
            "dimension": config.codebook_dim,
            "n_q": config.num_quantizers,
            "n_q_semantic": config.num_semantic_quantizers,
            "bins": config.codebook_size,
            "input_dimension": width,
            "output_dimension": width,
        },
        "transformer": {
            "d_model": width,
            "num_heads": config.num_attention_heads,
            "num_layers": config.num_hidden_layers,
            "dim_feedforward": config.intermediate_size,
            "causal": True,
            "layer_scale": config.layer_scale_initial_scale,
            "context": config.sliding_window,
            "conv_layout": True,
            "max_period": _rope(config).get("rope_theta", 10_000.0),
            "gating": "none",
            "norm": "layer_norm",
            "positional_embedding": "rope",
            "input_dimension": width,
            "output_dimensions": [width],
        },
    }
