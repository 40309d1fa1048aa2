"""A prefill pass with the kernels, as Csm.prefill computes it."""

from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.kernels.arguments import PromptTokens, Residual
from serve_app.model.kernels.linear import add_linear
from serve_app.model.kernels.prefill_attention import prefill_attention
from serve_app.model.kernels.prompt import embed_tokens
from serve_app.model.kernels.stack import run
from serve_app.model.matrix import Matrix


class FusedPrefill:
    """Only launches kernels over fixed memory, so that a CUDA graph can record it. It reads nothing from the host."""

    def __init__(self, model: Csm, kv: Tensor) -> None:
        """`kv` [layers, 2, rows, G, P, D]"""
        self._model = model
        self._kv = kv

    def __call__(self, tokens: PromptTokens) -> Tensor:
        """Write the keys and values of T tokens to their places. What it returns is a graph's result, for nobody."""
        model = self._model

        def attend(x: Tensor, queries: Tensor, kv: Tensor, out: Matrix) -> Residual:
            return add_linear(x, prefill_attention(queries, kv, tokens.places), out)

        embedded = embed_tokens(tokens, model.text_embedding, model.audio_embedding)
        return run(model.backbone, embedded, model.backbone_rotation, tokens.places, self._kv, attend).x
