"""Drawing codes: filters, and noise that is a function of (seed, frame, codebook, code) alone.

A draw is the argmax of logits / temperature + Gumbel noise over the codes that the filters keep, which follows the
softmax exactly (Gumbel, 1954; Maddison et al., 2014). The noise depends neither on the place in a batch nor on time, so
a sequence draws the same codes alone, in any batch and after a resume.

Shapes: R rows, K codebooks, C codes of a codebook, W the widest top-k of the rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), as signed 64 bit integers.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64

REPETITION_WINDOW_FRAMES = 64


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical, not arithmetic: torch has no unsigned 64 bit shift."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """Scramble 64 bit integers, so that neighbours become unrelated."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def noise_keys(seeds: Tensor, frames: Tensor, num_codebooks: int) -> Tensor:
    """One key per codebook of a frame: `seeds` [R] and `frames` [R], int64, to [R, K]."""
    codebooks = torch.arange(1, num_codebooks + 1, device=seeds.device)
    frame_keys = mix(mix(seeds) + (frames + 1) * _GOLDEN)
    return mix(frame_keys[:, None] + codebooks * _GOLDEN)


def negative_gumbel(keys: Tensor, codes: Tensor) -> Tensor:
    """Standard Gumbel noise, negated, in float64 for `keys` [R] and `codes` [R, W]."""
    counters = torch.add(keys[:, None] + _GOLDEN, codes, alpha=_GOLDEN)
    uniform = (_shift_right(mix(counters), 12).double() + 0.5).mul_(2.0**-52)
    return uniform.log_().neg_().log_()


@dataclass(frozen=True, slots=True)
class RowSampling:
    """The sampling parameters and state of R rows, as device tensors [R]."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    repetition_penalty: Tensor
    greedy: Tensor
    seed: Tensor
    min_frames: Tensor
    frame: Tensor
    """Frames generated so far."""
    history: Tensor
    """[R, REPETITION_WINDOW_FRAMES, K] recent frames. -1 where there is none."""

    def first_rows(self, num_rows: int) -> "RowSampling":
        """Views of the first rows."""
        return RowSampling(
            temperature=self.temperature[:num_rows],
            top_k=self.top_k[:num_rows],
            top_p=self.top_p[:num_rows],
            repetition_penalty=self.repetition_penalty[:num_rows],
            greedy=self.greedy[:num_rows],
            seed=self.seed[:num_rows],
            min_frames=self.min_frames[:num_rows],
            frame=self.frame[:num_rows],
            history=self.history[:num_rows],
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in the order of their definition."""
        return (
            self.temperature,
            self.top_k,
            self.top_p,
            self.repetition_penalty,
            self.greedy,
            self.seed,
            self.min_frames,
            self.frame,
            self.history,
        )


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """What the host knows of a batch, so that a step can choose its work without reading from the device."""

    max_top_k: int
    one_top_k: bool
    """All rows that are not greedy have the same top-k, `max_top_k`."""
    any_greedy: bool
    all_greedy: bool
    any_top_p: bool
    any_penalty: bool


class FrameSampler:
    """Draws the codes of one frame, codebook after codebook."""

    def __init__(self, rows: RowSampling, plan: SamplingPlan, num_codebooks: int, codebook_size: int) -> None:
        self._rows = rows
        self._plan = plan
        self._codebook_size = codebook_size
        self._no_end_yet = (rows.frame < rows.min_frames)[:, None]
        if not plan.all_greedy:
            self._keys = noise_keys(rows.seed, rows.frame, num_codebooks).unbind(1)
            self._inverse_temperature = rows.temperature.reciprocal()[:, None]
            self._outside_top_k = torch.arange(plan.max_top_k, device=rows.top_k.device) >= rows.top_k[:, None]

    def draw(self, codebook: int, logits: Tensor) -> Tensor:
        """[R, at least C] logits to [R] codes. Ids from C up are reserved and never drawn, because Mimi lacks them."""
        logits = logits[:, : self._codebook_size]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self._plan.any_penalty:
            logits = self._penalize(codebook, logits)
        if codebook == 0:
            # End of speech is a frame of zeros, so a first code other than zero rules it out.
            logits = torch.cat((logits[:, :1].masked_fill(self._no_end_yet, -torch.inf), logits[:, 1:]), dim=1)
        if self._plan.all_greedy:
            return logits.argmax(dim=-1)
        drawn = self._draw_filtered(self._keys[codebook], logits)
        return torch.where(self._rows.greedy, logits.argmax(dim=-1), drawn) if self._plan.any_greedy else drawn

    def _draw_filtered(self, keys: Tensor, logits: Tensor) -> Tensor:
        # The order does not depend on the temperature, so only the kept values are divided by it.
        values, codes = torch.topk(logits, self._plan.max_top_k, dim=-1)
        values = values * self._inverse_temperature
        if not self._plan.one_top_k:
            values = values.masked_fill(self._outside_top_k, -torch.inf)
        if self._plan.any_top_p:
            values = self._within_top_p(values)
        best = (values - negative_gumbel(keys, codes)).argmax(dim=-1, keepdim=True)
        return codes.gather(1, best).squeeze(1)

    def _within_top_p(self, values: Tensor) -> Tensor:
        probabilities = values.softmax(dim=-1)
        # A code is kept while the codes before it sum to less than top_p, so the one that crosses top_p is kept too.
        before = probabilities.cumsum(dim=-1) - probabilities
        return values.masked_fill(before >= self._rows.top_p[:, None], -torch.inf)

    def _penalize(self, codebook: int, logits: Tensor) -> Tensor:
        recent = self._rows.history[:, :, codebook]
        # A missing frame marks one extra column, which is cut off below.
        marks = logits.new_zeros(logits.shape[0], self._codebook_size + 1, dtype=torch.bool)
        marks.scatter_(1, torch.where(recent < 0, self._codebook_size, recent), True)
        penalty = self._rows.repetition_penalty[:, None]
        penalized = torch.where(logits > 0, logits / penalty, logits * penalty)
        return torch.where(marks[:, : self._codebook_size], penalized, logits)
