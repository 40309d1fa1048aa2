"""Compiles the kernels of the fused step for cards that need not be there, into Triton's cache (`TRITON_CACHE_DIR`).

A cold start compiles some 130 variants one after the other, each in about a second. They depend on the model's sizes,
the types of its matrices, and the buckets of rows and positions, but on no weights.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any, cast

import torch

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.steps.graphed_prefill import prefill_tables, tokens_of
from serve_app.engine.steps.graphs import readable_buckets, row_buckets
from serve_app.errors import StartupError
from serve_app.model.csm import Csm
from serve_app.model.matrix import Quantization
from serve_app.model.shape import CsmShape

_NOWHERE = torch.device("meta")
_DTYPE = torch.bfloat16
_FIRST_WITH_KERNELS, _FIRST_WITH_FP8, _FIRST_WITH_DEPENDENT = 80, 89, 90


@dataclass(frozen=True, slots=True)
class Target:
    """What a process compiles: the frames of one bucket of rows, at all lengths. 0 rows: prefill, and the check at
    start."""

    capability: int
    quantization: Quantization
    num_rows: int
    dependent: bool = False
    """See `model.kernels.dependent`."""


class _AbsentCard:
    """What Triton asks its driver for while it compiles."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_device(self) -> int:
        # Triton asks a device for its target once, and this process compiles for several.
        return self._capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._capability, 32)


def capability_of(arch: str) -> int:
    """`sm_90` is 90. Raises StartupError."""
    found = re.fullmatch(r"sm_(\d{2,3})a?", arch)
    if found is None or int(found[1]) < _FIRST_WITH_KERNELS:
        raise StartupError(f"--arch {arch}: give sm_80 (Ampere) or later, as in sm_80,sm_89,sm_90")
    return int(found[1])


def targets(
    capabilities: Sequence[int], quantizations: Sequence[Quantization], max_rows: int, dependent: bool = False
) -> Iterator[Target]:
    """Cards before Ada have no fp8, and are left out there. Those before Hopper launch nothing as dependent.

    The dearest come first.
    """
    for capability in capabilities:
        for quantization in quantizations:
            if quantization != "fp8" or capability >= _FIRST_WITH_FP8:
                for num_rows in (*reversed(row_buckets(max_rows)), 0):
                    yield Target(capability, quantization, num_rows, dependent and capability >= _FIRST_WITH_DEPENDENT)


def compile_all(wanted: Sequence[Target], shape: CsmShape, max_rows: int, max_positions: int, jobs: int) -> None:
    """In so many processes. Raises what Triton raises."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        done = [pool.submit(compile_target, target, shape, max_rows, max_positions) for target in wanted]
        for future in done:
            future.result()


def compile_target(target: Target, shape: CsmShape, max_rows: int, max_positions: int) -> None:
    """All kernels of one target, in this process: Triton takes it for one with such a card from here on."""
    from triton.runtime import driver

    from serve_app.model.kernels.launch import compiling_only

    driver.set_active(cast(Any, _AbsentCard(target.capability)))
    with compiling_only(), torch.inference_mode():
        if target.num_rows:
            _compile_frames(target, shape, max_rows, max_positions)
        else:
            _compile_prefill(target, shape, max_rows, max_positions)
            _compile_check(target.quantization)


def _compile_frames(target: Target, shape: CsmShape, max_rows: int, max_positions: int) -> None:
    from serve_app.engine.steps.fused import FusedStaticFrame

    model = _model(target, shape)
    kv = KvCache(model.shape, max_rows, max_positions, _NOWHERE, _DTYPE)
    frame = FusedStaticFrame(model, kv, RowState(model.shape, max_rows, _NOWHERE, _DTYPE), target.dependent)
    for num_readable in readable_buckets(max_positions):
        frame(target.num_rows, num_readable, False)


def _compile_prefill(target: Target, shape: CsmShape, max_rows: int, max_positions: int) -> None:
    from serve_app.model.kernels.prefill import FusedPrefill

    model = _model(target, shape)
    prefill = FusedPrefill(model, KvCache(model.shape, max_rows, max_positions, _NOWHERE, _DTYPE).backbone)
    for table in prefill_tables(shape.num_codebooks, _NOWHERE).values():
        prefill(tokens_of(table))


def _model(target: Target, shape: CsmShape) -> Csm:
    """Of one layer: the others launch the same kernels."""
    one_layer = replace(shape, backbone=replace(shape.backbone, num_layers=1), depth=replace(shape.depth, num_layers=1))
    model = Csm(one_layer, _NOWHERE, _DTYPE)
    model.quantize(target.quantization)
    return model


def _compile_check(quantization: Quantization) -> None:
    """What `first_failure` launches at start."""
    from serve_app.model.kernels import fused
    from serve_app.model.kernels.cases import CASES
    from serve_app.model.kernels.check import USUAL_SIZES
    from serve_app.model.kernels.inputs import Inputs

    for sizes in USUAL_SIZES:
        for case in CASES.values():
            case(fused, Inputs(torch.device("cpu"), _DTYPE, quantization), sizes)
