"""Creates checkpoints with random weights in the Hub's exact layout, for tests and benchmarks."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from transformers import CsmConfig

from serve_app.errors import CheckpointError
from serve_app.messages import RANDOM
from serve_app.model.presets import Preset, preset_config
from serve_app.model.processor_files import (
    CHAT_TEMPLATE,
    byte_tokenizer,
    preprocessor_config,
    special_tokens_map,
    tokenizer_config,
)
from serve_app.model.random_weights import RandomTensor, random_tensors
from serve_app.model.shape import CsmShape
from serve_app.model.shards import write_shards
from serve_app.model.stored import StoredTensor
from serve_app.model.weights import CODEC_PREFIX

WEIGHTS_MARKER = "csm_serve_weights"
"""Our own key in config.json. It tells such a checkpoint from the real model."""

StoredDtype = Literal["float32", "bfloat16"]

_STEM = "transformers"


def create_checkpoint(
    folder: Path,
    preset: Preset,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    overrides: Mapping[str, Any] | None = None,
    dtype: StoredDtype = "float32",
) -> None:
    """Write the checkpoint into `folder`, which must be new or empty. `progress` gets the bytes written and in all.

    `dtype` is the stored type of the language model. The codec is stored in float32, the type it always runs in.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty: choose a new folder for the checkpoint")
    config = preset_config(preset, overrides)
    CsmShape.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    assert config.bos_token_id is not None
    marks = {"transformers_weights": f"{_STEM}.safetensors.index.json", WEIGHTS_MARKER: RANDOM}
    write_texts(folder, config, dtype, byte_tokenizer(config.bos_token_id), marks)
    tensors = [_stored(tensor, seed, dtype) for tensor in random_tensors(config, seed)]
    write_shards(folder, _STEM, tensors, progress or (lambda done, total: None))


def _stored(tensor: RandomTensor, seed: int, dtype: StoredDtype) -> StoredTensor:
    kept = "float32" if tensor.name.startswith(CODEC_PREFIX) else dtype
    return StoredTensor(tensor.name, tensor.shape, getattr(torch, kept), lambda: tensor.make(seed))


def write_texts(
    folder: Path, config: CsmConfig, dtype: StoredDtype, tokenizer: Tokenizer, marks: Mapping[str, Any]
) -> None:
    """Write all of a checkpoint but its tensors. `marks` are further keys of its config."""
    values = {**config.to_dict(), "architectures": ["CsmForConditionalGeneration"], "dtype": dtype, **marks}
    _write_json(folder / "config.json", values)
    _write_json(folder / "generation_config.json", _generation_values(config))
    _write_json(folder / "preprocessor_config.json", preprocessor_config())
    _write_json(folder / "special_tokens_map.json", special_tokens_map())
    _write_json(folder / "tokenizer_config.json", tokenizer_config(config.max_position_embeddings))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    tokenizer.save(str(folder / "tokenizer.json"))


def _generation_values(config: CsmConfig) -> dict[str, Any]:
    shape = CsmShape.from_config(config)
    # Random heads draw reserved ids too, and Mimi crashes on those, so transformers' generate must suppress them.
    reserved = list(range(shape.codebook_size, shape.vocab_size))
    sampling = {"do_sample": True, "temperature": 0.9, "top_k": 50, "suppress_tokens": reserved}
    return {
        **sampling,
        **{f"depth_decoder_{key}": value for key, value in sampling.items()},
        "max_new_tokens": 125,
        "depth_decoder_min_new_tokens": shape.num_codebooks - 1,
        "depth_decoder_max_new_tokens": shape.num_codebooks - 1,
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
