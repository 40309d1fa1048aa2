"""Chooses the decode step that runs on this machine."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.steps.graphed_prefill import GraphedPrefill, prefill_tables
from serve_app.engine.steps.graphs import AdaptedFrames, GraphedStep
from serve_app.engine.steps.plain import FrameStep, MakeStep, PlainStep
from serve_app.engine.steps.prefill import PlainPrefill
from serve_app.engine.steps.static_frame import PlainStaticFrame
from serve_app.errors import StartupError
from serve_app.model.adapters.pool import RankPool
from serve_app.model.csm import Csm

if TYPE_CHECKING:
    from serve_app.engine.steps.cuda import CudaDevice

StepName = Literal["plain", "native", "graphs", "fused"]

_log = logging.getLogger(__name__)

_FIRST_WITH_DEPENDENT = (9, 0)
"""Compute capability of cards that can launch a kernel while the one before it ends: Hopper's."""


@dataclass(frozen=True, slots=True)
class ChosenStep:
    name: StepName
    fallback: str = ""
    """Why a faster step does not run. Empty where the fastest of this device does."""


def choose_step(asked: Literal["auto"] | StepName, model: Csm) -> StepName:
    """The name of `chosen_step`."""
    return chosen_step(asked, model).name


def chosen_step(asked: Literal["auto"] | StepName, model: Csm) -> ChosenStep:
    """The step to use for `model`. Raises StartupError where `asked` names a step that cannot run here."""
    reasons: list[str] = []
    names: dict[str, tuple[StepName, ...]] = {"cuda": ("fused", "graphs"), "cpu": ("native",)}
    candidates = names[model.device.type] if asked == "auto" else (asked,)
    for name in candidates:
        reason = _why_not(name, model)
        if reason is None:
            return ChosenStep(name, "; ".join(reasons))
        if asked != "auto":
            raise StartupError(f"engine.step: {name} cannot run here ({reason}); use auto or plain")
        _log.warning("the %s step cannot run here, so a slower one will: %s", name, reason)
        reasons.append(f"{name}: {reason}")
    return ChosenStep("plain", "; ".join(reasons))


def step_maker(name: StepName, graph_ranks: int = 0, dependent: bool = False) -> MakeStep:
    """The function that makes the step of this name. `graph_ranks`: of adapters that graphs read together.

    `dependent`: whether fused kernels are launched so, see `model.kernels.dependent`.
    """
    graphs, fused = partial(_graphs, num_ranks=graph_ranks), partial(_fused, num_ranks=graph_ranks, dependent=dependent)
    return {"plain": PlainStep, "native": _native, "graphs": graphs, "fused": fused}[name]


def _why_not(name: StepName, model: Csm) -> str | None:
    if name == "plain":
        return None
    if name == "native":
        from serve_app.model.native.frame import supports

        return supports(model)
    if model.device.type != "cuda":
        return "it needs a CUDA device"
    if name == "fused":
        # Triton is not there on every platform that torch supports.
        from serve_app.model.kernels.check import first_failure

        return first_failure(model.device, model.dtype, model.quantization)
    return None


def _native(model: Csm, kv: KvCache, state: RowState) -> FrameStep:
    from serve_app.engine.steps.native import NativeStep
    from serve_app.model.native.multiply import use_native_products

    num_threads = torch.get_num_threads()
    if model.quantization in ("int8", "int4"):
        use_native_products(model, num_threads)
    return NativeStep(model, kv, state, num_threads)


def _graphs(model: Csm, kv: KvCache, state: RowState, num_ranks: int) -> FrameStep:
    frame, adapted = PlainStaticFrame(model, kv, state), adapted_frames(model, kv, state, num_ranks)
    device = _cuda_device(model, kv)
    return GraphedStep(frame, PlainPrefill(model, kv), device, kv.max_rows, kv.max_positions, adapted)


def _fused(model: Csm, kv: KvCache, state: RowState, num_ranks: int, dependent: bool) -> FrameStep:
    from serve_app.engine.steps.fused import FusedStaticFrame
    from serve_app.model.kernels.prefill import FusedPrefill

    can_depend = torch.cuda.get_device_capability(model.device) >= _FIRST_WITH_DEPENDENT
    frame = FusedStaticFrame(model, kv, state, dependent and can_depend)
    adapted, device = adapted_frames(model, kv, state, num_ranks), _cuda_device(model, kv)
    tables = prefill_tables(model.shape.num_codebooks, model.device)
    eager = PlainPrefill(model, kv)
    prefill = GraphedPrefill(FusedPrefill(model, kv.backbone), device, tables, kv.max_positions, eager)
    return GraphedStep(frame, prefill, device, kv.max_rows, kv.max_positions, adapted)


def _cuda_device(model: Csm, kv: KvCache) -> "CudaDevice":
    from serve_app.engine.steps.cuda import CudaDevice

    return CudaDevice(model.device, kv.max_rows, model.shape.num_codebooks)


def adapted_frames(model: Csm, kv: KvCache, state: RowState, num_ranks: int) -> AdaptedFrames:
    """For graphs that read at most `num_ranks` ranks. With 0, steps with adapters run without a graph."""
    pool = RankPool(model, kv.max_rows, num_ranks)
    return AdaptedFrames(PlainStaticFrame(model, kv, state), pool, PlainStep(model, kv, state))
