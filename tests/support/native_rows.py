"""Small models and rows in the middle of their sequences, for the native step and the plain one side by side."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.native.frame import NativeFrame
from serve_app.model.presets import preset_config
from serve_app.model.random_weights import random_tensors
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, FrameSampler, RowSampling, SamplingPlan
from serve_app.model.shape import CsmShape
from serve_app.model.weights import build_model

NUM_POSITIONS = 40
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "odd sizes": {
        "num_codebooks": 8,
        "hidden_size": 96,
        "intermediate_size": 172,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 16,
        "depth_decoder_config": {
            "hidden_size": 48,
            "intermediate_size": 70,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 12,
        },
        "codec_config": {"codebook_size": 128},
    },
    "no grouping": {
        "num_codebooks": 5,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 18,
        "depth_decoder_config": {"num_hidden_layers": 4, "hidden_size": 34, "num_key_value_heads": 4, "head_dim": 6},
        "codec_config": {"codebook_size": 256},
    },
    "larger than a chunk": {
        "num_codebooks": 6,
        "hidden_size": 320,
        "intermediate_size": 1000,
        "num_attention_heads": 10,
        "num_key_value_heads": 2,
        "head_dim": 80,
        "depth_decoder_config": {"hidden_size": 200, "intermediate_size": 700},
        "codec_config": {"codebook_size": 512},
    },
    "wider than an integer sum": {
        "num_codebooks": 3,
        "intermediate_size": 20010,
        "codec_config": {"codebook_size": 32},
    },
}


def make_model(config: str = "tiny", dtype: torch.dtype = torch.float32, seed: int = 3) -> Csm:
    resolved = preset_config("tiny", CONFIGS[config])
    tensors = ((tensor.name, tensor.make(seed)) for tensor in random_tensors(resolved, seed))
    return build_model(CsmShape.from_config(resolved), tensors, torch.device("cpu"), dtype)


@dataclass(frozen=True)
class Rows:
    """What a step works on, for all rows; see `NativeFrame`."""

    kv: Tensor
    next_input: Tensor
    position: Tensor
    sampling: RowSampling

    def clone(self) -> "Rows":
        sampling = RowSampling(**{f.name: getattr(self.sampling, f.name).clone() for f in fields(RowSampling)})
        return Rows(self.kv.clone(), self.next_input.clone(), self.position.clone(), sampling)

    def only(self, row: int) -> "Rows":
        sampling = {f.name: getattr(self.sampling, f.name)[row : row + 1].clone() for f in fields(RowSampling)}
        return Rows(
            self.kv[:, :, row : row + 1].clone(),
            self.next_input[row : row + 1].clone(),
            self.position[row : row + 1].clone(),
            RowSampling(**sampling),
        )

    def with_sampling(self, **changes: Any) -> "Rows":
        """Each change is a value of all rows, or one for each."""
        columns = {}
        for name, value in changes.items():
            old = getattr(self.sampling, name)
            columns[name] = torch.as_tensor(value).to(old.dtype).expand(old.shape).clone()
        return replace(self, sampling=replace(self.sampling, **columns))

    def native(self, model: Csm, num_threads: int = 1) -> NativeFrame:
        return NativeFrame(model, self.kv, self.next_input, self.position, self.sampling, num_threads)

    def tensors(self) -> list[Tensor]:
        return [self.kv, self.next_input, self.position, *(getattr(self.sampling, f.name) for f in fields(RowSampling))]


def make_rows(model: Csm, num_rows: int, seed: int = 0, longest: int = NUM_POSITIONS - 12) -> Rows:
    """Rows at different positions, with a memory that holds something, which draw from the whole softmax."""
    generator = torch.Generator().manual_seed(seed)
    shape, backbone = model.shape, model.shape.backbone

    def column(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.full((num_rows,), value, dtype=dtype)

    sizes = (backbone.num_layers, 2, num_rows, backbone.num_kv_heads, NUM_POSITIONS, backbone.head_dim)
    return Rows(
        kv=torch.randn(sizes, generator=generator).to(model.dtype),
        next_input=torch.randn(num_rows, backbone.hidden_size, generator=generator).to(model.dtype),
        position=torch.randint(longest, (num_rows,), generator=generator),
        sampling=RowSampling(
            temperature=column(1),
            top_k=column(shape.codebook_size, torch.int64),
            top_p=column(1),
            repetition_penalty=column(1),
            greedy=column(False, torch.bool),
            seed=torch.randint(2**62, (num_rows,), generator=generator),
            min_frames=column(0, torch.int64),
            frame=column(0, torch.int64),
            history=torch.full((num_rows, REPETITION_WINDOW_FRAMES, shape.num_codebooks), -1),
        ),
    )


def mixed_sampling(model: Csm, rows: Rows, seed: int = 0) -> Rows:
    """Every filter at once, each row with values of its own; some are greedy, all have a history."""
    generator = torch.Generator().manual_seed(seed)
    num_rows, size = len(rows.position), model.shape.codebook_size

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(num_rows, generator=generator) * (high - low) + low

    history_sizes = (num_rows, REPETITION_WINDOW_FRAMES, model.shape.num_codebooks)
    history = torch.randint(-1, size, history_sizes, generator=generator)
    some = torch.arange(num_rows) % 3
    return rows.with_sampling(
        temperature=uniform(0.5, 1.5),
        top_k=torch.where(some == 0, size, torch.randint(1, size, (num_rows,), generator=generator)),
        top_p=torch.where(some == 1, torch.ones(()), uniform(0.3, 0.99)),
        repetition_penalty=torch.where(some == 2, torch.ones(()), uniform(1.05, 1.8)),
        greedy=torch.arange(num_rows) % 5 == 4,
        frame=torch.randint(200, (num_rows,), generator=generator),
        min_frames=torch.randint(400, (num_rows,), generator=generator),
        history=history,
    )


class PlainFrame:
    """The reference: torch's operations, as the engine's plain step calls them."""

    def __init__(self, model: Csm, rows: Rows) -> None:
        self._model = model
        self._rows = rows
        shape = model.shape.depth
        sizes = (shape.num_layers, 2, len(rows.position), shape.num_kv_heads, model.shape.num_codebooks, shape.head_dim)
        self._depth_kv = model.depth_kv(torch.zeros(sizes, dtype=model.dtype))

    @torch.inference_mode()
    def step(self) -> Tensor:
        model, rows, sampling = self._model, self._rows, self._rows.sampling
        top_k = int(sampling.top_k.max())
        plan = SamplingPlan(top_k, one_top_k=False, any_greedy=True, all_greedy=False, any_top_p=True, any_penalty=True)
        hidden = model.step(rows.next_input, rows.kv, rows.position, int(rows.position.max()) + 1)
        sampler = FrameSampler(sampling, plan, model.shape.num_codebooks, model.shape.codebook_size)
        codes = model.draw_frame(hidden, self._depth_kv, sampler)
        places = sampling.frame % REPETITION_WINDOW_FRAMES
        sampling.history[torch.arange(len(places)), places] = codes
        sampling.frame.add_(1)
        rows.position.add_(1)
        rows.next_input.copy_(model.embed_frames(codes))
        return codes
