"""The Conversational Speech Model: a backbone over time, a depth decoder over the codebooks of one frame.

Architecture: Sesame's csm/models.py; parameters as in transformers' CsmForConditionalGeneration.
Shapes: R rows, S tokens, K codebooks, H backbone hidden, E depth hidden, V vocabulary of a codebook.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.model.device import send
from serve_app.model.kv_views import KvView, TokenRange, kv_at_block, kv_at_positions, kv_of_ranges
from serve_app.model.layers import Transformer
from serve_app.model.matrix import Matrix, Quantization, quantize, quantize_where_allowed
from serve_app.model.rope import RotationTable
from serve_app.model.shape import CsmShape

if TYPE_CHECKING:
    from serve_app.model.adapters.low_rank import RowAdapters


class Sampler(Protocol):
    def draw(self, codebook: int, logits: Tensor) -> Tensor:
        """[R, V] logits to [R] codes."""
        ...


class Csm:
    """Starts with uninitialised weights; `weights.load_weights` fills them."""

    def __init__(self, shape: CsmShape, device: torch.device, dtype: torch.dtype) -> None:
        def weight(*sizes: int) -> Tensor:
            return torch.empty(sizes, device=device, dtype=dtype)

        hidden, depth_hidden, vocab = shape.backbone.hidden_size, shape.depth.hidden_size, shape.vocab_size
        self.shape = shape
        self.device = device
        self.dtype = dtype
        self.quantization: Quantization = "none"
        self.text_embedding = weight(shape.text_vocab_size, hidden)
        self.audio_embedding = weight(shape.num_codebooks * vocab, hidden)
        """One table for all codebooks: row code + V * codebook."""
        self.depth_table = weight(shape.num_codebooks * vocab, hidden)
        """The depth decoder's, mostly equal to the backbone's. Empty once it was folded."""
        self.backbone = Transformer(shape.backbone, device, dtype)
        self.first_head = weight(vocab, hidden)
        self.projection = weight(depth_hidden, hidden)
        self.depth_embedding = weight(shape.num_codebooks * vocab, depth_hidden)
        """The depth table after the projection, which is the depth decoder's input; see `fold`."""
        self.depth = Transformer(shape.depth, device, dtype)
        self.depth_heads = weight(shape.num_codebooks - 1, vocab, depth_hidden)
        self.backbone_rotation = RotationTable(shape.backbone, device, dtype)
        self.depth_rotation = RotationTable(shape.depth, device, dtype)
        self._depth_rotations = [self.depth_rotation.at_block(start, end) for start, end in self._depth_blocks()]
        self._codebook_offsets = torch.arange(shape.num_codebooks, device=device) * vocab

    def embed_text(self, ids: Tensor) -> Tensor:
        """[S] token ids to [S, H]."""
        return F.embedding(ids, self.text_embedding)

    def embed_frames(self, codes: Tensor) -> Tensor:
        """[..., K] codes of whole frames to [..., H]: the sum over codebooks."""
        return F.embedding(codes + self._codebook_offsets, self.audio_embedding).sum(dim=-2)

    def fold(self) -> None:
        """Project the depth table once, so that each code of a frame costs a look-up instead of a product."""
        torch.matmul(self.depth_table, self.projection.T, out=self.depth_embedding)
        self.depth_table = self.depth_table[:0].clone()

    def quantize(self, quantization: Quantization) -> None:
        """Quantize the matrices of backbone and depth decoder. Embeddings, heads and norms stay as they are."""
        self.quantization = quantization
        self.change_matrices(lambda matrix: quantize(matrix, quantization) if isinstance(matrix, Tensor) else matrix)

    def quantize_where_allowed(self) -> int:
        """Round the matrices whose error in int8 is small, and return how many stay as they are."""
        made: list[Matrix] = []

        def rounded(matrix: Matrix) -> Matrix:
            made.append(quantize_where_allowed(matrix) if isinstance(matrix, Tensor) else matrix)
            return made[-1]

        self.change_matrices(rounded)
        num_kept = sum(isinstance(matrix, Tensor) for matrix in made)
        self.quantization = "int8" if num_kept < len(made) else "none"
        return num_kept

    def change_matrices(self, change: Callable[[Matrix], Matrix]) -> None:
        """Replace each matrix of backbone and depth decoder by the result of `change`."""
        self.backbone.change_matrices(change)
        self.depth.change_matrices(change)

    def prefill(
        self, x: Tensor, kv: Tensor, ranges: Sequence[TokenRange], adapters: "RowAdapters | None" = None
    ) -> Tensor:
        """The backbone over the prompt tokens of `ranges`, concatenated in `x` [T, H], to hidden states [T, H].

        Reads and extends `kv` [layers, 2, rows, G, positions, D]. Tokens after the last range are padding: they write
        to the last position of the first row, which no sequence reads.
        """
        spare = kv.shape[4] - 1
        padding = TokenRange(0, spare, x.shape[0] - sum(tokens.num_tokens for tokens in ranges))
        rows = [row for tokens in (*ranges, padding) for row in [tokens.row] * tokens.num_tokens]
        positions = [p for tokens in ranges for p in range(tokens.start, tokens.end)] + [spare] * padding.num_tokens
        row_ids, places = send(torch.tensor([rows, positions]), x.device)
        view = kv_of_ranges(kv, ranges, row_ids, places)
        own = adapters.backbone if adapters else None
        return self.backbone(x[None], self.backbone_rotation.at_tokens(places), view, own)[0]

    def step(
        self, x: Tensor, kv: Tensor, positions: Tensor, num_readable: int, adapters: "RowAdapters | None" = None
    ) -> Tensor:
        """The backbone over one token a row, `x` [R, H] at `positions` [R] below `num_readable`, to [R, H]."""
        view = kv_at_positions(kv, positions, num_readable)
        own = adapters.backbone if adapters else None
        return self.backbone(x[:, None], self.backbone_rotation.at_positions(positions), view, own)[:, 0]

    def depth_kv(self, kv: Tensor) -> list[KvView]:
        """Views of scratch memory `kv` [layers, 2, R, G, K, D], one for each pass of the depth decoder.

        Every frame overwrites the same memory. Keep the views: making them costs more than a pass.
        """
        return [kv_at_block(kv, start, end) for start, end in self._depth_blocks()]

    def draw_frame(
        self, hidden: Tensor, depth_kv: Sequence[KvView], sampler: Sampler, adapters: "RowAdapters | None" = None
    ) -> Tensor:
        """Draw the K codes of one frame for each row: [R, H] backbone states to [R, K] codes."""
        codes = [sampler.draw(0, F.linear(hidden, self.first_head))]
        inputs = torch.stack((F.linear(hidden, self.projection), self._embed_code(0, codes[0])), dim=1)
        passes = zip(self.depth_heads, self._depth_rotations, depth_kv, strict=True)
        for codebook, (head, rotation, view) in enumerate(passes, start=1):
            states = self.depth(inputs, rotation, view, adapters.depth if adapters else None)
            codes.append(sampler.draw(codebook, F.linear(states[:, -1], head)))
            inputs = self._embed_code(codebook, codes[-1])[:, None]
        return torch.stack(codes, dim=1)

    def _embed_code(self, codebook: int, codes: Tensor) -> Tensor:
        """[R] codes to [R, E]."""
        return F.embedding(codes + codebook * self.shape.vocab_size, self.depth_embedding)

    def _depth_blocks(self) -> list[tuple[int, int]]:
        """Positions of each depth pass. The first reads the backbone's state and code 0, every other one code."""
        return [(0, 2), *((i, i + 1) for i in range(2, self.shape.num_codebooks))]
