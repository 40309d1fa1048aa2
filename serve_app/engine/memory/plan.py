"""Plans the generator's memory before any of it is taken."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from serve_app.engine.steps.graphed_prefill import PREFILL_BUCKETS
from serve_app.engine.steps.graphs import num_graphs
from serve_app.errors import StartupError
from serve_app.model.device_memory import DeviceMemory, PlanRow, plan_table, shown
from serve_app.model.matrix import GROUP_SIZE, Quantization
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES
from serve_app.model.shape import CsmShape, TransformerShape
from serve_app.settings import EngineSettings

_log = logging.getLogger(__name__)

_FLOAT32_BYTES = 4
_CODE_BYTES = 8
_ROW_SCALARS_BYTES = 128
"""One row's position, seed and sampling parameters: some 50 bytes, and room for more."""
_QUANTIZING_COPIES = 3
"""Float32 copies of the one matrix that is being quantized."""
_MIN_ADVISED_POSITIONS = 512
"""Fewer positions hold neither a voice's clip nor a long answer, so an error never advises them."""

_GRAPH_BYTES = 24 << 20
"""An estimate for some 3,000 kernels, never measured on a GPU. The log says at start what the graphs took."""
_WORKSPACE_BYTES = {"cuda": 256 << 20, "cpu": 64 << 20}
"""A prompt chunk's activations are some 20 MB at full size; cuBLAS and the allocator's rounding take the rest."""


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """The shape of a checkpoint, and the types its weights will have in memory."""

    shape: CsmShape
    dtype: torch.dtype
    quantization: Quantization = "none"


@dataclass(frozen=True, slots=True)
class Reserves:
    """Estimates of memory that does not follow from shapes."""

    num_graphs: int = 0
    bytes_per_graph: int = 0
    """What each graph adds to the private pool that CUDA graphs share."""
    workspace_bytes: int = 0
    """Activations of the largest pass, and the memory of libraries."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Made by `plan_memory`. `weights` and `others` are its rows."""

    model: PlannedModel
    engine: EngineSettings
    reserves: Reserves
    weights: tuple[PlanRow, ...]
    others: tuple[PlanRow, ...]

    @property
    def weights_bytes(self) -> int:
        return sum(row.num_bytes for row in self.weights)

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + sum(row.num_bytes for row in self.others)

    @property
    def loading_bytes(self) -> int:
        """The peak while loading: weights are quantized after they are loaded, before anything else is allocated."""
        model = self.model
        if model.quantization == "none":
            return self.weights_bytes
        plain = sum(row.num_bytes for row in _weights(replace(model, quantization="none")))
        stacks = (model.shape.backbone, model.shape.depth)
        largest = max(rows * columns for stack in stacks for rows, columns in _matrices(stack))
        return plain + _QUANTIZING_COPIES * _FLOAT32_BYTES * largest

    @property
    def peak_bytes(self) -> int:
        return max(self.loading_bytes, self.total_bytes)

    def table(self, memory: DeviceMemory) -> str:
        """See `plan_table`, with the sum and the peak of loading if that is higher."""
        rows = [*self.weights, *self.others, PlanRow("total", self.total_bytes)]
        if self.loading_bytes > self.total_bytes:
            rows.append(PlanRow("while loading, before quantization", self.loading_bytes))
        return plan_table(rows, memory)


def usual_reserves(device: torch.device, engine: EngineSettings) -> Reserves:
    """For the step that `engine` asks for. On CUDA two kinds of graphs, the most that any step records."""
    if device.type != "cuda":
        return Reserves(workspace_bytes=_WORKSPACE_BYTES["cpu"])
    frames = num_graphs(engine.max_batch_size, engine.max_positions)
    # `graphs` records two kinds for frames, `fused` one, and those of prefill.
    recorded = 0 if engine.step == "plain" else max(2 * frames, frames + len(PREFILL_BUCKETS))
    return Reserves(recorded, _GRAPH_BYTES, _WORKSPACE_BYTES["cuda"])


