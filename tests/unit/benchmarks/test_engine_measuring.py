"""What stands behind the figures: the floor, the rounds, and that both engines run the same model."""

import numpy as np
import pytest
import torch

from benchmarks.engine.floor import Bandwidth, step_bytes
from benchmarks.engine.forced import spoken, widen
from benchmarks.engine.our_step import WARM_UP_STEPS, OurStep
from benchmarks.engine.precision import PRECISIONS, dense_of
from benchmarks.engine.prompts import Prompts, request_for
from benchmarks.engine.random_model import ByteTokenizer, config_of, quantized_model, random_model
from benchmarks.engine.rounds import Cell, Rounds
from benchmarks.engine.transformers_step import TransformersStep, twin_of
from serve_app.engine.kv_cache import KvCache
from serve_app.engine.reference import forced_logits
from serve_app.engine.row_state import RowState
from serve_app.engine.runner import PendingFrames
from serve_app.engine.steps.plain import AdaptersByRow, PlainStep
from serve_app.model.csm import Csm
from serve_app.model.sampling import SamplingPlan
from serve_app.model.shape import CsmShape

CPU = torch.device("cpu")
FULL, TINY = (CsmShape.from_config(config_of(preset)) for preset in ("csm-1b", "tiny"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_floor_of_the_full_model() -> None:
    """Backbone 1.95 GB, depth decoder 31 times 222 MB, heads 0.14 GB; 32 KiB a position; half of the layers in int8."""
    bf16 = step_bytes(FULL, PRECISIONS["bf16"], 1, 0, cache_bytes=50 << 20)
    assert bf16 / 1e9 == pytest.approx(8.98, abs=0.02)
    assert step_bytes(FULL, PRECISIONS["fp32"], 1, 0, 50 << 20) == 2 * bf16
    assert step_bytes(FULL, PRECISIONS["bf16"], 2, 500, 50 << 20) - bf16 == 2 * 500 * 32 * 1024
    for name in ("int8", "fp8"):
        assert step_bytes(FULL, PRECISIONS[name], 1, 0, 50 << 20) / 1e9 == pytest.approx(4.56, abs=0.02)


def test_a_depth_decoder_that_fits_the_cache_is_read_once() -> None:
    fits = step_bytes(FULL, PRECISIONS["int8"], 1, 0, cache_bytes=112 << 20)
    assert step_bytes(FULL, PRECISIONS["int8"], 1, 0, cache_bytes=100 << 20) - fits == 30 * 111_149_056


class Fake:
    def __init__(self, engine: str, variant: str, *rounds: list[float]) -> None:
        self.engine = engine
        self.variant = variant
        self.rounds = list(rounds)
        self.asked: list[tuple[int, int, int]] = []

    def frame_ms(self, batch: int, kv: int, num_steps: int) -> list[float]:
        self.asked.append((batch, kv, num_steps))
        return self.rounds.pop(0)


def test_figures_are_medians_of_rounds_taken_in_turn() -> None:
    ours = Fake("csm-serve", "native", [1, 2, 90], [4, 4], [80, 80])
    eager = Fake("transformers", "eager", [40], [50], [41])
    static = Fake("transformers", "static", [20], [10], [20])
    bandwidth = Bandwidth(step_bytes(TINY, PRECISIONS["bf16"], 4, 256, 0) * 1000, "made up", 0)
    rounds = Rounds(bandwidth)
    bf16 = PRECISIONS["bf16"]
    rounds.measure("tiny", TINY, [(bf16, ours), (bf16, eager), (bf16, static)], Cell(4, 256), 20)
    assert ours.asked == [(4, 256, 20)] * 3
    assert eager.asked == [(4, 256, 6)] * 3
    rows = {row["variant"]: row for row in rounds.rows()}
    assert [rows[name]["ms_per_step"] for name in ("native", "eager", "static")] == [4, 41, 20]
    assert rows["native"]["frames_per_s"] == 1000
    assert rows["native"]["speed_up"] == 5  # over the better one
    assert rows["native"]["floor_share"] == 0.25


def test_transformers_draws_the_same_codes_from_the_same_memory() -> None:
    config = config_of("tiny")
    model = random_model("tiny", CPU, torch.float32)
    twin = twin_of(model, config)
    assert twin.lm_head.weight.data_ptr() == model.first_head.data_ptr()
    prompts = Prompts(config)
    prompt = prompts.built(request_for("The same words.", num_frames=3))
    reserved = list(range(TINY.codebook_size, TINY.vocab_size))
    options = {"do_sample": False, "suppress_tokens": reserved}
    depth = {f"depth_decoder_{name}": value for name, value in options.items()}
    ids = torch.from_numpy(prompt.text_ids)[None]
    codes = twin.generate(input_ids=ids, max_new_tokens=3, **options, **depth)[0].numpy()
    # Forced along its codes, ours has them as its favourites.
    logits = forced_logits(model, prompt, codes)
    assert (logits.argmax(-1).numpy() == codes).all()


@pytest.mark.parametrize("num_steps", [1, 4])
def test_the_last_step_reads_as_far_as_asked(num_steps: int) -> None:
    seen: list[tuple[int, int]] = []

    class Noting(PlainStep):
        def launch(
            self, num_rows: int, num_readable: int, plan: SamplingPlan, adapters: AdaptersByRow = ()
        ) -> PendingFrames:
            seen.append((num_rows, num_readable))
            return super().launch(num_rows, num_readable, plan, adapters)

    def make(model: Csm, kv: KvCache, state: RowState) -> Noting:
        assert kv.backbone[..., :64, :].abs().amin(dim=(0, 1, 3, 5)).min() > 0, "all rows have something to read"
        return Noting(model, kv, state)

    step = OurStep(random_model("tiny", CPU, torch.float32), make, 3, 64, "plain")
    for batch, kv in ((3, 64), (2, 40)):
        seen.clear()
        assert len(step.frame_ms(batch, kv, num_steps)) == num_steps
        assert seen == [(batch, kv - left) for left in reversed(range(WARM_UP_STEPS + num_steps))]


def test_transformers_is_timed_frame_by_frame_after_the_first() -> None:
    theirs = TransformersStep(random_model("tiny", CPU, torch.bfloat16), config_of("tiny"), "eager")
    times = theirs.frame_ms(2, 32, 3)
    assert len(times) == 3
    assert min(times) > 0


def test_the_same_weights_in_every_type() -> None:
    whole, half = (random_model("tiny", CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(whole.audio_embedding.bfloat16(), half.audio_embedding)
    assert torch.equal(whole.backbone.blocks[1].qkv.bfloat16(), half.backbone.blocks[1].qkv)
    assert dense_of(PRECISIONS["int8"]) is PRECISIONS["bf16"]


def test_widened_matrices_answer_the_same() -> None:
    prompts = Prompts(config_of("tiny"))
    prompt = prompts.built(request_for("Yes.", prompts.voice(5, seed=1), num_frames=2))
    model = quantized_model("tiny", CPU, PRECISIONS["int8"])
    (codes,) = spoken(model, [prompt], 2, "plain")
    assert codes.shape == (2, 32)
    quantized = forced_logits(model, prompt, codes)
    widen(model)
    assert torch.equal(forced_logits(model, prompt, codes), quantized)


def test_prompts_are_as_long_as_asked() -> None:
    prompts = Prompts(config_of("tiny"))
    assert prompts.built(request_for("Hello.", prompts.voice_of(100, "Hello.", seed=1))).num_positions == 100
    with pytest.raises(ValueError, match="20 positions"):
        prompts.voice_of(20, "Hello.", seed=1)
    tokenizer = ByteTokenizer(config_of("csm-1b"))
    assert tokenizer.encode(0, "é") == [128000, *"[0]é".encode(), 128001]
    assert np.array_equal(prompts.voice(3, 7).codes.data, prompts.voice(3, 7).codes.data)
