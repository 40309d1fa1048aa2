"""The state of each row that a decode step reads and advances, as device tensors."""

import torch
from torch import Tensor

from serve_app.engine.sequence import Sequence
from serve_app.messages import SamplingParams
from serve_app.model.device import send
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, RowSampling, SamplingPlan
from serve_app.model.shape import CsmShape


class RowState:
    """Shapes: B rows, H backbone hidden, K codebooks."""

    def __init__(self, shape: CsmShape, max_rows: int, device: torch.device, dtype: torch.dtype) -> None:
        def filled(value: float, dtype: torch.dtype, *sizes: int) -> Tensor:
            return torch.full((max_rows, *sizes), value, dtype=dtype, device=device)

        # Filters must round as the logits do, which are float64 in float64 models.
        real = torch.float64 if dtype == torch.float64 else torch.float32
        self._shape = shape
        self.next_input = filled(0, dtype, shape.backbone.hidden_size)
        """[B, H] the embedding of each row's newest position."""
        self.position = filled(0, torch.int64)
        """[B] that position."""
        self.sampling = RowSampling(
            temperature=filled(1, real),
            top_k=filled(1, torch.int64),
            top_p=filled(1, real),
            repetition_penalty=filled(1, real),
            greedy=filled(False, torch.bool),
            seed=filled(0, torch.int64),
            min_frames=filled(0, torch.int64),
            frame=filled(0, torch.int64),
            history=filled(-1, torch.int64, REPETITION_WINDOW_FRAMES, shape.num_codebooks),
        )

    def start(self, row: int, sequence: Sequence, next_input: Tensor) -> None:
        """Set up `row` to decode `sequence`, whose last prompt position embeds to `next_input` [H]."""
        params, prompt, sampling = sequence.request.sampling, sequence.prompt, self.sampling
        self.next_input[row] = next_input
        self.position[row] = prompt.num_positions - 1
        sampling.temperature[row] = params.temperature
        sampling.top_k[row] = min(params.top_k, self._shape.codebook_size)
        sampling.top_p[row] = params.top_p
        sampling.repetition_penalty[row] = params.repetition_penalty
        sampling.greedy[row] = params.greedy
        sampling.seed[row] = params.seed
        sampling.min_frames[row] = params.min_frames
        sampling.frame[row] = prompt.num_resumed
        self._restore_history(row, torch.from_numpy(prompt.frames[prompt.num_positions - prompt.num_resumed :]))

    def _restore_history(self, row: int, resumed: Tensor) -> None:
        history = self.sampling.history[row]
        history.fill_(-1)
        recent = resumed[-REPETITION_WINDOW_FRAMES:]
        places = torch.arange(resumed.shape[0] - recent.shape[0], resumed.shape[0]) % REPETITION_WINDOW_FRAMES
        history[send(places, history.device)] = send(recent, history.device)

    def first_rows(self, num_rows: int) -> RowSampling:
        return self.sampling.first_rows(num_rows)

    def advance(self, codes: Tensor, embedded: Tensor, is_running: Tensor | None = None) -> None:
        """Take the `codes` [R, K] that the first rows drew, and their embeddings `embedded` [R, H].

        Rows where `is_running` [R] is False keep their state.
        """
        num_rows = codes.shape[0]
        frame, position = self.sampling.frame[:num_rows], self.position[:num_rows]
        rows, places = torch.arange(num_rows, device=frame.device), frame % REPETITION_WINDOW_FRAMES
        if is_running is not None:
            codes = torch.where(is_running[:, None], codes, self.sampling.history[rows, places])
            embedded = torch.where(is_running[:, None], embedded, self.next_input[:num_rows])
        self.sampling.history[rows, places] = codes
        self.next_input[:num_rows] = embedded
        frame += 1 if is_running is None else is_running
        position += 1 if is_running is None else is_running

    def move(self, source: int, target: int) -> None:
        for tensor in self.tensors():
            tensor[target] = tensor[source]

    def swap(self, first: int, second: int) -> None:
        for tensor in self.tensors():
            held = tensor[first].clone()
            tensor[first] = tensor[second]
            tensor[second] = held

    def tensors(self) -> tuple[Tensor, ...]:
        return self.next_input, self.position, *self.sampling.tensors()


def plan_for(params: list[SamplingParams], codebook_size: int) -> SamplingPlan:
    """The work that a batch of these parameters needs."""
    drawn = [p for p in params if not p.greedy]
    top_ks = {min(p.top_k, codebook_size) for p in drawn} or {1}
    return SamplingPlan(
        max_top_k=max(top_ks),
        one_top_k=len(top_ks) == 1,
        any_greedy=len(drawn) < len(params),
        all_greedy=not drawn,
        any_top_p=any(p.top_p < 1 for p in drawn),
        any_penalty=any(p.repetition_penalty != 1 for p in params),
    )
