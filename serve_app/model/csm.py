"""The Conversational Speech Model: a backbone over time, a depth decoder over the codebooks of one frame.

Architecture: Sesame's csm/models.py; parameters as in transformers' CsmForConditionalGeneration.
Shapes: R rows, S tokens, K codebooks, H backbone hidden, E depth hidden, V vocabulary of a codebook.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serve_app.model.layers import SharedWhere, Transformer, Where
from serve_app.model.rope import rotation_table
from serve_app.model.sampling import FrameSampler
from serve_app.model.shape import CsmShape


class Csm(nn.Module):
    def __init__(self, shape: CsmShape) -> None:
        super().__init__()
        self.shape = shape
        hidden, vocab = shape.backbone.hidden_size, shape.vocab_size
        self.text_embedding = nn.Embedding(shape.text_vocab_size, hidden)
        self.audio_embedding = nn.Embedding(shape.num_codebooks * vocab, hidden)
        """One table for all codebooks, shared by backbone and depth decoder: row code + vocab * codebook."""
        self.backbone = Transformer(shape.backbone)
        self.first_head = nn.Linear(hidden, vocab, bias=False)
        self.projection = nn.Linear(hidden, shape.depth.hidden_size, bias=False)
        self.depth = Transformer(shape.depth)
        self.depth_heads = nn.Parameter(torch.empty(shape.num_codebooks - 1, vocab, shape.depth.hidden_size))

    def prepare(self) -> None:
        """Make what is derived from the config, once the weights are on their device."""
        weight = self.first_head.weight
        self.backbone_rotation = rotation_table(self.shape.backbone, weight.dtype, weight.device)
        self.depth_rotation = rotation_table(self.shape.depth, weight.dtype, weight.device)
        self.codebook_offsets = torch.arange(self.shape.num_codebooks, device=weight.device) * self.shape.vocab_size
        # Every frame's depth pass writes and reads the same positions, so these are made once.
        self._depth_places = [SharedWhere(0, 2, weight.device)]
        self._depth_places += [SharedWhere(i, i + 1, weight.device) for i in range(2, self.shape.num_codebooks)]

    @property
    def dtype(self) -> torch.dtype:
        return self.first_head.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.first_head.weight.device

    def embed_text(self, ids: Tensor) -> Tensor:
        """[S] token ids to [S, H]."""
        return self.text_embedding(ids)

    def embed_frames(self, codes: Tensor) -> Tensor:
        """[..., K] codes of whole frames to [..., H]: the sum over codebooks."""
        return self.audio_embedding(codes + self.codebook_offsets).sum(dim=-2)

    def run_backbone(self, x: Tensor, kv: Tensor, where: Where) -> Tensor:
        """`x` [R, S, H] to [R, S, H]."""
        return self.backbone(x, self.backbone_rotation[where.positions], kv, where)

    def run_depth(self, hidden: Tensor, kv: Tensor, sampler: FrameSampler) -> Tensor:
        """Draw the K codes of one frame for each row: [R, H] backbone states to [R, K] codes.

        `kv` [layers, 2, R, G, K, D] is scratch memory: each frame overwrites it before reading it.
        """
        codes = [sampler.draw(0, self.first_head(hidden))]
        inputs = torch.stack((hidden, self._embed_code(0, codes[0])), dim=1)
        for codebook in range(1, self.shape.num_codebooks):
            where = self._depth_places[codebook - 1]
            rotation = self.depth_rotation[where.positions]
            state = self.depth(self.projection(inputs), rotation, kv, where)[:, -1]
            codes.append(sampler.draw(codebook, F.linear(state, self.depth_heads[codebook - 1])))
            inputs = self._embed_code(codebook, codes[-1])[:, None]
        return torch.stack(codes, dim=1)

    def _embed_code(self, codebook: int, codes: Tensor) -> Tensor:
        return self.audio_embedding(codes + codebook * self.shape.vocab_size)
