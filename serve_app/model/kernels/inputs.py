"""Random inputs for one call of a kernel and its plain form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from serve_app.model.kernels.arguments import Norm, Places, Residual
from serve_app.model.matrix import Matrix, Quantization, quantize
from serve_app.model.rope import RotationTable
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, RowSampling
from serve_app.model.shape import RopeShape, TransformerShape


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of one call. By default every kernel splits its work, and rows end anywhere."""

    num_rows: int = 5
    hidden: int = 1024
    inner: int = 4096
    num_heads: int = 8
    num_groups: int = 2
    head_dim: int = 64
    num_positions: int = 320
    num_codebooks: int = 6
    codebook_size: int = 300


class Inputs:
    """Random tensors of a device and a type, equal for equal seeds."""

    def __init__(self, device: torch.device, dtype: torch.dtype, quantization: Quantization, seed: int = 0) -> None:
        self.device = device
        self.dtype = dtype
        self._quantization: Quantization = quantization
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    def again(self) -> "Inputs":
        """The same tensors from the start."""
        return Inputs(self.device, self.dtype, self._quantization, self._seed)

    def normal(self, *sizes: int) -> Tensor:
        return torch.randn(sizes, generator=self._generator).to(self.device, self.dtype)

    def integers(self, low: int, high: int, *sizes: int) -> Tensor:
        return torch.randint(low, high, sizes, generator=self._generator).to(self.device)

    def uniform(self, low: float, high: float, num_rows: int) -> Tensor:
        return (low + (high - low) * torch.rand(num_rows, generator=self._generator)).to(self.device)

    def matrix(self, outputs: int, inputs: int) -> Matrix:
        return quantize(self.normal(outputs, inputs) * inputs**-0.5, self._quantization)

    def positions(self, sizes: Sizes) -> Tensor:
        """[R]. The last row is padding, at the spare position."""
        positions = self.integers(0, sizes.num_positions - 1, sizes.num_rows)
        positions[-1] = sizes.num_positions - 1
        return positions

    def row_places(self, sizes: Sizes) -> Places:
        """Of one token a row, in another order than the rows'."""
        return Places(torch.arange(sizes.num_rows, device=self.device).flip(0), self.positions(sizes))

    def residuals(self, sizes: Sizes) -> list[Residual]:
        """Without and with parts. Each has rows of its own, since parts may be added in place."""
        rows = self.normal(sizes.num_rows, 4, sizes.hidden)
        parts = self.normal(3, sizes.num_rows, sizes.hidden)
        return [Residual.of(rows[:, 1]), Residual(rows[:, 3], parts.float())]

    def norm(self, sizes: Sizes) -> Norm:
        return Norm(self.normal(sizes.hidden), 1e-5)

    def _number(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self._generator))

    def prompt_places(self, sizes: Sizes) -> Places:
        """Of as many ranges as there are rows, in any order, the first in the middle of its prompt; then padding."""
        longest = max(1, min(200 // sizes.num_rows, sizes.num_positions // 3))
        lengths = [self._number(1, longest) for _ in range(sizes.num_rows)]
        starts = [self._number(0, sizes.num_positions - 1 - length) for length in lengths]
        order = torch.randperm(sizes.num_rows, generator=self._generator).tolist()
        rows = [row for row, length in zip(order, lengths, strict=True) for _ in range(length)] + [0, 0, 0]
        positions = [p for start, length in zip(starts, lengths, strict=True) for p in range(start, start + length)]
        positions += [sizes.num_positions - 1] * 3
        return Places(torch.tensor(rows, device=self.device), torch.tensor(positions, device=self.device))

    def rotation(self, sizes: Sizes) -> RotationTable:
        rope = RopeShape("default", 10000.0)
        shape = TransformerShape(1, 1, 1, 1, 1, sizes.head_dim, sizes.num_positions, 1e-5, rope)
        return RotationTable(shape, self.device, self.dtype)

    def sampling(self, sizes: Sizes) -> RowSampling:
        """Rows with every kind of parameter, mixed."""
        rows, frame = sizes.num_rows, self.integers(0, 200, sizes.num_rows)
        history = self.integers(-1, sizes.codebook_size, rows, REPETITION_WINDOW_FRAMES, sizes.num_codebooks)

        def some(usual: float, values: Tensor) -> Tensor:
            return torch.where(self.uniform(0, 1, rows) < 0.3, usual, values)

        return RowSampling(
            temperature=some(1.0, self.uniform(0.3, 1.8, rows)),
            top_k=some(sizes.codebook_size, self.integers(1, sizes.codebook_size + 1, rows)).long(),
            top_p=some(1.0, self.uniform(0.1, 1.0, rows)),
            repetition_penalty=some(1.0, self.uniform(0.8, 2.0, rows)),
            greedy=self.uniform(0, 1, rows) < 0.2,
            seed=self.integers(-(2**62), 2**62, rows),
            min_frames=(frame + self.integers(-1, 2, rows)).clamp_min(0),
            frame=frame,
            history=history,
        )
