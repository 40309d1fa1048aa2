"""The plan is what the tensors really take, and what does not fit is refused with remedies that work."""

import logging
import re

import pytest
import torch

from docs.tables import CARDS_GB
from serve_app.engine.kv_cache import KvCache
from serve_app.engine.memory.cards import most_slots
from serve_app.engine.memory.plan import MemoryPlan, PlannedModel, Reserves, announce, plan_memory, usual_reserves
from serve_app.engine.row_state import RowState
from serve_app.errors import StartupError
from serve_app.model.csm import Csm
from serve_app.model.device_memory import DeviceMemory
from serve_app.model.matrix import Quantization, QuantizedMatrix
from serve_app.model.presets import preset_config
from serve_app.model.shape import CsmShape
from serve_app.settings import EngineSettings

META = torch.device("meta")
GB = 10**9


@pytest.fixture(scope="module")
def csm_1b() -> CsmShape:
    return CsmShape.from_config(preset_config("csm-1b"))


def weights_of(model: Csm) -> int:
    """Bytes of every tensor that `model` holds."""
    matrices = [
        matrix
        for stack in (model.backbone, model.depth)
        for block in stack.blocks
        for matrix in (block.qkv, block.out, block.gate_up, block.down, block.attention_norm, block.mlp_norm)
    ]
    matrices += [model.backbone.norm, model.depth.norm, model.text_embedding, model.audio_embedding]
    matrices += [model.first_head, model.projection, model.depth_embedding, model.depth_heads]
    for table in (model.backbone_rotation, model.depth_rotation):
        matrices += [table.cos, table.sin]
    return sum(m.values.nbytes + m.scales.nbytes if isinstance(m, QuantizedMatrix) else m.nbytes for m in matrices)


