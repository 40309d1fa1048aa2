"""Sequences of different adapters share a step, and each speaks the very codes of its adapter merged and run alone."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.steps.choice import adapted_frames, step_maker
from serve_app.engine.steps.graphs import GraphedStep
from serve_app.engine.steps.plain import FrameStep, MakeStep, PlainStep
from serve_app.engine.steps.prefill import PlainPrefill
from serve_app.engine.steps.static_frame import PlainStaticFrame
from serve_app.errors import CheckpointError
from serve_app.messages import AdapterRef, GenerationRequest
from serve_app.model.create import create_checkpoint
from serve_app.model.csm import Csm
from tests.support.engine_harness import Harness, random_segment, request
from tests.support.fine_tunes import ATTENTION, MLP, make_adapter
from tests.support.system_packages import need
from tests.support.tape import TapeDevice

NUM_FRAMES = 6
TARGETS = {
    "every matrix": {"r": 8},
    "attention": {"target_modules": ATTENTION, "r": 4, "use_rslora": True},
    "mlp of the depth decoder": {"target_modules": r"depth_decoder\..*(gate|down)_proj", "r": 5},
    "queries of a layer": {"target_modules": r"backbone_model\.layers\.1\.self_attn\.q_proj", "r": 33},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("adapters") / "base"
    create_checkpoint(folder, "tiny", seed=3, overrides={"num_codebooks": 8})
    return folder


@pytest.fixture(scope="module")
def refs(base: Path) -> list[AdapterRef]:
    found = []
    for seed, (name, options) in enumerate(TARGETS.items()):
        make_adapter(base, base.parent / name, seed, **options)
        found.append(AdapterRef(name, str(base.parent / name)))
    return found


def asked(number: int, ref: AdapterRef | None, text: str = "Hello there.") -> GenerationRequest:
    segment = random_segment(8, 64, 5, seed=number)
    made = request(text, segment, name=f"r{number}", greedy=True, max_frames=NUM_FRAMES, min_frames=NUM_FRAMES)
    return replace(made, adapter=ref, becomes_context=True)


@pytest.fixture(scope="module")
def alone(base: Path, refs: list[AdapterRef]) -> dict[str, list[list[list[int]]]]:
    """What each adapter says merged and alone, and the base, to each of the prompts."""
    folders = {"": base, **{ref.name: Path(ref.source) for ref in refs}}
    return {
        name: [Harness(folder).run(asked(number, None))[0].frames for number in range(8)]
        for name, folder in folders.items()
    }


def _recorded(model: Csm, kv: KvCache, state: RowState, num_ranks: int) -> FrameStep:
    adapted = adapted_frames(model, kv, state, num_ranks)
    return GraphedStep(PlainStaticFrame(model, kv, state), PlainPrefill(model, kv), TapeDevice(), 8, 256, adapted)


def steps() -> dict[str, MakeStep]:
    graphs = {name: partial(_recorded, num_ranks=ranks) for name, ranks in (("graphs", 64), ("too few ranks", 16))}
    return {"plain": PlainStep, "native": step_maker("native"), **graphs}


_RECORDED = [pytest.param(name, marks=pytest.mark.slow) for name in ("graphs", "too few ranks")]


@pytest.fixture(scope="module", params=["plain", "native", *_RECORDED])
def harness(request: pytest.FixtureRequest, base: Path) -> Harness:
    if request.param == "native":
        need("g++")
    return Harness(base, make_step=steps()[request.param], max_batch_size=8, max_positions=256)


def test_eight_rows_with_four_adapters(harness: Harness, refs: list[AdapterRef], alone: dict) -> None:
    harness.reset()
    named = [refs[0], None, refs[1], refs[2], refs[0], refs[3], refs[1], None]
    streams = harness.run(*(asked(number, ref) for number, ref in enumerate(named)))
    for number, (stream, ref) in enumerate(zip(streams, named, strict=True)):
        assert stream.frames == alone[ref.name if ref else ""][number], f"row {number}"
    assert len({str(said[0]) for said in alone.values()}) == 5, "every adapter says something else"


def test_rows_that_join_and_leave_take_their_adapters_along(
    harness: Harness, refs: list[AdapterRef], alone: dict
) -> None:
    harness.reset()
    named = [refs[1], refs[0], None, refs[0], refs[2]]
    streams = harness.run_staggered((asked(number, ref) for number, ref in enumerate(named)), steps_between=2)
    for number, (stream, ref) in enumerate(zip(streams, named, strict=True)):
        assert stream.frames == alone[ref.name if ref else ""][number], f"row {number}"


def test_an_adapter_does_not_use_anothers_prefix(harness: Harness, refs: list[AdapterRef], alone: dict) -> None:
    harness.reset()
    for ref in (None, refs[0], refs[1], refs[0]):
        stream = harness.run(asked(3, ref))[0]
        assert stream.frames == alone[ref.name if ref else ""][3]
    assert stream.sequence is not None and stream.sequence.num_restored > 0, "its own prefix is used"


class TestStore:
    @pytest.fixture
    def harness(self, base: Path) -> Harness:
        return Harness(base, adapter_mb=1)

    def test_the_least_recently_used_leaves(self, harness: Harness, refs: list[AdapterRef]) -> None:
        store = harness.adapters
        store._max_bytes = store.load(refs[0]).num_bytes + store.load(refs[1]).num_bytes
        for ref in (refs[0], refs[2]):
            store.load(ref)
        assert store.held == (refs[0].name, refs[2].name)

    def test_a_rank_above_the_limit(self, base: Path, refs: list[AdapterRef]) -> None:
        with pytest.raises(CheckpointError, match=r"its rank is 33, engine\.max_adapter_rank is 16: raise that"):
            Harness(base, max_adapter_rank=16).adapters.load(refs[3])

    def test_one_that_does_not_fit_the_budget(self, base: Path, refs: list[AdapterRef]) -> None:
        with pytest.raises(CheckpointError, match=r"engine\.adapter_mb allows 0: raise that"):
            Harness(base, adapter_mb=0).adapters.load(refs[0])

    def test_what_only_a_merged_adapter_may_change(self, base: Path, harness: Harness, tmp_path: Path) -> None:
        make_adapter(base, tmp_path, target_modules=[*MLP, "lm_head"])
        with pytest.raises(
            CheckpointError, match=r"changes lm_head\.weight, which only a merged .* checkpoint convert"
        ):
            harness.adapters.load(AdapterRef("heads", str(tmp_path)))

    def test_a_folder_without_an_adapter(self, base: Path, harness: Harness) -> None:
        with pytest.raises(CheckpointError, match=r"adapter_config\.json is missing"):
            harness.adapters.load(AdapterRef("base", str(base)))
