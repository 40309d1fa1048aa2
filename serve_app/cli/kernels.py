"""`csm-serve kernels compile`: the kernels of the fused step, compiled ahead of the first start on a card."""

import os
import time
from typing import Annotated, cast, get_args

import typer

kernels_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Kernels for GPUs.")
_QUANTIZATIONS = ("none", "int8", "fp8")


@kernels_app.callback()
def _of_commands() -> None:
    """Typer would take a lone command for the whole."""


@kernels_app.command("compile")
def compile_kernels(
    arch: Annotated[str, typer.Option(help="Compute capabilities, such as sm_90,sm_89,sm_86,sm_80.")],
    quantization: Annotated[str, typer.Option(help="none, int8, fp8: those that will be served.")] = "none",
    preset: Annotated[str, typer.Option(help="The sizes of the model: csm-1b, small or tiny.")] = "csm-1b",
    jobs: Annotated[int, typer.Option(min=0, help="Processes at once; 0: one a CPU.")] = 0,
) -> None:
    """Compile for cards that need not be here, into Triton's cache. A start with that cache compiles nothing.

    Batch, positions and dependent launches are those of the settings (CSM_ENGINE__MAX_BATCH_SIZE,
    CSM_ENGINE__MAX_POSITIONS, CSM_ENGINE__DEPENDENT_LAUNCHES).
    """
    from serve_app.cli.progress import say
    from serve_app.engine.steps.precompile import capability_of, compile_all, targets
    from serve_app.errors import StartupError
    from serve_app.model.matrix import Quantization
    from serve_app.model.presets import Preset, preset_config
    from serve_app.model.shape import CsmShape
    from serve_app.settings import load_settings

    capabilities, kinds = [capability_of(each) for each in arch.split(",")], quantization.split(",")
    if unknown := [kind for kind in kinds if kind not in _QUANTIZATIONS]:
        raise StartupError(f"--quantization {unknown[0]}: give some of {','.join(_QUANTIZATIONS)}")
    if preset not in get_args(Preset):
        raise StartupError(f"--preset {preset}: choose one of {', '.join(get_args(Preset))}")
    engine, shape = load_settings({}).engine, CsmShape.from_config(preset_config(cast(Preset, preset)))
    rows, positions = engine.max_batch_size, min(engine.max_positions, shape.backbone.max_positions)
    wanted = list(targets(capabilities, cast(list[Quantization], kinds), rows, engine.dependent_launches))
    began = time.monotonic()
    compile_all(wanted, shape, rows, positions, jobs or os.cpu_count() or 1)
    where = os.environ.get("TRITON_CACHE_DIR", "~/.triton/cache")
    took = f"{time.monotonic() - began:.0f} s"
    say(f"compiled for {arch}, {preset} with {rows} slots of {positions} positions, in {took}")
    say(f"they are in {where}: name it in TRITON_CACHE_DIR where the server runs")