def plan_memory(model: PlannedModel, engine: EngineSettings, reserves: Reserves) -> MemoryPlan:
    """The bytes of every tensor that outlives a step, by purpose."""
    others = (row for row in _others(model, engine, reserves) if row.num_bytes)
    return MemoryPlan(model, engine, reserves, tuple(_weights(model)), tuple(others))


def announce(plan: MemoryPlan, memory: DeviceMemory) -> None:
    """Log the plan as a table. Raises StartupError with the remedies where it does not fit.

    On a CPU only weights that do not fit raise, because untouched pages cost nothing. The rest is a warning.
    """
    dtype, quantization = str(plan.model.dtype).removeprefix("torch."), plan.model.quantization
    _log.info("memory plan (%s, quantization %s):\n%s", dtype, quantization, plan.table(memory))
    if plan.peak_bytes <= memory.free_bytes:
        return
    if memory.is_card or plan.loading_bytes > memory.free_bytes:
        raise StartupError(_shortage(plan, memory))
    _log.warning("%s; pages are taken as they are used, so memory may run out later", _shortage(plan, memory))


def _weights(model: PlannedModel) -> Iterator[PlanRow]:
    shape, size = model.shape, model.dtype.itemsize
    hidden, depth_hidden = shape.backbone.hidden_size, shape.depth.hidden_size
    codes = shape.num_codebooks * shape.vocab_size
    heads = shape.vocab_size * (hidden + (shape.num_codebooks - 1) * depth_hidden) + hidden * depth_hidden
    turns = sum(2 * (stack.max_positions + 1) * stack.head_dim for stack in (shape.backbone, shape.depth))
    yield PlanRow("weights: text and audio embeddings", (shape.text_vocab_size + codes) * hidden * size)
    yield PlanRow(f"weights: backbone, {shape.backbone.num_layers} layers", _stack_bytes(shape.backbone, model))
    yield PlanRow(f"weights: depth decoder, {shape.depth.num_layers} layers", _stack_bytes(shape.depth, model))
    yield PlanRow("weights: heads, projection, rotations", (heads + turns) * size)
    yield PlanRow("weights: audio embeddings of the depth decoder", codes * depth_hidden * size)


def _others(model: PlannedModel, engine: EngineSettings, reserves: Reserves) -> Iterator[PlanRow]:
    shape, size, slots = model.shape, model.dtype.itemsize, engine.max_batch_size
    positions = min(engine.max_positions, shape.backbone.max_positions) + 1
    history = REPETITION_WINDOW_FRAMES * shape.num_codebooks * _CODE_BYTES
    row_state = shape.backbone.hidden_size * size + history + _ROW_SCALARS_BYTES
    scratch = _kv_bytes(shape.depth, shape.num_codebooks, size)
    yield PlanRow(
        f"keys and values, {slots} slots of {positions} positions",
        slots * _kv_bytes(shape.backbone, positions, size),
    )
    yield PlanRow("slots: depth decoder's scratch, sampling state", slots * (scratch + row_state))
    yield PlanRow("prefix cache", engine.prefix_cache_mb << 20)
    yield PlanRow(
        f"estimate: {reserves.num_graphs} CUDA graphs of {shown(reserves.bytes_per_graph)}",
        reserves.num_graphs * reserves.bytes_per_graph,
    )
    yield PlanRow("estimate: workspace", reserves.workspace_bytes)


def _matrices(stack: TransformerShape) -> tuple[tuple[int, int], ...]:
    """The [out, in] sizes of one layer's four matrices, as in `layers.Block`."""
    hidden, inner, heads = stack.hidden_size, stack.intermediate_size, stack.num_heads * stack.head_dim
    qkv = heads + 2 * stack.num_kv_heads * stack.head_dim
    return (qkv, hidden), (hidden, heads), (2 * inner, hidden), (hidden, inner)


