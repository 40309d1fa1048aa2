"""All kernels in one module, as `reference` is one of their plain forms."""

from serve_app.model.kernels.attention import decode_attention
from serve_app.model.kernels.attention_output import add_attention_output
from serve_app.model.kernels.draw import draw_codes
from serve_app.model.kernels.frame_state import advance, embed_frame
from serve_app.model.kernels.linear import add_linear
from serve_app.model.kernels.norm import add_parts, rms_norm
from serve_app.model.kernels.normed import normed_linear, normed_swiglu
from serve_app.model.kernels.normed_qkv import normed_qkv
from serve_app.model.kernels.prefill_attention import prefill_attention
from serve_app.model.kernels.prompt import embed_tokens

__all__ = [
    "add_attention_output",
    "add_linear",
    "add_parts",
    "advance",
    "decode_attention",
    "draw_codes",
    "embed_frame",
    "embed_tokens",
    "normed_linear",
    "normed_qkv",
    "normed_swiglu",
    "prefill_attention",
    "rms_norm",
]
