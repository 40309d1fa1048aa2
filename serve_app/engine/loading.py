"""Loads the model-dependent parts of the engine from a checkpoint."""

import logging

import torch

from serve_app.engine.adapters import AdapterStore
from serve_app.engine.memory.plan import PlannedModel, announce, plan_memory, usual_reserves
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prefix_cache import PrefixCache
from serve_app.engine.runner import EngineParts
from serve_app.engine.steps.choice import ChosenStep, StepName, chosen_step, step_maker
from serve_app.messages import WEIGHTS_NOTICES, ModelInfo
from serve_app.model.checkpoint import Checkpoint, load_model, open_checkpoint
from serve_app.model.checkpoint_hash import checkpoint_hash
from serve_app.model.csm import Csm
from serve_app.model.device import pick_device, pick_dtype, pick_quantization, use_threads
from serve_app.model.device_memory import claim_memory
from serve_app.model.tokenizer import TextTokenizer
from serve_app.settings import EngineSettings, Settings

_log = logging.getLogger(__name__)


def load_parts(settings: Settings) -> EngineParts:
    """Open the checkpoint and load its model. Raises StartupError where that fails."""
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device)
    quantization = pick_quantization(settings.quantization, device)
    use_threads(settings.engine.threads)
    checkpoint = open_checkpoint(settings.model, settings.revision, settings.base)
    if notice := WEIGHTS_NOTICES.get(checkpoint.weights):
        _log.warning("%s: %s", checkpoint.name, notice)
    # Before any memory is taken, so that a model that does not fit ends in one clear line.
    # With auto every matrix may keep its type.
    planned = PlannedModel(checkpoint.shape, dtype, "none" if quantization == "auto" else quantization)
    plan = plan_memory(planned, settings.engine, usual_reserves(device, settings.engine))
    announce(plan, claim_memory(device, settings.engine.memory_fraction, "engine.memory_fraction"))
    model = load_model(checkpoint, device, dtype, quantization)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # Free what loading and quantizing left over.
    step = chosen_step(settings.engine.step, model)
    _log.info("the %s step computes frames", step.name)
    info = _info(checkpoint, model, step, settings.engine)
    adapters = AdapterStore(checkpoint.shape, device, dtype, settings.engine)
    return EngineParts(_runner(model, step.name, info, settings.engine), TextTokenizer(checkpoint), info, adapters)


def _info(checkpoint: Checkpoint, model: Csm, step: ChosenStep, settings: EngineSettings) -> ModelInfo:
    shape, device = checkpoint.shape, model.device
    return ModelInfo(
        model=checkpoint.name,
        weights=checkpoint.weights,
        trained_for=checkpoint.trained_for,
        num_codebooks=shape.num_codebooks,
        codebook_size=shape.codebook_size,
        max_positions=min(settings.max_positions, shape.backbone.max_positions),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=str(model.dtype).removeprefix("torch."),
        max_batch_size=settings.max_batch_size,
        quantization=model.quantization,
        step=step.name,
        step_fallback=step.fallback,
        checkpoint=checkpoint_hash(checkpoint.defining_files()),
    )


def _runner(model: Csm, step: StepName, info: ModelInfo, settings: EngineSettings) -> ModelRunner:
    cache_bytes, host_bytes = settings.prefix_cache_mb << 20, settings.prefix_cache_host_mb << 20
    prefixes = PrefixCache(model.device, cache_bytes, host_bytes) if cache_bytes else None
    make_step = step_maker(step, settings.adapter_graph_ranks, settings.dependent_launches)
    return ModelRunner(model, info.max_batch_size, info.max_positions, prefixes, make_step)