def _stack_bytes(stack: TransformerShape, model: PlannedModel) -> int:
    size = model.dtype.itemsize
    norms = (2 * stack.num_layers + 1) * stack.hidden_size * size
    if model.quantization == "none":
        layer = sum(rows * columns * size for rows, columns in _matrices(stack))
    else:
        layer = sum(rows * _row_bytes(columns, model.quantization) for rows, columns in _matrices(stack))
    return norms + stack.num_layers * layer


def _row_bytes(columns: int, quantization: Quantization) -> int:
    """Of a quantized matrix, with its scales."""
    if quantization != "int4":
        return columns + _FLOAT32_BYTES
    padded = -(-columns // (2 * GROUP_SIZE)) * 2 * GROUP_SIZE
    return padded // 2 + padded // GROUP_SIZE * torch.bfloat16.itemsize


def _kv_bytes(stack: TransformerShape, positions: int, size: int) -> int:
    return stack.num_layers * 2 * stack.num_kv_heads * positions * stack.head_dim * size


def _shortage(plan: MemoryPlan, memory: DeviceMemory) -> str:
    remedies = ", or ".join(_remedies(plan, memory)) or _last_resort(plan, memory)
    return (
        f"engine.max_batch_size {plan.engine.max_batch_size} needs {shown(plan.peak_bytes)}, "
        f"{shown(memory.free_bytes)} are free ({memory.described}): {remedies}"
    )


def _remedies(plan: MemoryPlan, memory: DeviceMemory) -> Iterator[str]:
    """Each is enough by itself."""
    engine = plan.engine
    if slots := _largest_that_fits(plan, memory, "max_batch_size", 1, 1):
        yield f"{slots} {'slot' if slots == 1 else 'slots'} would fit"
    if positions := _largest_that_fits(plan, memory, "max_positions", _MIN_ADVISED_POSITIONS, 64):
        yield f"engine.max_positions {positions}"
    if engine.prefix_cache_mb and _fits(_changed(plan, prefix_cache_mb=0), memory):
        yield f"engine.prefix_cache_mb {_largest_that_fits(plan, memory, 'prefix_cache_mb', 1, 1)}"
    if plan.model.quantization == "none" and _fits(_with_model(plan, quantization="int8"), memory):
        yield "quantization: int8"
    if plan.model.dtype == torch.float32 and _fits(_with_model(plan, dtype=torch.bfloat16), memory):
        yield "dtype: bfloat16"
    if fraction := memory.fraction_for(plan.peak_bytes):
        yield f"engine.memory_fraction {fraction:g}"


def _last_resort(plan: MemoryPlan, memory: DeviceMemory) -> str:
    uncached = _changed(plan, prefix_cache_mb=0)
    for words, candidate in (
        ("engine.prefix_cache_mb 0", uncached),
        ("engine.prefix_cache_mb 0 and quantization: int8", _with_model(uncached, quantization="int8")),
    ):
        if slots := _largest_that_fits(candidate, memory, "max_batch_size", 1, 1):
            return f"{slots} {'slot' if slots == 1 else 'slots'} would fit with {words}"
    return f"no setting makes it fit, its weights take {shown(plan.weights_bytes)}: it needs a larger device"


def _largest_that_fits(plan: MemoryPlan, memory: DeviceMemory, setting: str, smallest: int, step: int) -> int:
    """The largest value of an engine setting, up to the one it has, with which all fits; 0 where there is none."""
    values = range(smallest, getattr(plan.engine, setting) + 1, step)
    fitting = 0
    first, last = 0, len(values)
    while first < last:
        middle = (first + last) // 2
        if _fits(_changed(plan, **{setting: values[middle]}), memory):
            fitting, first = values[middle], middle + 1
        else:
            last = middle
    return fitting


def _fits(plan: MemoryPlan, memory: DeviceMemory) -> bool:
    return plan.peak_bytes <= memory.free_bytes


def _changed(plan: MemoryPlan, **settings: Any) -> MemoryPlan:
    return plan_memory(plan.model, plan.engine.model_copy(update=settings), plan.reserves)


def _with_model(plan: MemoryPlan, **changes: Any) -> MemoryPlan:
    return plan_memory(replace(plan.model, **changes), plan.engine, plan.reserves)
