"""Writes a checkpoint of any layout as one in the Hub's layout: adapters merged, Sesame's names translated."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from serve_app.errors import CheckpointError
from serve_app.messages import TRAINED
from serve_app.model.checkpoint import Checkpoint
from serve_app.model.create import WEIGHTS_MARKER
from serve_app.model.shards import write_shards
from serve_app.model.stored import StoredTensor
from serve_app.model.weights import CODEC_PREFIX

ConvertedDtype = Literal["keep", "float32", "bfloat16", "float16"]

_STEM = "transformers"
_TEXTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "chat_template.jinja",
)


def convert_checkpoint(
    checkpoint: Checkpoint,
    folder: Path,
    dtype: ConvertedDtype = "keep",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `checkpoint` into `folder`, which must be new or empty. `progress` gets the bytes written and in all.

    `dtype` is the language model's. The codec keeps its own. Raises CheckpointError.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty: choose a new folder for the checkpoint")
    tensors = [_in_type(tensor, dtype) for tensor in checkpoint.stored()]
    folder.mkdir(parents=True, exist_ok=True)
    _write_config(checkpoint, folder, dtype)
    for name in _TEXTS:
        for source in (checkpoint.folder, checkpoint.text_folder):
            if (source / name).is_file():
                shutil.copy(source / name, folder)
                break
    if (checkpoint.folder / "prompts").is_dir():
        shutil.copytree(checkpoint.folder / "prompts", folder / "prompts")
    write_shards(folder, _STEM, tensors, progress or (lambda done, total: None))


def _in_type(tensor: StoredTensor, dtype: ConvertedDtype) -> StoredTensor:
    is_kept = dtype == "keep" or tensor.name.startswith(CODEC_PREFIX)
    return tensor if is_kept else replace(tensor, dtype=getattr(torch, dtype))


def _write_config(checkpoint: Checkpoint, folder: Path, dtype: ConvertedDtype) -> None:
    values = {
        **checkpoint.config.to_dict(),
        "architectures": ["CsmForConditionalGeneration"],
        "transformers_weights": f"{_STEM}.safetensors.index.json",
    }
    if dtype != "keep":
        values["dtype"] = dtype
    if checkpoint.weights != TRAINED:
        values[WEIGHTS_MARKER] = checkpoint.weights
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
