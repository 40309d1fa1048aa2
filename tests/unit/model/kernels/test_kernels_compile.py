"""Triton compiles every kernel of csm-1b for GPUs from Ampere on, which needs none."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from serve_app.model.csm import Csm
from serve_app.model.kernels.arguments import FrameRows, Norm, Residual
from serve_app.model.kernels.check import USUAL_SIZES
from serve_app.model.kernels.inputs import Inputs, Sizes
from serve_app.model.layers import Block
from serve_app.model.matrix import Matrix, Quantization, QuantizedMatrix
from serve_app.model.presets import preset_config
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, RowSampling
from serve_app.model.shape import CsmShape

pytest.importorskip("triton.backends.nvidia")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels cannot be compiled", allow_module_level=True)

NOWHERE = torch.device("meta")
MULTIPROCESSOR_BYTES = 227 << 10
"""Of shared memory, that an H100 lets programs have."""
PROGRAM_BYTES = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10}
"""That other cards let one program have, by compute capability: A100; A10 and RTX 30; L4, L40 and RTX 40."""


@pytest.fixture(scope="module", autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def shape() -> CsmShape:
    """One layer each: the others launch the same kernels."""
    whole = CsmShape.from_config(preset_config("csm-1b"))
    return replace(whole, backbone=replace(whole.backbone, num_layers=1), depth=replace(whole.depth, num_layers=1))


def make_model(quantization: Quantization) -> Csm:
    model = Csm(shape(), NOWHERE, torch.bfloat16)
    if quantization == "none":
        return model
    dtype = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}[quantization]

    def rounded(matrix: Matrix) -> QuantizedMatrix:
        assert isinstance(matrix, torch.Tensor)
        return QuantizedMatrix(matrix.to(dtype), torch.empty(len(matrix), device=NOWHERE))

    def rounded_block(block: Block) -> Block:
        names = ("qkv", "out", "gate_up", "down")
        return replace(block, **{name: rounded(getattr(block, name)) for name in names})

    for stack in (model.backbone, model.depth):
        stack.blocks = tuple(rounded_block(block) for block in stack.blocks)
    return model


def make_rows(num_rows: int) -> FrameRows:
    sizes, num_codebooks = shape().backbone, shape().num_codebooks

    def empty(dtype: torch.dtype, *rest: int) -> torch.Tensor:
        return torch.empty(num_rows, *rest, dtype=dtype, device=NOWHERE)

    sampling = RowSampling(
        temperature=empty(torch.float32),
        top_k=empty(torch.int64),
        top_p=empty(torch.float32),
        repetition_penalty=empty(torch.float32),
        greedy=empty(torch.bool),
        seed=empty(torch.int64),
        min_frames=empty(torch.int64),
        frame=empty(torch.int64),
        history=empty(torch.int64, REPETITION_WINDOW_FRAMES, num_codebooks),
    )
    kv_sizes = (sizes.num_layers, 2, num_rows, sizes.num_kv_heads, sizes.max_positions + 1, sizes.head_dim)
    return FrameRows(
        kv=torch.empty(kv_sizes, dtype=torch.bfloat16, device=NOWHERE),
        next_input=empty(torch.bfloat16, sizes.hidden_size),
        position=empty(torch.int64),
        sampling=sampling,
        num_active=torch.empty(1, dtype=torch.int64, device=NOWHERE),
    )


def test_gating_many_rows_is_one_kernel_of_ours() -> None:
    from serve_app.model.kernels.normed import normed_swiglu
    from tests.support.offline_compiler import OfflineCompiler

    def empty(*sizes: int) -> torch.Tensor:
        return torch.empty(*sizes, dtype=torch.bfloat16, device=NOWHERE)

    compiler = OfflineCompiler()
    with compiler.instead_of_launches(), torch.inference_mode():
        residual, norm = Residual.of(empty(128, 1024)), Norm(empty(1024), 1e-5)
        assert normed_swiglu(residual, norm, empty(2 * 8192, 1024))[1].shape == (128, 8192)
    assert [name for name, _ in compiler.compiled.values()] == ["_rms_norm", "_silu_mul"]
    assert compiler.num_launches == 2


FEW = {"_normed_qkv", "_normed_product", "_attend_and_project", "_product", "_attend", "_draw", "_advance"}
MORE = {"_normed_qkv", "_normed_product", "_attend", "_add_parts", "_product", "_draw", "_advance"}
STREAMING = {"_product", "_normed_product", "_normed_qkv"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("quantization", "num_rows", "launched"),
    [("none", 4, FEW), ("int8", 4, FEW), ("none", 20, MORE), ("fp8", 20, MORE)],
)
def test_a_frame_of_csm_1b_compiles(quantization: Quantization, num_rows: int, launched: set[str]) -> None:
    from serve_app.model.kernels.frame import FusedFrame
    from tests.support.offline_compiler import OfflineCompiler

    compiler = OfflineCompiler()
    with compiler.instead_of_launches(), torch.inference_mode():
        FusedFrame(make_model(quantization), num_rows)(num_rows, 1024, make_rows(num_rows))
    assert {name for name, _ in compiler.compiled.values()} >= launched
    for name, kernel in compiler.compiled.values():
        assert 2 * kernel.metadata.shared <= MULTIPROCESSOR_BYTES, f"two {name} do not fit"
        if name in STREAMING:
            assert "cp.async.cg.shared.global" in kernel.asm["ptx"], "weights do not stream, 16 bytes at a time"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("num_rows", [8, 64])
@pytest.mark.parametrize("capability", PROGRAM_BYTES)
def test_a_frame_of_csm_1b_fits_smaller_cards(capability: int, num_rows: int) -> None:
    from serve_app.model.kernels.frame import FusedFrame
    from tests.support.offline_compiler import OfflineCompiler

    compiler = OfflineCompiler(capability)
    with compiler.instead_of_launches(), torch.inference_mode():
        FusedFrame(make_model("none"), num_rows)(num_rows, 1024, make_rows(num_rows))
    used = [(kernel.metadata.shared, name) for name, kernel in compiler.compiled.values()]
    assert max(used)[0] <= PROGRAM_BYTES[capability], max(used)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sizes", USUAL_SIZES, ids=lambda sizes: f"{sizes.num_rows} rows")
def test_what_is_checked_at_start_fits_the_smallest_cards(sizes: Sizes) -> None:
    """One kernel that does not would make a card do without all of them."""
    from serve_app.model.kernels import fused
    from serve_app.model.kernels.cases import CASES
    from tests.support.offline_compiler import OfflineCompiler

    compiler = OfflineCompiler(86)
    with compiler.instead_of_launches(), torch.inference_mode():
        for case in CASES.values():
            case(fused, Inputs(torch.device("cpu"), torch.bfloat16, "none"), sizes)
    used = [(kernel.metadata.shared, name) for name, kernel in compiler.compiled.values()]
    assert max(used)[0] <= min(PROGRAM_BYTES.values()), max(used)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_prefill_pass_of_csm_1b_compiles() -> None:
    """Its attention is the one kernel that no frame launches."""
    from serve_app.engine.steps.graphed_prefill import prefill_tables, tokens_of
    from serve_app.model.kernels.prefill import FusedPrefill
    from tests.support.offline_compiler import OfflineCompiler

    compiler, tables = OfflineCompiler(), prefill_tables(shape().num_codebooks, NOWHERE)
    with compiler.instead_of_launches(), torch.inference_mode():
        for table in tables.values():
            FusedPrefill(make_model("none"), make_rows(4).kv)(tokens_of(table))
    (attention,) = (kernel for name, kernel in compiler.compiled.values() if name == "_attend_to_prompts")
    assert 2 * attention.metadata.shared <= MULTIPROCESSOR_BYTES
    assert "wgmma" in attention.asm["ptx"], "64 queries are what Hopper's tensor cores take"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("num_rows", [4, 20, 128])
def test_every_kernel_of_a_dependent_frame_waits_for_those_before(num_rows: int) -> None:
    """One that did not would let the next read too early, and no result on a CPU would show it."""
    from serve_app.model.kernels.frame import FusedFrame
    from serve_app.model.kernels.launch import dependent_launches
    from tests.support.offline_compiler import OfflineCompiler

    compiler = OfflineCompiler()
    with compiler.instead_of_launches(), torch.inference_mode(), dependent_launches(True):
        FusedFrame(make_model("none"), num_rows)(num_rows, 1024, make_rows(num_rows))
    for name, kernel in compiler.compiled.values():
        before, waits, _ = kernel.asm["ptx"].partition("griddepcontrol.wait")
        assert waits and kernel.metadata.launch_pdl, name
        assert "ld.global" not in before and "cp.async" not in before and "st.global" not in before, name
        if name in STREAMING:
            assert "prefetch.global.L2" in before, f"{name} fetches no weights while it waits"
