"""The engine's parts from a checkpoint."""

import logging

import torch

from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.parts import EngineParts
from serve_app.engine.prefix_cache import PrefixCache
from serve_app.engine.step_choice import choose_step, step_maker
from serve_app.messages import ModelInfo
from serve_app.model.checkpoint import load_model, open_checkpoint
from serve_app.model.device import check_quantization, pick_device, pick_dtype, use_threads
from serve_app.model.tokenizer import TextTokenizer
from serve_app.settings import Settings

_log = logging.getLogger(__name__)


def load_parts(settings: Settings) -> EngineParts:
    """Open the checkpoint and load its model; raises StartupError where it cannot be."""
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device)
    check_quantization(settings.quantization, device)
    use_threads(settings.engine.threads)
    checkpoint = open_checkpoint(settings.model, settings.revision, settings.data_dir)
    model = load_model(checkpoint, device, dtype, settings.quantization)
    step = choose_step(settings.engine.step, model)
    info = ModelInfo(
        model=checkpoint.name,
        weights="random" if checkpoint.random_weights else "trained",
        num_codebooks=checkpoint.shape.num_codebooks,
        codebook_size=checkpoint.shape.codebook_size,
        max_positions=min(settings.engine.max_positions, checkpoint.shape.backbone.max_positions),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=str(dtype).removeprefix("torch."),
        max_batch_size=settings.engine.max_batch_size,
    )
    if checkpoint.random_weights:
        _log.warning("%s has random weights: what it says is noise", checkpoint.name)
    cache_bytes, host_bytes = settings.engine.prefix_cache_mb << 20, settings.engine.prefix_cache_host_mb << 20
    prefixes = PrefixCache(device, cache_bytes, host_bytes) if cache_bytes else None
    runner = ModelRunner(model, info.max_batch_size, info.max_positions, prefixes, step_maker(step))
    _log.info("frames are computed by the %s step", step)
    return EngineParts(runner, TextTokenizer(checkpoint), info)
