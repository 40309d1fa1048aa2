"""A prefill pass with the kernels, as Csm.prefill computes it."""

from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.kernels.arguments import PromptTokens
from serve_app.model.kernels.norm import add_rms_norm
from serve_app.model.kernels.prefill_attention import prefill_attention
from serve_app.model.kernels.prompt import embed_tokens
from serve_app.model.kernels.rope import rope_and_write
from serve_app.model.kernels.stack import last_norm, run


class FusedPrefill:
    """Only launches kernels over fixed memory, so that a CUDA graph can record it. It reads nothing from the host."""

    def __init__(self, model: Csm, kv: Tensor) -> None:
        """`kv` [layers, 2, rows, G, P, D]"""
        self._model = model
        self._kv = kv

    def __call__(self, tokens: PromptTokens) -> Tensor:
        """Write the keys and values of T tokens to their places, and return their hidden states [T, H]."""
        model = self._model

        def attend(layer: int, qkv: Tensor) -> Tensor:
            kv, num_heads = self._kv[layer], model.shape.backbone.num_heads
            queries = rope_and_write(qkv, model.backbone_rotation, tokens.places, kv, num_heads)
            return prefill_attention(queries, kv, tokens.places)

        embedded = embed_tokens(tokens, model.text_embedding, model.audio_embedding)
        return add_rms_norm(run(model.backbone, embedded, attend), last_norm(model.backbone))[1]
