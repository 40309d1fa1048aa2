"""All kernels in one module, as `reference` is one of their plain forms."""

from serve_app.model.kernels.attention import decode_attention
from serve_app.model.kernels.attention_output import attention_output
from serve_app.model.kernels.depth_attention import depth_attention
from serve_app.model.kernels.draw import draw_codes
from serve_app.model.kernels.frame_state import advance, embed_frame
from serve_app.model.kernels.linear import skinny_linear, split_linear, swiglu
from serve_app.model.kernels.norm import add_rms_norm
from serve_app.model.kernels.normed import normed_linear, normed_swiglu
from serve_app.model.kernels.normed_qkv import normed_qkv
from serve_app.model.kernels.prefill_attention import prefill_attention
from serve_app.model.kernels.prompt import embed_tokens
from serve_app.model.kernels.rope import rope_and_write

__all__ = [
    "add_rms_norm",
    "advance",
    "attention_output",
    "decode_attention",
    "depth_attention",
    "draw_codes",
    "embed_frame",
    "embed_tokens",
    "normed_linear",
    "normed_qkv",
    "normed_swiglu",
    "prefill_attention",
    "rope_and_write",
    "skinny_linear",
    "split_linear",
    "swiglu",
]