@pytest.mark.parametrize("quantization", ["none", "int8", "int4", "fp8"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_weights_are_planned_to_the_byte(csm_1b: CsmShape, dtype: torch.dtype, quantization: Quantization) -> None:
    model = Csm(csm_1b, META, dtype)
    model.quantize(quantization)
    plan = plan_memory(PlannedModel(csm_1b, dtype, quantization), EngineSettings(), Reserves())
    assert plan.weights_bytes == weights_of(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_slots_are_planned_with_next_to_nothing_to_spare(csm_1b: CsmShape, dtype: torch.dtype) -> None:
    engine = EngineSettings(max_batch_size=5, max_positions=300, prefix_cache_mb=0)
    kv, state = KvCache(csm_1b, 5, 300, META, dtype), RowState(csm_1b, 5, META, dtype)
    taken = kv.backbone.nbytes + kv.depth_scratch(5).nbytes + sum(tensor.nbytes for tensor in state.tensors())
    plan = plan_memory(PlannedModel(csm_1b, dtype), engine, Reserves())
    planned = plan.total_bytes - plan.weights_bytes
    assert taken <= planned < 1.001 * taken


def test_caches_and_reserves_are_rows_of_their_own(csm_1b: CsmShape) -> None:
    engine = EngineSettings(prefix_cache_mb=100)
    without = plan_memory(PlannedModel(csm_1b, torch.bfloat16), engine, Reserves())
    plan = plan_memory(PlannedModel(csm_1b, torch.bfloat16), engine, Reserves(40, 10 << 20, 256 << 20))
    rows = {row.name: row.num_bytes for row in plan.others}
    assert rows["prefix cache"] == 100 << 20
    assert rows["estimate: 40 CUDA graphs of 10.5 MB"] == 400 << 20
    assert rows["estimate: workspace"] == 256 << 20
    assert plan.total_bytes == without.total_bytes + (656 << 20)


def test_graphs_are_reserved_only_where_some_are_recorded() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    engine = EngineSettings(max_batch_size=32)
    assert usual_reserves(cuda, engine).num_graphs == 2 * 6 * 4
    # One of frames, three of prefill.
    assert usual_reserves(cuda, EngineSettings(max_batch_size=1, max_positions=256)).num_graphs == 4
    assert usual_reserves(cuda, EngineSettings(max_batch_size=32, step="plain")).num_graphs == 0
    assert usual_reserves(cpu, engine).num_graphs == 0


def test_weights_that_are_quantized_are_there_whole_before(csm_1b: CsmShape) -> None:
    engine = EngineSettings(max_batch_size=1, prefix_cache_mb=0)
    plain = plan_memory(PlannedModel(csm_1b, torch.bfloat16), engine, Reserves())
    small = plan_memory(PlannedModel(csm_1b, torch.bfloat16, "int8"), engine, Reserves())
    assert small.total_bytes < plain.total_bytes - GB
    assert small.loading_bytes > plain.weights_bytes
    assert small.peak_bytes == small.loading_bytes


def planned(shape: CsmShape, quantization: Quantization = "none", **engine: int) -> MemoryPlan:
    model = PlannedModel(shape, torch.bfloat16, quantization)
    return plan_memory(model, EngineSettings(**engine), Reserves(workspace_bytes=256 << 20))


def card(free_bytes: int, unclaimed_bytes: int | None = None) -> DeviceMemory:
    return DeviceMemory(free_bytes, "a card", 80 * GB, unclaimed_bytes or free_bytes)


def refusal(plan: MemoryPlan, memory: DeviceMemory) -> str:
    with pytest.raises(StartupError) as error:
        announce(plan, memory)
    line = str(error.value)
    assert "\n" not in line
    return line


def test_the_plan_is_logged_as_a_table(csm_1b: CsmShape, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serve_app"):
        announce(planned(csm_1b, max_batch_size=32), card(48 * GB))
    (record,) = caplog.records
    lines = record.getMessage().splitlines()
    assert lines[0] == "memory plan (bfloat16, quantization none):"
    table = dict(re.fullmatch(r"  (.+?)  +([\d.]+ [GM]B)", line).groups() for line in lines[1:])  # type: ignore[union-attr]
    assert table["weights: backbone, 16 layers"] == "1.95 GB"
    assert table["keys and values, 32 slots of 2049 positions"] == "2.15 GB"
    assert table["free for it (a card)"] == "48.00 GB"
    assert len({len(line) for line in lines[1:]}) == 1


def test_what_does_not_fit_is_refused_with_every_remedy(csm_1b: CsmShape) -> None:
    line = refusal(planned(csm_1b, max_batch_size=64), card(7_500_000_000, 75 * GB))
    assert line == (
        "engine.max_batch_size 64 needs 8.35 GB, 7.50 GB are free (a card): 51 slots would fit, or "
        "engine.max_positions 1600, or quantization: int8, or engine.memory_fraction 0.11"
    )


@pytest.mark.parametrize("free_gb", [4.2, 5.0, 5.5, 6.5, 8.0])
@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_every_remedy_is_enough_by_itself(csm_1b: CsmShape, quantization: Quantization, free_gb: float) -> None:
    plan, memory = planned(csm_1b, quantization, max_batch_size=100, prefix_cache_mb=4000), card(int(free_gb * GB))
    line = refusal(plan, memory)
    usual = dict(max_batch_size=100, prefix_cache_mb=4000)
    followed = 0
    for pattern, name in ((r"(\d+) slots? would fit", "max_batch_size"), (r"max_positions (\d+)", "max_positions")):
        for value in re.findall(pattern, line):
            extra = {"prefix_cache_mb": 0} if "would fit with engine.prefix_cache_mb 0" in line else {}
            announce(planned(csm_1b, quantization, **(usual | {name: int(value)} | extra)), memory)
            followed += 1
    for value in re.findall(r"or engine.prefix_cache_mb (\d+)", line):
        announce(planned(csm_1b, quantization, **(usual | {"prefix_cache_mb": int(value)})), memory)
        followed += 1
    if ", or quantization: int8" in line:
        announce(planned(csm_1b, "int8", **usual), memory)
        followed += 1
    assert followed, line


def test_one_slot_more_than_advised_does_not_fit(csm_1b: CsmShape) -> None:
    memory = card(6 * GB)
    (advised,) = re.findall(r"(\d+) slots would fit", refusal(planned(csm_1b, max_batch_size=64), memory))
    announce(planned(csm_1b, max_batch_size=int(advised)), memory)
    refusal(planned(csm_1b, max_batch_size=int(advised) + 1), memory)


def test_a_card_that_no_setting_suits_is_said_to_be_too_small(csm_1b: CsmShape) -> None:
    assert refusal(planned(csm_1b), card(2 * GB)).endswith(
        "no setting makes it fit, its weights take 3.24 GB: it needs a larger device"
    )


def test_a_cpu_refuses_weights_that_do_not_fit(csm_1b: CsmShape) -> None:
    model = PlannedModel(csm_1b, torch.float32)
    plan = plan_memory(model, EngineSettings(max_batch_size=1, prefix_cache_mb=0), Reserves())
    assert refusal(plan, DeviceMemory(5 * GB, "a machine")).endswith(": dtype: bfloat16")


def test_a_cpu_only_warns_of_slots_that_may_never_be_used(csm_1b: CsmShape, caplog: pytest.LogCaptureFixture) -> None:
    announce(planned(csm_1b, max_batch_size=64), DeviceMemory(5 * GB, "a machine"))
    warned = caplog.records[-1]
    assert warned.levelname == "WARNING"
    assert "14 slots would fit" in warned.getMessage()


@pytest.mark.parametrize("card_gb", CARDS_GB)
@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_a_consumer_card_holds_so_many_slots_and_no_more(
    csm_1b: CsmShape, card_gb: int, quantization: Quantization
) -> None:
    model, engine = PlannedModel(csm_1b, torch.bfloat16, quantization), EngineSettings()
    slots = most_slots(model, engine, card_gb * GB)
    free = DeviceMemory(int(card_gb * GB * engine.memory_fraction), "of a card", card_gb * GB, card_gb * GB)

    def planned(number: int) -> MemoryPlan:
        wanted = engine.model_copy(update={"max_batch_size": number})
        return plan_memory(model, wanted, usual_reserves(torch.device("cuda"), wanted))

    announce(planned(slots), free)
    with pytest.raises(StartupError, match=r"slots? would fit"):
        announce(planned(slots + 1), free)


def test_a_card_without_room_for_the_weights_has_no_slot(csm_1b: CsmShape) -> None:
    assert most_slots(PlannedModel(csm_1b, torch.float32), EngineSettings(), 4 * GB) == 0
